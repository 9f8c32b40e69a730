// SPDX-License-Identifier: MIT
// Kicks: who serves a queue when its doorbell is rung.
//
// Without an ioeventfd a kick is an exit to the monitor, and the vCPU's thread can serve the queue
// there and then, if nobody else is at work on the device's loop. So a guest that waits for each
// request, or for the answer to each packet, does not wait for another thread to wake up as well.
// With an ioeventfd the kernel wakes the loop's thread and the guest goes on beside it, which is
// better where the guest has more to do meanwhile, or the request takes long.
//
// Which of the two a driver needs shows in what the loop's thread finds when it is kicked. One
// small request that is done at once speaks for an exit; more, or one that is still under way, for
// the ioeventfd. A queue that is served by exits leaves one kick of some to the loop's thread, to
// see: a vCPU that is busy here cannot make more available meanwhile. To change is not for nothing,
// as KVM waits for a grace period: it takes a row of kicks that say so, a longer one each time
// until the queue has settled.
//
// A queue that is not brief is for the loop's thread alone. It too begins with exits: one that is
// kicked ten times in its life is not worth an ioeventfd.
#include "virtio/transport_priv.h"

#include "base/util.h"

#include <errno.h>

#define SAMPLE 32u /* of so many kicks one is for the loop's thread */
#define SMALL KIB(16)
#define PATIENCE_MAX 1024u

static bool is_brief(const struct transport_queue *q)
{
	return q->t->cfg.dev->brief >> q->index & 1;
}

/* With bell_lock held. Where it fails kicks go on as exits: slower and not wrong. */
static void bind(struct transport_queue *q, bool on)
{
	struct transport *t = q->t;
	int rc;

	if (q->bound == on || q->failed)
		return;
	rc = t->cfg.ops->bind(t->cfg.arg, q->index, on);
	q->bound = on && !rc;
	if (!rc || rc == -EAGAIN)
		return;
	q->failed = on;
	log_warn("%s: queue %u's doorbell: %s", t->cfg.dev->name, q->index, last_error());
}

static void bind_as_wanted(struct transport_queue *q)
{
	pthread_mutex_lock(&q->t->bell_lock);
	bind(q, atomic_load(&q->deep));
	pthread_mutex_unlock(&q->t->bell_lock);
}

void transport_unbind(struct transport *t)
{
	for (unsigned i = 0; i < t->cfg.dev->queue_count; i++) {
		bind(&t->queues[i], false);
		t->queues[i].failed = false;
	}
}

/* A kick, or `weight` of them, has spoken. On the loop; the vCPU that kicks next binds it. */
static void weigh(struct transport_queue *q, bool deep, unsigned weight)
{
	if (deep == atomic_load(&q->deep)) {
		q->otherwise = 0;
		q->settled += weight;
		if (q->settled >= PATIENCE_MAX)
			q->patience = TRANSPORT_PATIENCE;
		return;
	}
	q->otherwise += weight;
	if (q->otherwise < q->patience)
		return;
	q->otherwise = q->settled = 0;
	q->patience = MIN(q->patience * 2, PATIENCE_MAX);
	atomic_store(&q->deep, deep);
	if (!deep)
		bind_as_wanted(q);
}

struct found {
	uint16_t taken, done;
	uint32_t len; /* of the last */
};

static struct found serve(struct transport_queue *q)
{
	struct virtio_device *dev = q->t->cfg.dev;
	const struct queue *r = &dev->queues[q->index];
	uint16_t avail = r->next_avail, used = r->next_used;

	dev->ops->kick(dev, q->index);
	return (struct found){
		.taken = (uint16_t)(r->next_avail - avail),
		.done = (uint16_t)(r->next_used - used),
		.len = r->last_len,
	};
}

void transport_kicked(struct transport_queue *q)
{
	struct found f = serve(q);
	bool brief = is_brief(q);

	if (f.taken)
		weigh(q, !brief || f.taken > 1 || f.done != f.taken || f.len > SMALL,
			brief && !atomic_load(&q->deep) ? SAMPLE : 1);
}

/* Of what has been done here nothing is learnt. */
static bool serve_here(struct transport_queue *q)
{
	struct loop *io = q->t->cfg.io;
	bool live;

	if (!is_brief(q) || !loop_visit(io))
		return false;
	live = q->watch.fd >= 0;
	if (live) {
		struct found f = serve(q);

		if (f.done != f.taken)
			weigh(q, true, 1);
	}
	loop_leave(io);
	return live;
}

bool transport_kick(struct transport *t, uint32_t index)
{
	struct transport_queue *q;

	if (index >= t->cfg.dev->queue_count)
		return false;
	q = &t->queues[index];
	if (atomic_load(&q->deep))
		bind_as_wanted(q);
	else if (atomic_fetch_add(&q->exits, 1) % SAMPLE != SAMPLE - 1 && serve_here(q))
		return true;
	transport_ring(q->setup.kick);
	return true;
}
