// SPDX-License-Identifier: MIT
// What all transports have in common: device status, features, queues (virtio 1.2, 2.1, 2.2, 3.1).
#include "virtio/transport_priv.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ACKNOWLEDGE VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED VIRTIO_CONFIG_S_FAILED

#define TRANSPORT_FEATURES (QUEUE_FEATURES | 1ull << VIRTIO_F_VERSION_1)

/* A mistake of the driver's in its use of the registers. */
#define mistake(t, ...) guest_error(&(t)->log, (t)->cfg.dev->name, __VA_ARGS__)

/* ---- Birth and death ---- */

static void free_queues(struct transport *t)
{
	for (unsigned i = 0; i < t->cfg.dev->queue_count; i++)
		if (t->queues[i].setup.kick >= 0)
			close(t->queues[i].setup.kick);
	free(t->queues);
}

static int make_queues(struct transport *t)
{
	unsigned n = t->cfg.dev->queue_count;
	int err = 0;

	t->queues = calloc(n, sizeof(*t->queues));
	if (!t->queues)
		return fail(ENOMEM, "%s: no memory for %u queues", t->cfg.dev->name, n);
	for (unsigned i = 0; i < n; i++) {
		int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		if (kick < 0)
			err = errno;
		transport_init_queue(t, i, kick);
	}
	if (!err)
		return 0;
	free_queues(t);
	return failno(err, "%s: a doorbell", t->cfg.dev->name);
}

int transport_init(struct transport *t, const struct transport_config *cfg)
{
	struct virtio_device *dev = cfg->dev;
	int rc;

	*t = (struct transport){.cfg = *cfg};
	t->host = transport_host;
	t->host.queue.arg = t;
	rc = make_queues(t);
	if (rc < 0)
		return rc;
	pthread_mutex_init(&t->lock, NULL);
	pthread_mutex_init(&t->bell_lock, NULL);
	dev->mem = cfg->mem;
	dev->io = cfg->io;
	dev->host = &t->host;
	return 0;
}

void transport_finish(struct transport *t)
{
	pthread_mutex_lock(&t->bell_lock);
	transport_unbind(t);
	pthread_mutex_unlock(&t->bell_lock);
	loop_call(t->cfg.io, transport_detach, t);
	free_queues(t);
	pthread_mutex_destroy(&t->bell_lock);
	pthread_mutex_destroy(&t->lock);
}

/* ---- Registers: with the lock held ---- */

uint8_t transport_status(const struct transport *t)
{
	return atomic_load(&t->needs_reset) ? t->status | NEEDS_RESET : t->status;
}

static uint64_t offered(const struct transport *t)
{
	return t->cfg.dev->offered | TRANSPORT_FEATURES;
}

static bool features_acceptable(const struct transport *t)
{
	uint64_t f = t->cfg.dev->features;

	return !(f & ~offered(t)) && (f & 1ull << VIRTIO_F_VERSION_1);
}

/* Each stage's bit needs those of the stages before it. */
static bool status_in_order(uint32_t status)
{
	uint32_t stages = status & (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);

	return stages == 0 || stages == ACKNOWLEDGE || stages == (ACKNOWLEDGE | DRIVER) ||
	       stages == (ACKNOWLEDGE | DRIVER | FEATURES_OK) ||
	       stages == (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void negotiated(void *arg)
{
	struct virtio_device *dev = arg;

	dev->ops->negotiated(dev);
}

static void advance(struct transport *t, uint32_t value)
{
	uint32_t added = value & ~t->status;

	if ((added & FEATURES_OK) && !features_acceptable(t)) {
		mistake(t, "the driver wants features %#lx of %#lx", t->cfg.dev->features,
			offered(t));
		value &= ~(uint32_t)(FEATURES_OK | DRIVER_OK);
		added = value & ~t->status;
	}
	t->status = (uint8_t)value;
	if ((added & FEATURES_OK) && t->cfg.dev->ops->negotiated)
		loop_call(t->cfg.io, negotiated, t->cfg.dev);
	if ((added & DRIVER_OK) && !t->paused)
		loop_call(t->cfg.io, transport_bring_up, t);
}

void transport_set_status(struct transport *t, uint32_t value)
{
	uint32_t known = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED;

	if (value == 0) {
		transport_reset(t);
	} else {
		/* A driver that adds a bit to what it has read writes NEEDS_RESET back. */
		value &= ~(uint32_t)NEEDS_RESET;
		if ((value & ~known) || (t->status & ~value) || !status_in_order(value))
			mistake(t, "status %#x written where it is %#x", value, t->status);
		else
			advance(t, value);
	}
}

uint32_t transport_offered(const struct transport *t, uint32_t sel)
{
	return sel < 2 ? (uint32_t)(offered(t) >> (32 * sel)) : 0;
}

void transport_accept(struct transport *t, uint32_t sel, uint32_t value)
{
	struct virtio_device *dev = t->cfg.dev;

	if (!(t->status & DRIVER) || (t->status & FEATURES_OK))
		mistake(t, "features written at status %#x", t->status);
	else if (sel < 2)
		dev->features = (dev->features & ~(0xffffffffull << (32 * sel))) |
				(uint64_t)value << (32 * sel);
	else if (value)
		mistake(t, "features %#x accepted in word %u", value, sel);
}

static struct transport_queue *find_queue(const struct transport *t, uint32_t index)
{
	return index < t->cfg.dev->queue_count ? &t->queues[index] : NULL;
}

uint16_t transport_queue_max(const struct transport *t, uint32_t index)
{
	return index < t->cfg.dev->queue_count ? t->cfg.dev->queue_max[index] : 0;
}

bool transport_queue_ready(const struct transport *t, uint32_t index)
{
	const struct transport_queue *q = find_queue(t, index);

	return q && q->ready;
}

uint16_t transport_queue_size(const struct transport *t, uint32_t index)
{
	const struct transport_queue *q = find_queue(t, index);

	return q ? q->setup.size : 0;
}

uint64_t transport_queue_ring(const struct transport *t, uint32_t index, enum transport_ring ring)
{
	const struct transport_queue *q = find_queue(t, index);

	if (!q)
		return 0;
	if (ring == RING_DESC)
		return q->setup.desc;
	return ring == RING_AVAIL ? q->setup.avail : q->setup.used;
}

/* The queue if the driver may describe it now, else NULL, which has been counted. */
static struct transport_queue *writable(struct transport *t, uint32_t index)
{
	struct transport_queue *q = find_queue(t, index);

	if (q && !q->ready && (t->status & (FEATURES_OK | DRIVER_OK)) == FEATURES_OK)
		return q;
	mistake(t, "queue %u of %u set up at status %#x%s", index, t->cfg.dev->queue_count,
		t->status, q && q->ready ? " while it is ready" : "");
	return NULL;
}

void transport_set_queue_size(struct transport *t, uint32_t index, uint32_t size)
{
	struct transport_queue *q;

	q = writable(t, index);
	/* What is too large becomes 0, which is refused with the rest when the queue starts. */
	if (q)
		q->setup.size = size <= transport_queue_max(t, index) ? (uint16_t)size : 0;
}

void transport_set_queue_ring(
	struct transport *t, uint32_t index, enum transport_ring ring, bool high, uint32_t value)
{
	struct transport_queue *q;

	q = writable(t, index);
	if (q) {
		uint64_t *addr[] = {
			[RING_DESC] = &q->setup.desc,
			[RING_AVAIL] = &q->setup.avail,
			[RING_USED] = &q->setup.used,
		};
		unsigned shift = high ? 32 : 0;

		*addr[ring] = (*addr[ring] & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
	}
}

static void unready(struct transport *t, struct transport_queue *q)
{
	if (q->ready && (t->status & DRIVER_OK) && !t->paused)
		loop_call(t->cfg.io, transport_retire_queue, q);
	q->ready = false;
}

void transport_set_queue_ready(struct transport *t, uint32_t index, uint32_t value)
{
	struct transport_queue *q = find_queue(t, index);

	if (value == 1) {
		q = writable(t, index);
		if (q)
			q->ready = true;
	} else if (q && value == 0) {
		unready(t, q);
	} else {
		mistake(t, "queue %u of %u made ready with %#x", index, t->cfg.dev->queue_count,
			value);
	}
}

int transport_kick_fd(const struct transport *t, uint32_t index)
{
	return t->queues[index].setup.kick;
}

struct config_write {
	struct virtio_device *dev;
	uint32_t off;
	const void *data;
	unsigned len;
};

static void write_config(void *arg)
{
	struct config_write *w = arg;

	w->dev->ops->config_write(w->dev, w->off, w->data, w->len);
}

void transport_config_write(struct transport *t, uint32_t off, const void *data, unsigned len)
{
	struct config_write w = {.dev = t->cfg.dev, .off = off, .data = data, .len = len};

	if (!w.dev->ops->config_write || !range_ok(off, len, w.dev->config_len))
		mistake(t, "%u bytes written to config space at %#x", len, off);
	else
		loop_call(t->cfg.io, write_config, &w);
}

/* ---- The machine's side ---- */

void transport_reset(struct transport *t)
{
	loop_call(t->cfg.io, transport_forget, t);
	t->status = 0;
}

void transport_pause(struct transport *t)
{
	t->paused = true;
	loop_call(t->cfg.io, transport_take_down, t);
}

void transport_resume(struct transport *t)
{
	if (t->paused && (t->status & DRIVER_OK) && !atomic_load(&t->needs_reset))
		loop_call(t->cfg.io, transport_bring_up, t);
	t->paused = false;
}

static void save_queue(const struct transport_queue *q, struct stream_out *s)
{
	stream_put_u8(s, q->ready);
	stream_put_u16(s, q->setup.size);
	stream_put_u64(s, q->setup.desc);
	stream_put_u64(s, q->setup.avail);
	stream_put_u64(s, q->setup.used);
	stream_put_u16(s, q->setup.next_avail);
	stream_put_u16(s, q->setup.next_used);
}

static void load_queue(struct transport_queue *q, struct stream_in *s)
{
	q->ready = stream_get_u8(s);
	q->setup.size = stream_get_u16(s);
	q->setup.desc = stream_get_u64(s);
	q->setup.avail = stream_get_u64(s);
	q->setup.used = stream_get_u64(s);
	q->setup.next_avail = stream_get_u16(s);
	q->setup.next_used = stream_get_u16(s);
	if (q->setup.size > q->t->cfg.dev->queue_max[q->index])
		stream_bad(s, "a queue larger than the device has");
}

void transport_save(struct transport *t, struct stream_out *s)
{
	struct virtio_device *dev = t->cfg.dev;

	stream_begin(s, "virtio", 1);
	stream_put_u32(s, dev->id);
	stream_put_u32(s, dev->queue_count);
	stream_put_u8(s, t->status);
	stream_put_u8(s, atomic_load(&t->needs_reset));
	stream_put_u64(s, dev->features);
	for (unsigned i = 0; i < dev->queue_count; i++)
		save_queue(&t->queues[i], s);
	stream_end(s);
	dev->ops->save(dev, s);
}

static void load_common(struct transport *t, struct stream_in *s)
{
	struct virtio_device *dev = t->cfg.dev;

	if (stream_get_u32(s) != dev->id)
		stream_bad(s, "the state of another kind of device");
	if (stream_get_u32(s) != dev->queue_count)
		stream_bad(s, "another number of queues");
	t->status = stream_get_u8(s);
	atomic_store(&t->needs_reset, stream_get_u8(s) != 0);
	dev->features = stream_get_u64(s);
	if (!status_in_order(t->status) || (t->status & NEEDS_RESET))
		stream_bad(s, "a device status that no driver can reach");
	if ((t->status & FEATURES_OK) && !features_acceptable(t))
		stream_bad(s, "features that are not offered here");
}

int transport_load(struct transport *t, struct stream_in *s)
{
	struct virtio_device *dev = t->cfg.dev;
	int rc;

	rc = stream_open(s, "virtio", 1);
	if (rc < 0)
		return rc;
	load_common(t, s);
	for (unsigned i = 0; i < dev->queue_count && !s->err; i++)
		load_queue(&t->queues[i], s);
	rc = stream_close(s);
	return rc < 0 ? rc : dev->ops->load(dev, s);
}
