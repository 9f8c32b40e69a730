// SPDX-License-Identifier: MIT
// virtio-blk (virtio 1.2, 5.2): a disk, over any struct blk.
#ifndef VIRTIO_BLK_H
#define VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>

struct blk;
struct virtio_device;

#define VIRTIO_BLK_QUEUES_MAX 16u

struct virtio_blk_config_args {
	const char *name; /* for messages; borrowed */
	struct blk *blk;  /* taken, also on failure */
	const char *
		serial; /* what get-id gives, 20 bytes at most; borrowed for the call; NULL: none */
	unsigned queues; /* 1 to VIRTIO_BLK_QUEUES_MAX */
	bool writeback;  /* how the cache is after a reset: false, each write is durable */
};

/* 0 or -errno. */
int virtio_blk_create(struct virtio_device **out, const struct virtio_blk_config_args *args);

/* The queues are stopped. NULL is fine. */
void virtio_blk_destroy(struct virtio_device *dev);

/* The process is about to end: gives the disk back, with all that is still to be written to its
 * files. The device is paused, and stays so. On dev->io. */
void virtio_blk_close(struct virtio_device *dev);

/* The disk's file may have grown: tells the driver if it has; *size is what it has now, in bytes.
 * On dev->io. 0 or -errno. */
int virtio_blk_resize(struct virtio_device *dev, uint64_t *size);

/* How many requests the disk has had held; they go on when the device does. On dev->io. */
unsigned virtio_blk_held(struct virtio_device *dev);

#endif
