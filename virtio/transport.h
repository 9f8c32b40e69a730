// SPDX-License-Identifier: MIT
// What all transports have in common: device status, features, queues (virtio 1.2, 2.1, 2.2, 3.1).
//
// A transport (virtio/mmio.c) turns register accesses into the calls below, and supplies how the
// driver is interrupted. Status moves as the driver writes it:
//
//   0 -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK
//
// Features are written in DRIVER, queues are set up in FEATURES_OK, the queues are live in
// DRIVER_OK. FEATURES_OK does not stick where the driver has accepted what was not offered. Writing
// 0 resets, from any state. FAILED may come at any time and changes nothing here.
// DEVICE_NEEDS_RESET is ours. Whatever else the driver writes, and whatever it writes out of turn,
// is ignored and counted as a mistake.
//
// The calls are made by vCPU threads, or by the control thread while vCPUs are parked, with t->lock
// held except where noted. They may wait for the device's loop, which never takes that lock.
#ifndef VIRTIO_TRANSPORT_H
#define VIRTIO_TRANSPORT_H

#include "base/loop.h"
#include "virtio/device.h"

#include <stdatomic.h>

struct kvm;
struct stream_in;
struct stream_out;
struct transport;

/* The registers that describe a queue: which of the three rings' addresses. */
enum transport_ring { RING_DESC, RING_AVAIL, RING_USED };

/* Called on the device's loop, or within transport_resume. */
struct transport_ops {
	void (*queue_interrupt)(void *arg, unsigned queue);
	void (*config_interrupt)(void *arg);
	/* The driver reset the device: pending interrupts are void. */
	void (*reset)(void *arg);
	/*
	 * Optional: makes an eventfd, borrowed until disconnect, for each of the first `count`
	 * queues, that interrupts as queue_interrupt does, whoever signals it. 0 or -errno.
	 */
	int (*connect)(void *arg, unsigned count, int *fds);
	void (*disconnect)(void *arg);
	/*
	 * Has the kernel ring a queue's doorbell (transport_kick_fd) where the driver writes, or no
	 * longer, with bell_lock held, from any thread. 0, -EAGAIN where that cannot be now, or
	 * -errno.
	 */
	int (*bind)(void *arg, unsigned queue, bool add);
};

struct transport_config {
	struct virtio_device *dev; /* borrowed; outlives the transport */
	struct mem *mem;
	struct loop *io; /* owns the queues. Not a loop that ever waits for a vCPU. */
	const struct transport_ops *ops;
	void *arg;
};

struct transport_queue {
	struct transport *t;
	struct queue_setup setup;
	bool ready; /* the driver's QueueReady / queue_enable */
	struct watch watch;
	unsigned index;

	/* Of its doorbell: transport_kick.c. */
	atomic_uint exits;  /* kicks that were exits, from any vCPU */
	atomic_bool deep;   /* it is for the loop's thread, by an ioeventfd */
	bool bound, failed; /* it has one; it cannot have one. Under bell_lock */
	/* The same, on the loop. */
	unsigned otherwise; /* kicks in a row that spoke against `deep` as it is */
	unsigned patience;  /* how many of them change it */
	unsigned settled;   /* kicks since the last change that spoke for how it is */
};

struct transport {
	struct transport_config cfg;
	struct virtio_host host;
	pthread_mutex_t lock; /* guards what follows, up to the next comment */
	struct guest_log log;
	uint8_t status; /* without DEVICE_NEEDS_RESET */
	bool paused;
	struct transport_queue *queues;
	pthread_mutex_t bell_lock; /* guards what is said to be under it. Taken last */
	/* Touched on the loop only, or while it does nothing for this device. */
	bool running;        /* the queues are live and the device is started */
	bool config_pending; /* the config space has changed while it was not */
	unsigned lent;       /* so many queues, the first, have an owner outside */
	/* From any thread. */
	atomic_bool needs_reset;
};

/* Attaches the device. 0 or -errno. */
int transport_init(struct transport *t, const struct transport_config *cfg);

/* Stops and detaches it, without lock. Only after a successful transport_init. */
void transport_finish(struct transport *t);

uint8_t transport_status(const struct transport *t);
void transport_set_status(struct transport *t, uint32_t value);

/* Features, 32 bits at a time: `sel` 0 and 1; others read as zero and may only be written zero. */
uint32_t transport_offered(const struct transport *t, uint32_t sel);
void transport_accept(struct transport *t, uint32_t sel, uint32_t value);

/* Queues; an index past the last reads as zero, and to write to it is a mistake. */
uint16_t transport_queue_max(const struct transport *t, uint32_t index);
bool transport_queue_ready(const struct transport *t, uint32_t index);
uint16_t transport_queue_size(const struct transport *t, uint32_t index);
uint64_t transport_queue_ring(const struct transport *t, uint32_t index, enum transport_ring ring);
void transport_set_queue_size(struct transport *t, uint32_t index, uint32_t size);
void transport_set_queue_ring(
	struct transport *t, uint32_t index, enum transport_ring ring, bool high, uint32_t value);
void transport_set_queue_ready(struct transport *t, uint32_t index, uint32_t value);

/* A queue was kicked by an exit: it is served here or its doorbell is rung. False when there is no
 * such queue. Without lock. */
bool transport_kick(struct transport *t, uint32_t index);

/* No doorbell is the kernel's any more, until kicks show again that it should be. With bell_lock.
 */
void transport_unbind(struct transport *t);

/* The doorbell's eventfd. Borrowed; constant as long as the transport lives. Without lock. */
int transport_kick_fd(const struct transport *t, uint32_t index);

/* The driver writes to the config space. */
void transport_config_write(struct transport *t, uint32_t off, const void *data, unsigned len);

/* As if power had been lost: the state after transport_init, except for a pause. */
void transport_reset(struct transport *t);

/*
 * Pause takes the queues from the device, unknown to the driver; resume hands them back. Each is a
 * no-op where it is already so. Save needs a pause; load a pause and a reset, and another reset
 * where it fails. Load: 0 or -errno.
 */
void transport_pause(struct transport *t);
void transport_resume(struct transport *t);
void transport_save(struct transport *t, struct stream_out *s);
int transport_load(struct transport *t, struct stream_in *s);

#endif
