// SPDX-License-Identifier: MIT
// Registers and the hole are accessed in every width at every alignment, by every kind of move.
#include "tests/guests/virtio.h"

#include <string.h>

#define NOBODY 0xd8000000u /* in the hole, past all devices */

static uint64_t read_width(uint64_t at, unsigned width)
{
	uint64_t v = 0;

	switch (width) {
	case 1:
		__asm__ volatile("movzbl (%1), %k0" : "=r"(v) : "r"(at) : "memory");
		break;
	case 2:
		__asm__ volatile("movzwl (%1), %k0" : "=r"(v) : "r"(at) : "memory");
		break;
	case 4:
		__asm__ volatile("movl (%1), %k0" : "=r"(v) : "r"(at) : "memory");
		break;
	default:
		__asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(at) : "memory");
	}
	return v;
}

static void write_width(uint64_t at, unsigned width, uint64_t v)
{
	switch (width) {
	case 1:
		__asm__ volatile("movb %b0, (%1)" : : "r"(v), "r"(at) : "memory");
		break;
	case 2:
		__asm__ volatile("movw %w0, (%1)" : : "r"(v), "r"(at) : "memory");
		break;
	case 4:
		__asm__ volatile("movl %k0, (%1)" : : "r"(v), "r"(at) : "memory");
		break;
	default:
		__asm__ volatile("movq %0, (%1)" : : "r"(v), "r"(at) : "memory");
	}
}

/* Strings, exchanges and locked operations are emulated in other ways than moves. */
static void read_otherwise(uint64_t at)
{
	uint8_t buf[32];

	memcpy(buf, (const void *)at, sizeof(buf));
	memset((void *)at, 0x5a, 3);
	memcpy((void *)at, buf, sizeof(buf));
	__asm__ volatile("xchgl %0, (%1)" : : "r"(0), "r"(at) : "memory");
	__asm__ volatile("lock orl %0, (%1)" : : "r"(0), "r"(at) : "memory");
	__asm__ volatile("lock cmpxchgl %1, (%2)" : : "a"(0), "r"(0), "r"(at) : "memory");
	__asm__ volatile("movups (%0), %%xmm0; movups %%xmm0, (%0)" : : "r"(at) : "memory");
}

/* All ones where nobody answers; what is written is lost. */
static void try_nobody(uint64_t at)
{
	for (unsigned width = 1; width <= 8; width *= 2) {
		write_width(at, width, 0);
		CHECK_EQUAL(read_width(at, width), width == 8 ? ~0ull : (1ull << 8 * width) - 1);
	}
}

/* Only whole, aligned registers are there (virtio 1.2, 4.2.2.2); config space is bytes. */
static void try_device(uint64_t base)
{
	for (unsigned off = 0; off < 0x110; off++) {
		for (unsigned width = 1; width <= 8; width *= 2) {
			uint64_t v = read_width(base + off, width);

			if (off + width <= 0x100 && (width != 4 || off % 4))
				CHECK_EQUAL(v, 0);
			write_width(base + off, width, 0);
			write_width(base + off, width, ~0ull);
		}
	}
	for (unsigned width = 2; width <= 8; width *= 2)
		for (unsigned before = 1; before < width; before++)
			read_width(base + LAYOUT_VIRTIO_MMIO_STRIDE - before, width);
	read_otherwise(base);
	read_otherwise(base + VIRTIO_MMIO_CONFIG);
}

static void still_works(struct virtio *v)
{
	static struct ring ring;
	static uint32_t data[4];
	uint32_t head;

	virtio_start(v, 0);
	virtio_queue(v, &ring, 0, 4);
	virtio_live(v);
	ring_desc(&ring, 0, data, sizeof(data), VRING_DESC_F_WRITE);
	ring_offer(&ring, 0);
	ring_kick(&ring);
	CHECK_EQUAL(ring_wait(&ring, &head), sizeof(data));
}

void guest_main(void)
{
	struct virtio rng, vsock;

	virtio_find(&rng, VIRTIO_ID_RNG);
	virtio_find(&vsock, VIRTIO_ID_VSOCK);
	for (unsigned off = 0; off < 16; off++)
		try_nobody(NOBODY + off);
	try_nobody(NOBODY + 0xfff); /* across a page */
	try_nobody(0xbffffffc + 4);
	read_otherwise(NOBODY + 0xff0);
	try_device(rng.base);
	try_device(vsock.base);
	virtio_reset(&vsock);
	still_works(&rng);
}
