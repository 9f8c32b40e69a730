// SPDX-License-Identifier: MIT
// virtio-rng: entropy from the host's kernel (virtio 1.2, 5.4).
#include "virtio/rng.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"
#include "virtio/device.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define QUEUE_SIZE 16u

/* What one request gets at most, whatever it asks for: the kernel fills 256 bytes without pause. */
#define REQUEST_MAX KIB(4)
/* Requests served before others on the loop have their turn. */
#define BUDGET 32

struct rng {
	struct virtio_device dev;
	struct queue queue;
	struct iovec iov[QUEUE_SIZE];
};

/* The bytes written: at least one, as a device must (5.4.6.2), or 0 where the host gives none. */
static uint32_t fill(const struct iovec *iov, unsigned n)
{
	uint32_t done = 0;

	for (unsigned i = 0; i < n && done < REQUEST_MAX; i++) {
		size_t want = MIN(iov[i].iov_len, REQUEST_MAX - done);
		ssize_t got = TEMP_FAILURE_RETRY(getrandom(iov[i].iov_base, want, 0));

		if (got <= 0)
			break;
		done += (uint32_t)got;
		if ((size_t)got < want)
			break;
	}
	return done;
}

static bool serve(struct rng *r, struct queue_elem *e)
{
	uint32_t done = fill(e->iov + e->out_n, e->in_n);

	if (e->in_n == 0)
		virtio_broken(&r->dev, "a request for entropy has no room for any");
	else if (done == 0)
		virtio_broken(&r->dev, "the host gives no entropy: %s", strerror(errno));
	queue_push(&r->queue, e, done);
	return queue_live(&r->queue);
}

static void rng_kick(struct virtio_device *dev, unsigned index)
{
	struct rng *r = container_of(dev, struct rng, dev);
	struct queue_elem e = {.iov = r->iov, .cap = ARRAY_SIZE(r->iov)};
	int left = BUDGET;

	do {
		queue_disable_kicks(&r->queue);
		while (left > 0 && queue_pop(&r->queue, &e) && serve(r, &e))
			left--;
	} while (queue_enable_kicks(&r->queue) && left > 0);
	queue_notify(&r->queue);
	if (left == 0)
		virtio_kick_again(dev, index);
}

static void rng_save(struct virtio_device *dev, struct stream_out *s)
{
	stream_begin(s, "virtio-rng", 1);
	stream_end(s);
}

static int rng_load(struct virtio_device *dev, struct stream_in *s)
{
	int rc = stream_open(s, "virtio-rng", 1);

	return rc < 0 ? rc : stream_close(s);
}

/* Each request is served within its kick: there is nothing to start, to stop or to forget. */
static const struct virtio_ops rng_ops = {
	.kick = rng_kick,
	.save = rng_save,
	.load = rng_load,
};

int rng_create(struct virtio_device **out, const char *name)
{
	static const uint16_t queue_max[] = {QUEUE_SIZE};
	struct rng *r = calloc(1, sizeof(*r));

	if (!r)
		return fail(ENOMEM, "%s: no memory", name);
	r->dev = (struct virtio_device){
		.ops = &rng_ops,
		.name = name,
		.id = VIRTIO_ID_RNG,
		.queues = &r->queue,
		.queue_max = queue_max,
		.queue_count = 1,
	};
	virtio_device_init(&r->dev);
	*out = &r->dev;
	return 0;
}

void rng_destroy(struct virtio_device *dev)
{
	if (!dev)
		return;
	virtio_device_finish(dev);
	free(container_of(dev, struct rng, dev));
}
