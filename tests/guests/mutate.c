// SPDX-License-Identifier: MIT
// A second processor rewrites descriptors while the device reads them: each field flips between
// values that are right and wrong, any mixture of which either stays within the arena or is
// refused. Whatever the device makes of it, nothing outside of the arena changes.
//
// Even descriptors are of indirect tables, odd ones and those in the table of buffers: were the
// same one to be both, the device would be told to take its own random bytes for descriptors.
#include "tests/guests/virtio.h"

#include <string.h>

#define SIZE 16u
#define ROUNDS 5000u
#define ARENA MIB(1)
#define GUARD 0xa5u

static struct virtio rng;
static struct ring ring;
static uint8_t *arena; /* a page of guard, the arena, a page of guard */
static struct vring_desc *descs, *table;
static volatile uint32_t stop;

static uint32_t random(void)
{
	static uint32_t x = 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	return x ^= x << 5;
}

static void mutate(struct vring_desc *d, bool indirect)
{
	const uint64_t buffers[] = {
		(uint64_t)arena, (uint64_t)arena + ARENA / 2 + 1, GIB(2), UINT64_MAX - 3};
	const uint64_t tables[] = {
		(uint64_t)table, (uint64_t)table + 16, LAYOUT_VIRTIO_MMIO, UINT64_MAX - 3};
	const uint32_t lengths[] = {1, 16, 48, 128, 4096, 0, ARENA / 4, UINT32_MAX};
	const uint16_t flags[] = {
		VRING_DESC_F_WRITE, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 0, VRING_DESC_F_NEXT};
	const uint32_t r = random(), pick = r >> 2;

	switch (r & 3) {
	case 0:
		d->addr = (indirect ? tables : buffers)[pick % 4];
		break;
	case 1:
		d->len = indirect ? lengths[1 + pick % 3] : lengths[pick % 8];
		break;
	case 2:
		d->flags = (uint16_t)((indirect ? VRING_DESC_F_INDIRECT : 0) | flags[pick % 4]);
		break;
	default:
		d->next = (uint16_t)(pick % (SIZE + 1));
	}
	fence();
}

static void mutator(unsigned number)
{
	while (!stop) {
		unsigned i = random() % SIZE;

		mutate(&descs[i], i % 2 == 0);
		mutate(&table[random() % SIZE], false);
	}
	stop = 2;
}

static void start(void)
{
	virtio_start(&rng, RING_INDIRECT | RING_EVENT);
	virtio_queue(&rng, &ring, 0, SIZE);
	for (unsigned i = 0; i < SIZE; i++) {
		ring_desc(&ring, i, table, 16, VRING_DESC_F_INDIRECT);
		table[i] = (struct vring_desc){(uint64_t)arena, 16, VRING_DESC_F_WRITE, 0};
		if (i % 2)
			ring.desc[i] = table[i];
	}
	virtio_live(&rng);
}

static void check_guards(void)
{
	const uint8_t *before = arena - 4096, *after = arena + ARENA;

	for (unsigned i = 0; i < 4096; i++) {
		CHECK_EQUAL(before[i], GUARD);
		CHECK_EQUAL(after[i], GUARD);
	}
}

static void works(void)
{
	uint32_t head;

	start();
	ring_desc(&ring, 1, arena, 64, VRING_DESC_F_WRITE);
	ring_offer(&ring, 1);
	ring_kick(&ring);
	CHECK_EQUAL(ring_wait(&ring, &head), 64);
}

void guest_main(void)
{
	unsigned used = 0, broken = 0;

	virtio_find(&rng, VIRTIO_ID_RNG);
	arena = (uint8_t *)alloc(ARENA + 8192, 4096) + 4096;
	table = (void *)(arena + ARENA / 4);
	memset(arena - 4096, GUARD, 4096);
	memset(arena + ARENA, GUARD, 4096);
	works();
	descs = ring.desc;
	cpu_start(1, mutator);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t head, len;

		ring_offer(&ring, i % SIZE);
		ring_kick(&ring);
		while (!ring_reap(&ring, &head, &len) && !virtio_broken(&rng))
			relax();
		used++;
		if (virtio_broken(&rng)) {
			broken++;
			start();
		}
	}
	stop = 1;
	while (stop != 2)
		relax();
	check_guards();
	works();
	CHECK(broken > 0 && broken < used);
	print_number(broken);
	print(" of ");
	print_number(used);
	print(" requests broke the device");
}
