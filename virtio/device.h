// SPDX-License-Identifier: MIT
// What a virtio device is to a transport, and a transport to a device (virtio 1.2, 2 and 3).
//
// Threads: everything in struct virtio_ops is called on the loop that owns the device's queues
// (dev->io) or by a visitor of it, so that a device needs no lock. The one exception is the config
// space, which the driver reads at any time: it is a copy kept here, under a lock of its own, and a
// device that changes it calls virtio_config_set. The transport's registers are touched by vCPU
// threads under the transport's lock; what they set off reaches the device by loop_call. The loop
// never waits for a vCPU and never takes that lock.
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include "base/log.h"
#include "virtio/queue.h"

#include <pthread.h>

#define VIRTIO_CONFIG_MAX 256u
#define VIRTIO_QUEUES_MAX 64u

struct loop;
struct stream_in;
struct stream_out;
struct virtio_device;

/* All mandatory unless marked optional. */
struct virtio_ops {
	/* Optional: the driver has chosen dev->features, and reads the config space by them. */
	void (*negotiated)(struct virtio_device *dev);

	/*
	 * Optional: the driver is ready, or a pause has ended: dev->features are those negotiated,
	 * the queues that the driver has set up are live. Each of these is then kicked once.
	 */
	void (*start)(struct virtio_device *dev);

	/*
	 * Optional: the queues are about to be taken away: for a pause, or before a reset. Requests
	 * in flight are completed or awaited here; none may touch guest memory after it has
	 * returned. What is needed to go on after a pause is kept.
	 */
	void (*stop)(struct virtio_device *dev);

	/*
	 * Optional: forget all that the driver has set off. The queues are stopped, or never were
	 * started.
	 */
	void (*reset)(struct virtio_device *dev);

	/*
	 * The driver has made buffers available in queue `index`, or may have. A device that has
	 * done its share, with more to do, calls virtio_kick_again, so that others on the loop have
	 * their turn.
	 */
	void (*kick)(struct virtio_device *dev, unsigned index);

	/* Optional: the driver writes `len` bytes at `off`, within the config space. */
	void (*config_write)(
		struct virtio_device *dev, unsigned off, const void *data, unsigned len);

	/* A section of its own in the stream. The queues are stopped. load: 0 or -errno. */
	void (*save)(struct virtio_device *dev, struct stream_out *s);
	int (*load)(struct virtio_device *dev, struct stream_in *s);
};

/* What the transport does for a device, called on dev->io only, each with queue.arg. */
struct virtio_host {
	struct queue_host queue;           /* handed to the queues */
	void (*needs_reset)(void *arg);    /* sets DEVICE_NEEDS_RESET, tells the driver */
	void (*config_changed)(void *arg); /* tells the driver */
	void (*kick_again)(void *arg, unsigned index); /* rings the queue's doorbell */
	int (*lend)(void *arg, unsigned count, struct queue_setup **setups); /* virtio_lend */
	void (*unlend)(void *arg);                                           /* virtio_unlend */
	void (*restart)(void *arg);                                          /* virtio_restart */
};

/* Embedded in each device; the constructor fills the first part and calls virtio_device_init. */
struct virtio_device {
	const struct virtio_ops *ops;
	const char *name;          /* for messages; borrowed */
	uint32_t id;               /* virtio 1.2, 5 */
	uint64_t offered;          /* the device's own feature bits; the transport adds the rest */
	struct queue *queues;      /* the device's storage */
	const uint16_t *queue_max; /* the most descriptors of each, a power of two */
	unsigned queue_count;
	unsigned config_len;
	uint64_t brief; /* queues, a bit each, whose kicks may be served on a vCPU's thread: they do
			   not wait, and make only the system calls that such a thread may */

	/* Kept by virtio/device.c and the transport. */
	struct mem *mem;
	struct loop *io;
	const struct virtio_host *host; /* NULL while there is no transport */
	uint64_t features;              /* negotiated, valid from start on */
	struct guest_log log;           /* the driver's mistakes, as found on dev->io */
	pthread_mutex_t config_lock;    /* guards what follows; taken last */
	uint32_t config_generation;
	uint8_t config[VIRTIO_CONFIG_MAX];
};

void virtio_device_init(struct virtio_device *dev);
void virtio_device_finish(struct virtio_device *dev);

/*
 * Changes the config space and tells the driver if it is there. On dev->io, or before there is a
 * transport. The range is within config_len.
 */
void virtio_config_set(struct virtio_device *dev, unsigned off, const void *data, unsigned len);

/* As the driver sees it, from any thread; past config_len it reads as zeroes. */
void virtio_config_read(struct virtio_device *dev, unsigned off, void *data, unsigned len);
uint32_t virtio_config_generation(struct virtio_device *dev);

/* The driver has broken the rules of the device: no queue goes on until it resets the device. */
void virtio_broken(struct virtio_device *dev, const char *fmt, ...) printf_like(2, 3);

/* Has ops->kick called once more, after whatever else is due on the loop. On dev->io, while
 * started. */
void virtio_kick_again(struct virtio_device *dev, unsigned index);

/*
 * Takes the first `count` queues, which the driver has set up, for an owner that is not the
 * monitor. Only within ops->start. *setups[i], there until ops->stop returns, is what the owner
 * needs, its doorbell and an eventfd that interrupts the driver included; no kick of these queues
 * comes here. ops->stop ends the owner and leaves the positions it has reached there. -errno, with
 * a message, where driver or transport do not go with it: the queues are then the device's as
 * before.
 */
int virtio_lend(struct virtio_device *dev, unsigned count, struct queue_setup **setups);

/* Still within ops->start: the owner does not want them. They are the device's again. */
void virtio_unlend(struct virtio_device *dev);

/*
 * Stops the device and starts it again, unknown to the driver: it is to choose again who owns its
 * queues. A no-op while it is not started. On dev->io, within none of its ops.
 */
void virtio_restart(struct virtio_device *dev);

static inline bool virtio_has_feature(const struct virtio_device *dev, unsigned bit)
{
	return dev->features & 1ull << bit;
}

#endif
