// SPDX-License-Identifier: MIT
// A device that is reset while its queue is busy stops at once: when the status reads 0, nothing
// in guest memory changes any more (virtio 1.2, 2.4).
#include "tests/guests/virtio.h"

#include <string.h>

#define ROUNDS 400u
#define SIZE 16u
#define BUFFER 4096u

static void write_all(struct ring *r, uint8_t *data)
{
	for (unsigned i = 0; i < SIZE; i++) {
		ring_desc(r, i, data + (size_t)i * BUFFER, BUFFER, VRING_DESC_F_WRITE);
		ring_offer(r, i);
	}
	ring_kick(r);
}

static void check_zero(const struct ring *r, const uint8_t *data)
{
	const uint64_t *word = (const uint64_t *)data;

	for (size_t i = 0; i < (size_t)SIZE * BUFFER / 8; i++)
		CHECK_EQUAL(word[i], 0);
	CHECK_EQUAL(r->used->idx, 0);
}

void guest_main(void)
{
	static struct ring ring;
	struct virtio rng;
	uint8_t *data = alloc((size_t)SIZE * BUFFER, 4096);
	unsigned early = 0;

	virtio_find(&rng, VIRTIO_ID_RNG);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint16_t idx;

		virtio_start(&rng, i % 2 ? RING_EVENT : 0);
		virtio_queue(&rng, &ring, 0, SIZE);
		virtio_live(&rng);
		write_all(&ring, data);
		for (unsigned n = i % 50 * 40; n; n--)
			relax();
		virtio_reset(&rng);
		idx = __atomic_load_n(&ring.used->idx, __ATOMIC_ACQUIRE);
		early += idx < SIZE;
		memset(data, 0, (size_t)SIZE * BUFFER);
		ring.used->idx = 0;
		if (i % 10 == 0)
			check_zero(&ring, data);
	}
	print_number(early);
	print(" of the resets came before all was done");
}
