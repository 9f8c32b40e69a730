// SPDX-License-Identifier: MIT
// Writes to its memory no more, once it has said READY: whatever changes from then on, the monitor
// has written. Requests are in the ring by then, but its index, whose address is told, is for the
// host to write. Says DONE when they have been served.
#include "tests/guests/vsock.h"

#define SIZE 16u
#define LENGTH 5000u /* more than a page, at an odd place */

static struct virtio rng;
static struct ring ring;

/* Its index on one page, all but the first of its entries on the next. */
static void move_used_ring(void)
{
	ring.used = (void *)((char *)alloc(8192, 4096) + 4096 - 8);
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_READY, 0);
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)(uint64_t)ring.used);
	virtio_set(&rng, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void say(char c)
{
	out8(PORT_COM1, (uint8_t)c);
}

void guest_main(void)
{
	uint8_t *data = alloc(SIZE * 8192ul, 4096);

	virtio_find(&rng, VIRTIO_ID_RNG);
	virtio_start(&rng, RING_INDIRECT);
	virtio_queue(&rng, &ring, 0, SIZE);
	move_used_ring();
	virtio_live(&rng);
	for (unsigned i = 0; i < SIZE; i++) {
		ring_desc(&ring, i, data + i * 8192ul + 3000, LENGTH, VRING_DESC_F_WRITE);
		ring.avail->ring[i] = (uint16_t)i;
	}
	print("index ");
	print_hex((uint64_t)&ring.avail->idx);
	print("\nREADY\n");
	while (__atomic_load_n(&ring.used->idx, __ATOMIC_ACQUIRE) != SIZE)
		relax();
	say('D');
	say('O');
	say('N');
	say('E');
	say('\n');
	for (;;)
		relax();
}
