// SPDX-License-Identifier: MIT
// Rings of every size go round and round, their indices past 65536, with every ring feature.
#include "tests/guests/virtio.h"

#include <string.h>

#define CHUNK 16u

static struct virtio rng;
static struct ring ring;
static uint8_t *data;
static struct vring_desc *tables;

/* A chain of one, or of two buffers; through a table where `indirect`. Heads are spaced by 2. */
static unsigned make_chain(unsigned i, bool indirect)
{
	unsigned head = ring.size > 1 ? 2 * i : 0;
	bool two = ring.size > 1 && i % 2;
	uint8_t *at = data + (size_t)i * 2 * CHUNK;
	struct vring_desc *t = tables + (size_t)i * 2;

	t[0] = (struct vring_desc){
		(uint64_t)at, CHUNK, VRING_DESC_F_WRITE | (two ? VRING_DESC_F_NEXT : 0), 1};
	t[1] = (struct vring_desc){(uint64_t)at + CHUNK, CHUNK, VRING_DESC_F_WRITE, 0};
	if (indirect) {
		ring_desc(&ring, head, t, (two ? 2 : 1) * sizeof(*t), VRING_DESC_F_INDIRECT);
	} else {
		ring.desc[head] = t[0];
		ring.desc[head].next = (uint16_t)(head + 1);
		if (two)
			ring.desc[head + 1] = t[1];
	}
	return head;
}

static bool is_zero(const uint8_t *p, unsigned n)
{
	uint8_t any = 0;

	for (unsigned i = 0; i < n; i++)
		any |= p[i];
	return !any;
}

/* `n` requests at once: each comes back once, its buffers filled, what lies beyond them not. */
static void round_trip(unsigned n, bool indirect)
{
	uint64_t seen[VIRTIO_SIZE_MAX / 64] = {0};

	memset(data, 0, (size_t)(n + 1) * 2 * CHUNK);
	for (unsigned i = 0; i < n; i++)
		ring_offer(&ring, make_chain(i, indirect && i % 3));
	ring_kick(&ring);
	for (unsigned k = 0; k < n; k++) {
		uint32_t head, len = ring_wait(&ring, &head);
		unsigned i = ring.size > 1 ? head / 2 : 0;
		unsigned want = ring.size > 1 && i % 2 ? 2 * CHUNK : CHUNK;

		CHECK(i < n && !(seen[i / 64] >> i % 64 & 1));
		seen[i / 64] |= 1ull << i % 64;
		CHECK_EQUAL(len, want);
		CHECK(!is_zero(data + (size_t)i * 2 * CHUNK, want));
		CHECK(want == 2 * CHUNK || is_zero(data + (size_t)i * 2 * CHUNK + CHUNK, CHUNK));
	}
	CHECK(is_zero(data + (size_t)n * 2 * CHUNK, 2 * CHUNK));
}

static void go_round(unsigned size, uint64_t features, unsigned requests)
{
	unsigned most = size > 1 ? size / 2 : 1;

	virtio_start(&rng, features);
	virtio_queue(&rng, &ring, 0, size);
	virtio_live(&rng);
	for (unsigned done = 0, n = 1; done < requests; done += n, n = n % most + 1)
		round_trip(n, features & RING_INDIRECT);
	CHECK(!virtio_broken(&rng));
}

void guest_main(void)
{
	unsigned max;

	virtio_find(&rng, VIRTIO_ID_RNG);
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_SEL, 0);
	max = virtio_get(&rng, VIRTIO_MMIO_QUEUE_NUM_MAX);
	CHECK(max > 0 && max <= VIRTIO_SIZE_MAX);
	data = alloc((VIRTIO_SIZE_MAX + 2) * 2 * CHUNK, 4096);
	tables = alloc((VIRTIO_SIZE_MAX + 2) * 2 * sizeof(*tables), 4096);
	for (unsigned size = 1; size <= max; size *= 2)
		for (unsigned f = 0; f < 4; f++)
			go_round(size, (f & 1 ? RING_INDIRECT : 0) | (f & 2 ? RING_EVENT : 0),
				5 * size + 3);
	go_round(max, RING_INDIRECT | RING_EVENT, 66000);
}
