// SPDX-License-Identifier: MIT
// Each mistake that a driver can make in its ring leads to DEVICE_NEEDS_RESET and a configuration
// interrupt, nothing is written, and after a reset the device works (virtio 1.2, 2.1.2).
#include "tests/guests/virtio.h"

#include <string.h>

#define SIZE 8u
#define W VRING_DESC_F_WRITE
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT

static struct virtio rng;
static struct ring ring;
static uint8_t *data;            /* a page */
static struct vring_desc *table; /* an indirect one, in the page after it */

static void desc(unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	ring.desc[i] = (struct vring_desc){addr, len, (uint16_t)flags, (uint16_t)next};
}

static void entry(unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	table[i] = (struct vring_desc){addr, len, (uint16_t)flags, (uint16_t)next};
}

static void offer_first(void)
{
	ring_offer(&ring, 0);
}

static void loop_of_two(void)
{
	desc(0, (uint64_t)data, 16, W | NEXT, 1);
	desc(1, (uint64_t)data + 16, 16, W | NEXT, 0);
	offer_first();
}

static void loop_of_one(void)
{
	desc(0, (uint64_t)data, 16, W | NEXT, 0);
	offer_first();
}

static void next_out_of_table(void)
{
	desc(0, (uint64_t)data, 16, W | NEXT, SIZE);
	offer_first();
}

static void head_out_of_table(void)
{
	ring_offer(&ring, SIZE);
}

static void head_far_out(void)
{
	ring_offer(&ring, 0xffff);
}

static void past_memory(void)
{
	desc(0, GIB(1), 16, W, 0);
	offer_first();
}

static void across_the_end(void)
{
	desc(0, MIB(16) - 8, 16, W, 0);
	offer_first();
}

static void in_the_hole(void)
{
	desc(0, LAYOUT_VIRTIO_MMIO, 16, W, 0);
	offer_first();
}

static void wraps_64_bits(void)
{
	desc(0, UINT64_MAX - 7, 16, W, 0);
	offer_first();
}

static void of_4_gib(void)
{
	desc(0, (uint64_t)data, UINT32_MAX, W, 0);
	offer_first();
}

static void of_no_length(void)
{
	desc(0, (uint64_t)data, 0, W, 0);
	offer_first();
}

static void to_be_read(void)
{
	desc(0, (uint64_t)data, 16, 0, 0);
	offer_first();
}

static void read_after_write(void)
{
	desc(0, (uint64_t)data, 16, W | NEXT, 1);
	desc(1, (uint64_t)data + 16, 16, 0, 0);
	offer_first();
}

static void index_jumps(void)
{
	desc(0, (uint64_t)data, 16, W, 0);
	ring.offered = SIZE;
	offer_first();
}

static void index_goes_back(void)
{
	desc(0, (uint64_t)data, 16, W, 0);
	ring.offered = (uint16_t)-2;
	offer_first();
}

static void indirect_in_indirect(void)
{
	desc(0, (uint64_t)table, 16, INDIRECT, 0);
	entry(0, (uint64_t)table, 16, INDIRECT, 0);
	offer_first();
}

static void indirect_with_next(void)
{
	desc(0, (uint64_t)table, 16, INDIRECT | NEXT, 1);
	entry(0, (uint64_t)data, 16, W, 0);
	offer_first();
}

static void indirect_of_nothing(void)
{
	desc(0, (uint64_t)table, 0, INDIRECT, 0);
	offer_first();
}

static void indirect_of_a_part(void)
{
	desc(0, (uint64_t)table, 24, INDIRECT, 0);
	entry(0, (uint64_t)data, 16, W, 0);
	offer_first();
}

static void indirect_past_memory(void)
{
	desc(0, MIB(16) - 16, 32, INDIRECT, 0);
	offer_first();
}

static void indirect_loop(void)
{
	desc(0, (uint64_t)table, 32, INDIRECT, 0);
	entry(0, (uint64_t)data, 16, W | NEXT, 1);
	entry(1, (uint64_t)data + 16, 16, W | NEXT, 0);
	offer_first();
}

static void indirect_next_out_of_table(void)
{
	desc(0, (uint64_t)table, 16, INDIRECT, 0);
	entry(0, (uint64_t)data, 16, W | NEXT, 1);
	offer_first();
}

#define MISTAKE(name)                                                                              \
	{                                                                                          \
#name, name                                                                        \
	}
static const struct {
	const char *name;
	void (*make)(void);
} mistakes[] = {MISTAKE(loop_of_two), MISTAKE(loop_of_one), MISTAKE(next_out_of_table),
	MISTAKE(head_out_of_table), MISTAKE(head_far_out), MISTAKE(past_memory),
	MISTAKE(across_the_end), MISTAKE(in_the_hole), MISTAKE(wraps_64_bits), MISTAKE(of_4_gib),
	MISTAKE(of_no_length), MISTAKE(to_be_read), MISTAKE(read_after_write), MISTAKE(index_jumps),
	MISTAKE(index_goes_back), MISTAKE(indirect_in_indirect), MISTAKE(indirect_with_next),
	MISTAKE(indirect_of_nothing), MISTAKE(indirect_of_a_part), MISTAKE(indirect_past_memory),
	MISTAKE(indirect_loop), MISTAKE(indirect_next_out_of_table)};

static void start(void)
{
	virtio_start(&rng, RING_INDIRECT);
	virtio_queue(&rng, &ring, 0, SIZE);
	virtio_live(&rng);
	memset(data, 0, 4096);
}

static void works(void)
{
	uint32_t head;

	start();
	ring_desc(&ring, 0, data, 64, W);
	offer_first();
	ring_kick(&ring);
	CHECK_EQUAL(ring_wait(&ring, &head), 64);
	CHECK(!virtio_broken(&rng));
}

static void nothing_written(void)
{
	for (unsigned i = 0; i < 4096; i++)
		CHECK_EQUAL(data[i], 0);
	CHECK_EQUAL(ring.used->idx, 0);
}

void guest_main(void)
{
	virtio_find(&rng, VIRTIO_ID_RNG);
	data = alloc(8192, 4096);
	table = (void *)(data + 4096);
	for (unsigned i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		print(mistakes[i].name);
		start();
		mistakes[i].make();
		ring_kick(&ring);
		while (!virtio_broken(&rng))
			relax();
		while (!(virtio_get(&rng, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG))
			relax();
		nothing_written();
		print(": ok\n");
		works();
	}
}
