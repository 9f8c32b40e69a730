// SPDX-License-Identifier: MIT
// The part of a transport that runs on the device's loop: queues come up and go down, kicks and
// interrupts pass.
#include "virtio/transport_priv.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void transport_ring(int fd)
{
	uint64_t one = 1;

	/* EAGAIN: it is rung already. */
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("a queue's doorbell: %s", strerror(errno));
}

/* Each ring of it is an edge of its own: what it has counted need not be read. */
static void kicked(void *arg, uint32_t events)
{
	transport_kicked(arg);
}

static void raise_queue(void *arg, unsigned index)
{
	struct transport *t = arg;

	t->cfg.ops->queue_interrupt(t->cfg.arg, index);
}

static void queue_broken(void *arg, const char *why)
{
	struct transport *t = arg;

	virtio_broken(t->cfg.dev, "%s", why);
}

static void needs_reset(void *arg)
{
	struct transport *t = arg;

	atomic_store(&t->needs_reset, true);
	t->cfg.ops->config_interrupt(t->cfg.arg);
}

static void config_changed(void *arg)
{
	struct transport *t = arg;

	if (t->running)
		t->cfg.ops->config_interrupt(t->cfg.arg);
	else
		t->config_pending = true;
}

static void kick_again(void *arg, unsigned index)
{
	struct transport *t = arg;

	transport_ring(t->queues[index].setup.kick);
}

static int start_queue(struct transport_queue *q)
{
	struct transport *t = q->t;
	struct virtio_device *dev = t->cfg.dev;
	int rc = queue_start(
		&dev->queues[q->index], t->cfg.mem, &q->setup, dev->features, &t->host.queue);

	return rc < 0 ? rc : loop_add(t->cfg.io, &q->watch, q->setup.kick, EPOLLIN | EPOLLET);
}

static void stop_queue(struct transport_queue *q)
{
	loop_del(q->t->cfg.io, &q->watch);
	if (q->t->cfg.dev->queues[q->index].size)
		queue_stop(&q->t->cfg.dev->queues[q->index], &q->setup);
}

static int lend(void *arg, unsigned count, struct queue_setup **setups)
{
	struct transport *t = arg;
	int fds[VIRTIO_QUEUES_MAX], rc;

	if (!t->cfg.ops->connect)
		return fail(ENOTSUP, "only on PCI can queues be handed over");
	rc = t->cfg.ops->connect(t->cfg.arg, count, fds);
	if (rc < 0)
		return rc;
	for (t->lent = 0; t->lent < count; t->lent++) {
		struct transport_queue *q = &t->queues[t->lent];

		stop_queue(q);
		atomic_store(&q->deep, true);
		q->setup.call = fds[t->lent];
		setups[t->lent] = &q->setup;
	}
	return 0;
}

/* What their owner has let go. */
static void take_back(struct transport *t)
{
	t->cfg.ops->disconnect(t->cfg.arg);
	while (t->lent)
		t->queues[--t->lent].setup.call = -1;
}

/* They were started a moment ago, and nothing of them has changed but what the driver can. */
static void unlend(void *arg)
{
	struct transport *t = arg;
	unsigned count = t->lent;

	take_back(t);
	for (unsigned i = 0; i < count; i++)
		if (start_queue(&t->queues[i]) < 0)
			virtio_broken(t->cfg.dev, "queue %u: %s", i, last_error());
}

static void restart(void *arg)
{
	struct transport *t = arg;

	if (!t->running)
		return;
	transport_take_down(t);
	if (!atomic_load(&t->needs_reset))
		transport_bring_up(t);
}

const struct virtio_host transport_host = {
	.queue = {.raise = raise_queue, .broken = queue_broken},
	.needs_reset = needs_reset,
	.config_changed = config_changed,
	.kick_again = kick_again,
	.lend = lend,
	.unlend = unlend,
	.restart = restart,
};

static void stop_queues(struct transport *t)
{
	if (t->lent)
		take_back(t);
	for (unsigned i = 0; i < t->cfg.dev->queue_count; i++)
		stop_queue(&t->queues[i]);
}

void transport_bring_up(void *arg)
{
	struct transport *t = arg;
	struct virtio_device *dev = t->cfg.dev;

	for (unsigned i = 0; i < dev->queue_count; i++) {
		if (!t->queues[i].ready || start_queue(&t->queues[i]) == 0)
			continue;
		virtio_broken(dev, "queue %u: %s", i, last_error());
		stop_queues(t);
		return;
	}
	t->running = true;
	if (dev->ops->start)
		dev->ops->start(dev);
	if (t->config_pending)
		t->cfg.ops->config_interrupt(t->cfg.arg);
	t->config_pending = false;
	/* Buffers may have been made available before anybody listened. */
	for (unsigned i = 0; i < dev->queue_count; i++)
		if (t->queues[i].ready)
			transport_ring(t->queues[i].setup.kick);
}

void transport_take_down(void *arg)
{
	struct transport *t = arg;

	if (!t->running)
		return;
	if (t->cfg.dev->ops->stop)
		t->cfg.dev->ops->stop(t->cfg.dev);
	stop_queues(t);
	t->running = false;
}

/* But for its doorbell, which is not even written as it is: vCPUs ring it meanwhile, and as a whole
 * compilers make it 0 first. */
static void forget_queue(struct transport_queue *q)
{
	struct queue_setup *s = &q->setup;

	q->ready = false;
	s->size = q->t->cfg.dev->queue_max[q->index];
	s->desc = s->avail = s->used = 0;
	s->next_avail = s->next_used = 0;
	s->call = -1;
}

void transport_init_queue(struct transport *t, unsigned index, int kick)
{
	struct transport_queue *q = &t->queues[index];

	*q = (struct transport_queue){
		.t = t,
		.index = index,
		.watch = WATCH_INIT(kicked, q),
		.patience = TRANSPORT_PATIENCE,
		.setup.kick = kick,
	};
	forget_queue(q);
}

void transport_forget(void *arg)
{
	struct transport *t = arg;
	struct virtio_device *dev = t->cfg.dev;

	transport_take_down(t);
	if (dev->ops->reset)
		dev->ops->reset(dev);
	dev->features = 0;
	for (unsigned i = 0; i < dev->queue_count; i++)
		forget_queue(&t->queues[i]);
	t->config_pending = false;
	atomic_store(&t->needs_reset, false);
	t->cfg.ops->reset(t->cfg.arg);
}

void transport_retire_queue(void *arg)
{
	struct transport_queue *q = arg;
	struct transport *t = q->t;

	transport_take_down(t);
	q->ready = false;
	if (!atomic_load(&t->needs_reset))
		transport_bring_up(t);
}

void transport_detach(void *arg)
{
	struct transport *t = arg;

	transport_take_down(t);
	t->cfg.dev->host = NULL;
}
