// SPDX-License-Identifier: MIT
// Rings that lie where they may not, and drivers that skip steps, get a device that needs a reset
// or stays where it was.
#include "tests/guests/virtio.h"

static struct virtio rng;
static struct ring ring;

struct place {
	uint64_t desc, avail, used;
	unsigned size;
};

static void set_place(const struct place *p)
{
	const uint64_t addresses[] = {p->desc, p->avail, p->used};

	virtio_set(&rng, VIRTIO_MMIO_QUEUE_SEL, 0);
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_NUM, p->size);
	for (unsigned i = 0; i < 3; i++) {
		virtio_set(&rng, VIRTIO_MMIO_QUEUE_DESC_LOW + 0x10 * i, (uint32_t)addresses[i]);
		virtio_set(&rng, VIRTIO_MMIO_QUEUE_DESC_HIGH + 0x10 * i,
			(uint32_t)(addresses[i] >> 32));
	}
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void try_places(void)
{
	const uint64_t ok = MIB(8), end = MIB(16);
	const struct place places[] = {
		{ok + 1, ok + 4096, ok + 8192, 8},
		{ok, ok + 4097, ok + 8192, 8},
		{ok, ok + 4096, ok + 8194, 8},
		{end - 64, ok + 4096, ok + 8192, 8},
		{ok, end - 16, ok + 8192, 8},
		{ok, ok + 4096, end - 16, 8},
		{GIB(8), ok + 4096, ok + 8192, 8},
		{UINT64_MAX - 15, ok + 4096, ok + 8192, 8},
		{LAYOUT_VIRTIO_MMIO, ok + 4096, ok + 8192, 8},
		{LAYOUT_LAPIC, LAYOUT_IOAPIC, LAYOUT_LAPIC, 8},
		{ok, ok + 4096, ok + 8192, 0},
		{ok, ok + 4096, ok + 8192, 3},
		{ok, ok + 4096, ok + 8192, 32768},
		{ok, ok + 4096, ok + 8192, 65536},
		{ok, ok + 4096, ok + 8192, 65544},
	};

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		virtio_start(&rng, 0);
		set_place(&places[i]);
		virtio_set(&rng, VIRTIO_MMIO_STATUS, STATUS_LIVE);
		if (!virtio_broken(&rng))
			fail(__FILE__, __LINE__, "a ring was taken", i);
		virtio_set(&rng, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	}
}

static void skip_steps(void)
{
	virtio_reset(&rng);
	virtio_set(&rng, VIRTIO_MMIO_STATUS, STATUS_LIVE); /* no VERSION_1 accepted */
	CHECK(!(virtio_get(&rng, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_DRIVER_OK));
	virtio_reset(&rng);
	virtio_set(&rng, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_DRIVER_OK);
	CHECK_EQUAL(virtio_get(&rng, VIRTIO_MMIO_STATUS), 0);
	for (unsigned queue = 0; queue < 100; queue++)
		virtio_set(&rng, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_SEL, 77);
	CHECK_EQUAL(virtio_get(&rng, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	CHECK_EQUAL(virtio_get(&rng, VIRTIO_MMIO_QUEUE_READY), 0);
}

/* Without a queue it has nothing to do, and that is no mistake. */
static void without_queue(void)
{
	virtio_start(&rng, 0);
	virtio_live(&rng);
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	CHECK(!virtio_broken(&rng));
}

static void works(void)
{
	static uint32_t data[16];
	uint32_t head;

	virtio_start(&rng, 0);
	virtio_queue(&rng, &ring, 0, 8);
	virtio_live(&rng);
	ring_desc(&ring, 0, data, sizeof(data), VRING_DESC_F_WRITE);
	ring_offer(&ring, 0);
	ring_kick(&ring);
	CHECK_EQUAL(ring_wait(&ring, &head), sizeof(data));
}

void guest_main(void)
{
	virtio_find(&rng, VIRTIO_ID_RNG);
	try_places();
	works();
	skip_steps();
	works();
	without_queue();
	works();
}
