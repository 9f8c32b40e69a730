// SPDX-License-Identifier: MIT
// A driver for virtio-blk that polls (virtio 1.2, 5.2). A request is put together of pieces in a
// slot of its queue, so that guests can cut it as they like, or wrongly.
#ifndef TESTS_GUESTS_DISK_H
#define TESTS_GUESTS_DISK_H

#include "tests/guests/virtio.h"

#include <linux/virtio_blk.h>

#define DISK_SECTOR 512u
#define DISK_QUEUES_MAX 4u
#define DISK_PIECES 8u /* of a request, its header and status included */
#define DISK_NO_STATUS 0xeeu

/* One request, and what of it the device reads and writes beside the data. */
struct disk_slot {
	struct vring_desc piece[DISK_PIECES]; /* also the indirect table */
	struct virtio_blk_outhdr hdr;
	struct virtio_blk_discard_write_zeroes range;
	uint8_t status;
	unsigned pieces;
	uint32_t written; /* bytes, as the device says */
};

struct disk_queue {
	struct ring ring;
	struct disk_slot *slot;
	uint16_t kicked; /* ring.offered at the last kick */
};

/* Memory for the largest of all is taken at the first start. */
struct disk {
	struct virtio v;
	uint64_t features; /* that were acknowledged */
	uint64_t sectors;
	unsigned queues, slots;
	unsigned stride; /* descriptors of the ring that a slot has */
	struct disk_queue queue[DISK_QUEUES_MAX];
};

void disk_find(struct disk *d);

/* Resets it, and makes it live with `queues` queues of `size` descriptors, `slots` requests in
 * each. */
void disk_start(struct disk *d, uint64_t features, unsigned queues, unsigned size, unsigned slots);

/* The features that it offers but those of the ring, of which the guest chooses. */
uint64_t disk_features(const struct disk *d);

/* In this order: a slot's header, pieces of data, and away. disk_kick tells the device, if it wants
 * to know. */
struct disk_slot *disk_prepare(struct disk *d, unsigned queue, unsigned slot, uint32_t type);
void disk_piece(struct disk_slot *s, const void *at, uint32_t len, unsigned flags);
void disk_offer(struct disk *d, unsigned queue, unsigned slot, bool indirect);
void disk_kick(struct disk *d, unsigned queue);

/* A slot that has come back; false where there is none. */
bool disk_reap(struct disk *d, unsigned queue, unsigned *slot);

/* A request on its own, in slot 0 of queue 0: its status. The second is for discard and write
 * zeroes. */
uint8_t disk_do(struct disk *d, uint32_t type, uint64_t sector, void *data, uint32_t len);
uint8_t disk_range(
	struct disk *d, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags);

#endif
