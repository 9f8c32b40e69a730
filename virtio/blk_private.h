// SPDX-License-Identifier: MIT
// What the files of virtio-blk share. All is for dev->io.
#ifndef VIRTIO_BLK_PRIVATE_H
#define VIRTIO_BLK_PRIVATE_H

#include "base/loop.h"
#include "blk/blk.h"
#include "virtio/blk.h"
#include "virtio/device.h"

#include <linux/virtio_blk.h>

#define VBLK_QUEUE_SIZE 256u

struct request {
	struct blk_request io;
	struct vblk *dev;
	struct request *next; /* while free or held */
	struct queue_elem elem;
	uint16_t queue;
	uint16_t data_n; /* pieces of data in `data` */
	bool unmap;      /* of write zeroes: the driver allows it */
	struct iovec iov[VBLK_QUEUE_SIZE];
	struct iovec data[VBLK_QUEUE_SIZE];
};

struct vblk {
	struct virtio_device dev;
	struct blk *blk;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct request *pool, *free, *held;
	unsigned fresh;           /* of the pool, how many have never been used */
	unsigned flying;          /* requests the disk has */
	bool starved;             /* a queue waits for a request to come back */
	bool flushing;            /* `flush` is under way */
	bool flush_held;          /* it has failed, and is to be submitted again */
	bool told;                /* that it has failed */
	struct blk_request flush; /* of our own, when the driver has switched its cache off */
	uint32_t to_notify;
	struct deferred notify;
	bool writeback; /* how the cache is for a driver that begins */
	struct queue queue[VIRTIO_BLK_QUEUES_MAX];
	uint16_t queue_max[VIRTIO_BLK_QUEUES_MAX];
};

/* One of the pool; NULL when all are in use. */
struct request *virtio_blk_take_request(struct vblk *v);
void virtio_blk_give_request(struct vblk *v, struct request *r);

/* Interrupts the driver for all that has been completed. `arg`: the struct vblk. */
void virtio_blk_notify(void *arg);

/* The next request of a queue: taken and on its way. False where there is none. */
bool virtio_blk_serve_next(struct vblk *v, unsigned index);

/* One that was held; its queue may be gone. */
void virtio_blk_serve_again(struct vblk *v, struct request *r);

/* The first of those held, taken out; NULL when there is none. */
struct request *virtio_blk_take_held(struct request **list);

#endif
