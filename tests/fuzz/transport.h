// SPDX-License-Identifier: MIT
// What fuzzers of virtio devices have in place of a transport: queues over the rings of a driver
// that is theirs, and a host that notes what the device asks for.
#ifndef TESTS_FUZZ_TRANSPORT_H
#define TESTS_FUZZ_TRANSPORT_H

#include "tests/unit/driver.h"

#include "virtio/device.h"

#include <stdlib.h>

#define TRANSPORT_QUEUES 9u /* the most that a device has */

struct transport {
	struct virtio_device *dev;
	struct mem *mem;
	unsigned queues;
	struct driver q[TRANSPORT_QUEUES];
	struct queue_setup setup[TRANSPORT_QUEUES];
	bool kick_again[TRANSPORT_QUEUES];
	bool hostile; /* the driver does not keep to the rules */
	bool broken;  /* the device needs a reset, which only a hostile driver brings about */
	struct virtio_host host;
};

static inline void check(bool ok)
{
	if (!ok)
		abort();
}

static inline void transport_raise_(void *arg, unsigned index)
{
}

static inline void transport_nothing_(void *arg)
{
}

static inline void transport_queue_broken_(void *arg, const char *why)
{
	struct transport *t = arg;

	check(t->hostile);
	virtio_broken(t->dev, "%s", why);
}

static inline void transport_needs_reset_(void *arg)
{
	struct transport *t = arg;

	check(t->hostile);
	t->broken = true;
}

static inline void transport_kick_again_(void *arg, unsigned index)
{
	struct transport *t = arg;

	t->kick_again[index] = true;
}

/* t->dev, t->mem and t->queues are set before. */
static inline void transport_attach(struct transport *t, struct loop *loop)
{
	t->host = (struct virtio_host){
		.queue = {.raise = transport_raise_, .broken = transport_queue_broken_, .arg = t},
		.needs_reset = transport_needs_reset_,
		.config_changed = transport_nothing_,
		.kick_again = transport_kick_again_,
	};
	t->dev->mem = t->mem;
	t->dev->io = loop;
	t->dev->host = &t->host;
}

/* New rings of `size`, `room` bytes apart, as a reset makes them. */
static inline void transport_renew(struct transport *t, uint64_t base, uint64_t room, uint16_t size)
{
	for (unsigned i = 0; i < t->queues; i++) {
		driver_init(&t->q[i], t->mem, base + room * i, size, 0);
		t->setup[i] = t->q[i].setup;
	}
	t->broken = false;
}

static inline void transport_up(struct transport *t)
{
	for (unsigned i = 0; i < t->queues; i++) {
		t->kick_again[i] = true;
		check(queue_start(&t->dev->queues[i], t->mem, &t->setup[i], t->dev->features,
			      &t->host.queue) == 0);
	}
	t->dev->ops->start(t->dev);
}

static inline void transport_down(struct transport *t)
{
	t->dev->ops->stop(t->dev);
	for (unsigned i = 0; i < t->queues; i++)
		queue_stop(&t->dev->queues[i], &t->setup[i]);
}

/* Whatever is ready has its turn. */
static inline void transport_kick(struct transport *t)
{
	for (unsigned i = 0; i < t->queues; i++)
		if (t->kick_again[i]) {
			t->kick_again[i] = false;
			t->dev->ops->kick(t->dev, i);
		}
}

#endif
