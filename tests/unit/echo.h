// SPDX-License-Identifier: MIT
// A virtio device for tests of transports.
#ifndef TESTS_UNIT_ECHO_H
#define TESTS_UNIT_ECHO_H

#include "base/iov.h"
#include "base/loop.h"
#include "base/stream.h"
#include "tests/unit/driver.h"
#include "virtio/device.h"

#include <stdatomic.h>

/* A device that writes what it reads, and keeps the requests of queue 1 until it is stopped. */
struct echo {
	struct virtio_device dev;
	struct queue queues[2];
	struct iovec iov[2][16];
	struct queue_elem held;
	atomic_bool holds;
	atomic_uint starts, stops, resets, kicks;
	atomic_uint visits; /* kicks that were served on the driver's thread */
	uint32_t saved;
	unsigned lend;  /* so many queues are to go to another owner at the next start */
	bool unwilling; /* which does not want them */
	int lent;       /* what became of it */
	struct queue_setup *setups[2];
};

static struct echo *to_echo(struct virtio_device *dev)
{
	return container_of(dev, struct echo, dev);
}

static void echo_start(struct virtio_device *dev)
{
	struct echo *d = to_echo(dev);

	d->lent = d->lend && queue_live(&d->queues[d->lend - 1])
			  ? virtio_lend(dev, d->lend, d->setups)
			  : 0;
	if (d->lent == 0 && d->unwilling)
		virtio_unlend(dev);
	d->starts++;
}

static void finish_echo(struct echo *d, unsigned i, struct queue_elem *e)
{
	char buf[64];
	size_t n = iov_read(e->iov, e->out_n, 0, buf, sizeof(buf));

	n = iov_write(e->iov + e->out_n, e->in_n, 0, buf, n);
	queue_push(&d->queues[i], e, (uint32_t)n);
	queue_notify(&d->queues[i]);
}

static void echo_stop(struct virtio_device *dev)
{
	struct echo *d = to_echo(dev);

	d->stops++;
	if (d->holds)
		finish_echo(d, 1, &d->held);
	d->holds = false;
}

static void echo_reset(struct virtio_device *dev)
{
	to_echo(dev)->resets++;
	to_echo(dev)->saved = 0;
}

static void echo_kick(struct virtio_device *dev, unsigned i)
{
	struct echo *d = to_echo(dev);
	struct queue_elem e = {.iov = d->iov[i], .cap = 16};

	d->kicks++;
	d->visits += loop_visited(dev->io);
	if (d->holds || !queue_pop(&d->queues[i], &e))
		return;
	if (i == 1) {
		d->held = e;
		d->holds = true;
		return;
	}
	finish_echo(d, i, &e);
	if (queue_pending(&d->queues[i]))
		virtio_kick_again(dev, i);
}

static void echo_config_write(
	struct virtio_device *dev, unsigned off, const void *data, unsigned len)
{
	virtio_config_set(dev, off, data, len);
}

static void echo_save(struct virtio_device *dev, struct stream_out *s)
{
	stream_begin(s, "echo", 1);
	stream_put_u32(s, to_echo(dev)->saved);
	stream_end(s);
}

static int echo_load(struct virtio_device *dev, struct stream_in *s)
{
	int rc = stream_open(s, "echo", 1);

	to_echo(dev)->saved = stream_get_u32(s);
	return rc < 0 ? rc : stream_close(s);
}

static const struct virtio_ops echo_ops = {
	.start = echo_start,
	.stop = echo_stop,
	.reset = echo_reset,
	.kick = echo_kick,
	.config_write = echo_config_write,
	.save = echo_save,
	.load = echo_load,
};

static const uint16_t echo_max[] = {16, 8};

#define ECHO_ID 42u

/* With 12 bytes of configuration: 1 to 12. */
static void echo_init(struct echo *d)
{
	static const uint8_t config[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

	d->dev = (struct virtio_device){
		.ops = &echo_ops,
		.name = "echo",
		.id = ECHO_ID,
		.offered = 1ull << 3 | 1ull << 50,
		.queues = d->queues,
		.queue_max = echo_max,
		.queue_count = 2,
		.config_len = 12,
	};
	virtio_device_init(&d->dev);
	virtio_config_set(&d->dev, 0, config, sizeof(config));
}

/* A request of queue `d` that is answered with the same text, at 0x101000. */
static inline void offer_echo(struct driver *d, const char *text)
{
	mem_write(d->mem, 0x100000, text, strlen(text));
	driver_desc(d, 0, 0x100000, (uint32_t)strlen(text), VRING_DESC_F_NEXT);
	driver_desc(d, 1, 0x101000, 64, VRING_DESC_F_WRITE);
	driver_offer(d, 0);
}

#endif
