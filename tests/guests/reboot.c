// SPDX-License-Identifier: MIT
// Is reset over and over, by each means in turn, and finds the machine as after power-on, but for
// the clock's memory, in which it counts.
#include "tests/guests/virtio.h"

#define RESETS 30u
#define NVRAM 0x40u

static void check_memory(void)
{
	uint64_t *word = (uint64_t *)MIB(8);

	for (unsigned i = 0; i < 512; i++) {
		CHECK_EQUAL(word[i], 0);
		word[i] = ~0ull;
	}
}

static void check_virtio(unsigned id)
{
	struct virtio v;

	virtio_find(&v, id);
	CHECK_EQUAL(virtio_get(&v, VIRTIO_MMIO_STATUS), 0);
	CHECK_EQUAL(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	CHECK_EQUAL(virtio_get(&v, VIRTIO_MMIO_QUEUE_READY), 0);
}

/* Leaves the device busy. */
static void use_virtio(void)
{
	static struct ring ring;
	struct virtio rng;
	uint32_t head;

	virtio_find(&rng, VIRTIO_ID_RNG);
	virtio_start(&rng, RING_EVENT);
	virtio_queue(&rng, &ring, 0, 8);
	virtio_live(&rng);
	for (unsigned i = 0; i < 8; i++) {
		ring_desc(&ring, i, (void *)MIB(9), 4096, VRING_DESC_F_WRITE);
		ring_offer(&ring, i);
	}
	ring_kick(&ring);
	ring_wait(&ring, &head);
}

static void reset(unsigned n)
{
	if (n % 3 == 0)
		out8(PORT_RESET, 1);
	else if (n % 3 == 1)
		out8(PORT_I8042_CMD, 0xfe);
	else
		out8(PORT_I8042_CMD, 0xd1), out8(PORT_I8042_DATA, 0xfe);
	STOP("an instruction after the reset");
}

void guest_main(void)
{
	uint8_t n = rtc_get(NVRAM);

	check_memory();
	check_virtio(VIRTIO_ID_RNG);
	check_virtio(VIRTIO_ID_VSOCK);
	CHECK_EQUAL(in8(PORT_COM1 + 3), 0); /* the line control that serial_init changes */
	CHECK_EQUAL(mmio_read(LAYOUT_LAPIC + 0xf0) & 0x100, 0);
	if (n >= RESETS) {
		rtc_set(NVRAM, 0);
		print("resets: ");
		print_number(n);
		return;
	}
	irq_init();
	serial_init();
	use_virtio();
	rtc_set(NVRAM, (uint8_t)(n + 1));
	reset(n);
}
