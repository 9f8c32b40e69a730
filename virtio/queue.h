// SPDX-License-Identifier: MIT
// Split virtqueues as a device sees them (virtio 1.2, 2.7): take a request, give it back, notify.
//
// A queue has one owner at a time. A transport hands it over as a struct queue_setup: where the
// rings are, how far they are used, which descriptor rings and which is to be rung. The owner may
// be a thread of the monitor (the functions below), or the kernel or another process, which take
// the same values. queue_stop gives the queue back with the positions it has reached, for a pause,
// a snapshot or another owner.
//
// All functions are for the owning thread. The host is little-endian, as the rings are.
#ifndef VIRTIO_QUEUE_H
#define VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct mem;
struct vring_avail;
struct vring_desc;
struct vring_used;

#define QUEUE_SIZE_MAX 1024u

/* The feature bits that this file implements, to be offered beside a device's own. */
#define QUEUE_FEATURES (1ull << 28 | 1ull << 29) /* RING_INDIRECT_DESC, RING_EVENT_IDX */

struct queue_setup {
	uint16_t size;                  /* a power of two, 1..QUEUE_SIZE_MAX */
	uint64_t desc, avail, used;     /* guest addresses of the rings */
	uint16_t next_avail, next_used; /* free-running; 0 in a new queue */
	int kick; /* eventfd: the driver has made buffers available; borrowed */
	int call; /* eventfd: interrupt the driver; borrowed; -1 while the monitor owns the queue,
		     which has other ways */
};

/* What a queue asks of the transport, on the owning thread. */
struct queue_host {
	void (*raise)(void *arg, unsigned index); /* interrupt the driver: there are used buffers */
	/* The driver broke the rules; nothing more will be popped or pushed. Once a queue_start. */
	void (*broken)(void *arg, const char *why);
	void *arg;
};

struct queue {
	struct mem *mem;
	const struct vring_desc *desc; /* NULL while not started */
	struct vring_avail *avail;
	struct vring_used *used;
	const struct queue_host *host;
	uint16_t index; /* which of the device's queues */
	uint16_t size;
	uint16_t next_avail, next_used;
	uint16_t called;   /* next_used when the driver was last considered for an interrupt */
	bool call_unknown; /* ... and it is not known what for: it is told of the next used buffer
			    */
	bool event_idx, indirect, broken;
	uint32_t last_len; /* bytes of the request taken last, in all its buffers */
	/* Interrupts since the device was made, and those that the driver did without. */
	uint64_t calls, calls_spared;
};

/* One request: a chain of buffers, those the device reads first. */
struct queue_elem {
	struct iovec *iov; /* set by the caller: storage, kept until queue_push */
	uint16_t cap;      /* set by the caller: entries in iov. A longer chain breaks the queue. */
	uint16_t head;
	uint16_t out_n, in_n;     /* iov[0, out_n) to read, iov[out_n, out_n + in_n) to write */
	uint32_t out_len, in_len; /* bytes in each; the two together are below 4 GiB */
};

/*
 * Takes the queue: resolves the rings once, from `features` takes which ring features were
 * negotiated. `host` is borrowed. -EINVAL with a message where the size is not as above or a ring
 * is misaligned (virtio 1.2, 2.7: 16, 2 and 4 bytes) or not in RAM.
 */
int queue_start(struct queue *q, struct mem *mem, const struct queue_setup *setup,
	uint64_t features, const struct queue_host *host);

/* Gives it back: next_avail and next_used into *setup. Requests taken and
 * not pushed are its owner's to remember: see queue_pop_again. */
void queue_stop(struct queue *q, struct queue_setup *setup);

/* Started and not broken. */
bool queue_live(const struct queue *q);

/*
 * Takes the next request. False when there is none or the queue is broken. Every descriptor is read
 * once; what the driver changes afterwards has no effect on `e`. What the buffers hold may change
 * at any time.
 */
bool queue_pop(struct queue *q, struct queue_elem *e);

/*
 * Takes the request that begins at descriptor `head` as queue_pop would: one that was taken before
 * the queue was stopped, and was not given back. False where the queue is not live, or breaks.
 */
bool queue_pop_again(struct queue *q, struct queue_elem *e, uint16_t head);

/* Puts the requests popped last back, so many, as if they had not been popped. */
void queue_unpop(struct queue *q, unsigned count);

/* Whether queue_pop would find something. */
bool queue_pending(const struct queue *q);

/*
 * Gives a request back, `written` bytes (at most in_len) having been written into its iov, which is
 * as queue_pop left it. Marks them dirty. Requests may be given back in any order.
 */
void queue_push(struct queue *q, const struct queue_elem *e, uint32_t written);

/*
 * The same in two steps, for requests that the driver is to find used together: those put become
 * visible with the next queue_publish.
 */
void queue_put(struct queue *q, const struct queue_elem *e, uint32_t written);
void queue_publish(struct queue *q);

/* Interrupts the driver if there is something used and it wants to know (virtio 1.2, 2.7.7.2). */
void queue_notify(struct queue *q);

/* Marks it broken without telling the host: for the other queues of a broken device. */
void queue_break(struct queue *q);

/*
 * Whether the driver should kick. Disabling is a hint. After enabling, a true result means that
 * something has become available in between, for which no kick may come: pop again.
 */
void queue_disable_kicks(struct queue *q);
bool queue_enable_kicks(struct queue *q);

#endif
