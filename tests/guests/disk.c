// SPDX-License-Identifier: MIT
// A driver for virtio-blk that polls.
#include "tests/guests/disk.h"

#include <string.h>

#define SLOTS_MAX 256u

void disk_find(struct disk *d)
{
	virtio_find(&d->v, VIRTIO_ID_BLOCK);
}

uint64_t disk_features(const struct disk *d)
{
	return virtio_offered(&d->v) & UINT32_MAX & ~(RING_INDIRECT | RING_EVENT);
}

static void start_queue(struct disk *d, unsigned index, unsigned size)
{
	struct disk_queue *q = &d->queue[index];

	virtio_queue(&d->v, &q->ring, index, size);
	if (!q->slot)
		q->slot = alloc(SLOTS_MAX * sizeof(*q->slot), 16);
	q->kicked = 0;
}

void disk_start(struct disk *d, uint64_t features, unsigned queues, unsigned size, unsigned slots)
{
	uint64_t config = virtio_config(&d->v);

	CHECK(queues <= DISK_QUEUES_MAX && slots <= SLOTS_MAX);
	d->features = features;
	d->queues = queues;
	d->slots = slots;
	d->stride = size / slots;
	virtio_start(&d->v, features);
	for (unsigned i = 0; i < queues; i++)
		start_queue(d, i, size);
	virtio_live(&d->v);
	d->sectors = mmio_read(config) | (uint64_t)mmio_read(config + 4) << 32;
}

struct disk_slot *disk_prepare(struct disk *d, unsigned queue, unsigned slot, uint32_t type)
{
	struct disk_slot *s = &d->queue[queue].slot[slot];

	s->hdr = (struct virtio_blk_outhdr){.type = type};
	s->status = DISK_NO_STATUS;
	s->pieces = 0;
	disk_piece(s, &s->hdr, sizeof(s->hdr), 0);
	return s;
}

void disk_piece(struct disk_slot *s, const void *at, uint32_t len, unsigned flags)
{
	CHECK(s->pieces < DISK_PIECES);
	s->piece[s->pieces++] =
		(struct vring_desc){.addr = (uint64_t)at, .len = len, .flags = (uint16_t)flags};
}

/* The pieces one after the other, the first at descriptor `first` of its table. */
static void link_pieces(struct disk_slot *s, unsigned first)
{
	for (unsigned i = 0; i + 1 < s->pieces; i++) {
		s->piece[i].flags |= VRING_DESC_F_NEXT;
		s->piece[i].next = (uint16_t)(first + i + 1);
	}
}

void disk_offer(struct disk *d, unsigned queue, unsigned slot, bool indirect)
{
	struct disk_queue *q = &d->queue[queue];
	struct disk_slot *s = &q->slot[slot];
	unsigned head = slot * d->stride;

	disk_piece(s, &s->status, 1, VRING_DESC_F_WRITE);
	link_pieces(s, indirect ? 0 : head);
	if (indirect) {
		ring_desc(&q->ring, head, s->piece, s->pieces * (uint32_t)sizeof(s->piece[0]),
			VRING_DESC_F_INDIRECT);
	} else {
		CHECK(s->pieces <= d->stride);
		memcpy(&q->ring.desc[head], s->piece, s->pieces * sizeof(s->piece[0]));
	}
	ring_offer(&q->ring, head);
}

/* virtio 1.2, 2.7.10: the device's wish lies behind the used ring, or in its flags. */
static bool kick_wanted(const struct disk *d, const struct disk_queue *q)
{
	const volatile uint16_t *event = (void *)&q->ring.used->ring[q->ring.size];
	const volatile uint16_t *flags = &q->ring.used->flags;

	if (d->features & RING_EVENT)
		return vring_need_event(*event, q->ring.offered, q->kicked);
	return !(*flags & VRING_USED_F_NO_NOTIFY);
}

void disk_kick(struct disk *d, unsigned queue)
{
	struct disk_queue *q = &d->queue[queue];

	fence();
	if (kick_wanted(d, q))
		ring_kick(&q->ring);
	q->kicked = q->ring.offered;
}

bool disk_reap(struct disk *d, unsigned queue, unsigned *slot)
{
	struct disk_queue *q = &d->queue[queue];
	uint32_t head, len;

	if (!ring_reap(&q->ring, &head, &len))
		return false;
	CHECK(head % d->stride == 0 && head / d->stride < d->slots);
	*slot = head / d->stride;
	q->slot[*slot].written = len;
	return true;
}

static uint8_t go(struct disk *d)
{
	unsigned slot;

	disk_offer(d, 0, 0, d->stride < 3);
	disk_kick(d, 0);
	while (!disk_reap(d, 0, &slot))
		relax();
	CHECK_EQUAL(slot, 0);
	return d->queue[0].slot[0].status;
}

uint8_t disk_do(struct disk *d, uint32_t type, uint64_t sector, void *data, uint32_t len)
{
	struct disk_slot *s = disk_prepare(d, 0, 0, type);

	s->hdr.sector = sector;
	if (len)
		disk_piece(s, data, len, type == VIRTIO_BLK_T_OUT ? 0 : VRING_DESC_F_WRITE);
	return go(d);
}

uint8_t disk_range(struct disk *d, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct disk_slot *s = disk_prepare(d, 0, 0, type);

	s->range = (struct virtio_blk_discard_write_zeroes){
		.sector = sector, .num_sectors = sectors, .flags = flags};
	disk_piece(s, &s->range, sizeof(s->range), 0);
	return go(d);
}
