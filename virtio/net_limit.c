// SPDX-License-Identifier: MIT
// virtio-net: how much a NIC sends and receives in a second. What may not pass yet stays where it
// is: in the guest's queue, or at the other end.
#include "virtio/net_private.h"

#include "base/util.h"

static void opens(void *arg)
{
	struct vnet_gate *g = arg;

	g->shut = false;
	if (g->v->started)
		virtio_net_serve(g->v);
}

bool virtio_net_look_at_gate(struct vnet_gate *g)
{
	uint64_t now, bytes, packets;

	if (g->shut)
		return false;
	now = now_ns();
	bytes = bucket_wait(&g->bytes, now);
	packets = bucket_wait(&g->packets, now);
	if (!bytes && !packets)
		return true;
	g->shut = true;
	loop_arm(g->v->dev.io, &g->timer, MAX(bytes, packets));
	return false;
}

void virtio_net_pay(struct vnet_gate *g, size_t bytes)
{
	bucket_pay(&g->bytes, bytes);
	bucket_pay(&g->packets, 1);
}

static void set_gate(struct vnet_gate *g, const struct net_rate *r)
{
	const struct bucket_rate bytes = {r->bandwidth, r->bandwidth_burst};
	const struct bucket_rate packets = {r->packets, r->packets_burst};
	uint64_t now = now_ns();

	bucket_set(&g->bytes, &bytes, now);
	bucket_set(&g->packets, &packets, now);
	g->limited = r->bandwidth || r->packets;
}

void virtio_net_set_limits(struct virtio_device *dev, const struct net_limits *limits)
{
	struct vnet *v = container_of(dev, struct vnet, dev);

	set_gate(&v->tx, &limits->tx);
	set_gate(&v->rx, &limits->rx);
	loop_disarm(dev->io, &v->tx.timer);
	loop_disarm(dev->io, &v->rx.timer);
	v->tx.shut = v->rx.shut = false;
	if (v->port.end.vhosts)
		virtio_restart(dev);
	else if (v->started)
		virtio_net_serve(v);
}

void virtio_net_init_limits(struct vnet *v, const struct net_limits *limits)
{
	v->tx = (struct vnet_gate){.v = v, .timer = TIMER_INIT(opens, &v->tx)};
	v->rx = (struct vnet_gate){.v = v, .timer = TIMER_INIT(opens, &v->rx)};
	set_gate(&v->tx, &limits->tx);
	set_gate(&v->rx, &limits->rx);
}
