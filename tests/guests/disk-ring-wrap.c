// SPDX-License-Identifier: MIT
// A disk's rings of every size go round and round, their indices past 65536, with every ring
// feature: what a round has written the next one reads.
#include "tests/guests/disk.h"

#include <string.h>

#define MOST 256u

/* One request in memory, so that header and data, or data and status, can share a descriptor. */
struct unit {
	struct virtio_blk_outhdr hdr;
	uint8_t data[DISK_SECTOR];
	uint8_t status;
	_Alignas(16) struct vring_desc piece[3];
};

static struct disk disk;
static struct unit *units;
static unsigned stride; /* descriptors of the ring a request may take */
static unsigned serial; /* of the round that has last written */

static void set(struct unit *u, unsigned i, void *at, size_t len, unsigned flags, unsigned next)
{
	u->piece[i] =
		(struct vring_desc){(uint64_t)at, (uint32_t)len, (uint16_t)flags, (uint16_t)next};
}

/* In two descriptors or three; `first` is the first one's number. How many. */
static unsigned cut(struct unit *u, bool write, bool two, unsigned first)
{
	const unsigned out = VRING_DESC_F_NEXT, in = VRING_DESC_F_WRITE;

	if (two && write) {
		set(u, 0, &u->hdr, sizeof(u->hdr) + DISK_SECTOR, out, first + 1);
		set(u, 1, &u->status, 1, in, 0);
	} else if (two) {
		set(u, 0, &u->hdr, sizeof(u->hdr), out, first + 1);
		set(u, 1, u->data, DISK_SECTOR + 1, in, 0);
	} else {
		set(u, 0, &u->hdr, sizeof(u->hdr), out, first + 1);
		set(u, 1, u->data, DISK_SECTOR, out | (write ? 0 : in), first + 2);
		set(u, 2, &u->status, 1, in, 0);
	}
	return two ? 2 : 3;
}

static void offer(unsigned i, bool write, bool indirect)
{
	struct ring *r = &disk.queue[0].ring;
	struct unit *u = &units[i];
	unsigned head = i * stride, n;

	u->hdr = (struct virtio_blk_outhdr){
		.type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, .sector = i};
	u->status = DISK_NO_STATUS;
	memset(u->data, (int)(write ? serial + i : 0), DISK_SECTOR);
	n = cut(u, write, i % 2 || (!indirect && stride < 3), indirect ? 0 : head);
	if (indirect)
		ring_desc(r, head, u->piece, n * (uint32_t)sizeof(u->piece[0]),
			VRING_DESC_F_INDIRECT);
	else
		memcpy(&r->desc[head], u->piece, n * sizeof(u->piece[0]));
	ring_offer(r, head);
}

static void check(struct unit *u, unsigned i)
{
	CHECK_EQUAL(u->status, VIRTIO_BLK_S_OK);
	u->status = DISK_NO_STATUS; /* comes back once */
	for (unsigned k = 0; k < DISK_SECTOR; k++)
		CHECK_EQUAL(u->data[k], (uint8_t)(serial + i));
}

/* `n` requests at once. */
static void round_trip(unsigned n, bool write, bool indirect)
{
	serial += write;
	for (unsigned i = 0; i < n; i++)
		offer(i, write, indirect && (stride == 1 || i % 3));
	disk_kick(&disk, 0);
	for (unsigned k = 0; k < n; k++) {
		uint32_t head, len = ring_wait(&disk.queue[0].ring, &head);
		unsigned i = head / stride;

		CHECK(head % stride == 0 && i < n);
		CHECK_EQUAL(len, write ? 1 : DISK_SECTOR + 1);
		check(&units[i], i);
	}
}

static void go_round(unsigned size, uint64_t ring_features, unsigned requests)
{
	bool indirect = ring_features & RING_INDIRECT;
	unsigned most;

	stride = indirect ? 1 : size < 3 ? 2 : 3;
	most = size / stride;
	disk_start(&disk, 1ull << VIRTIO_BLK_F_FLUSH | ring_features, 1, size, 1);
	for (unsigned done = 0, n = 1; done < requests; done += 2 * n, n = n % most + 1) {
		round_trip(n, true, indirect);
		round_trip(n, false, indirect);
	}
	CHECK(!virtio_broken(&disk.v));
}

void guest_main(void)
{
	unsigned max;

	disk_find(&disk);
	virtio_set(&disk.v, VIRTIO_MMIO_QUEUE_SEL, 0);
	max = virtio_get(&disk.v, VIRTIO_MMIO_QUEUE_NUM_MAX);
	CHECK(max > 1 && max <= MOST);
	units = alloc(MOST * sizeof(*units), 16);
	for (unsigned size = 1; size <= max; size *= 2)
		for (unsigned f = 0; f < 4; f++)
			/* No request is of one descriptor. */
			if (size > 1 || f & 1)
				go_round(size,
					(f & 1 ? RING_INDIRECT : 0) | (f & 2 ? RING_EVENT : 0),
					5 * size + 3);
	go_round(max, RING_INDIRECT | RING_EVENT, 70000);
	go_round(max, 0, 70000);
}
