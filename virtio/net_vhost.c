// SPDX-License-Identifier: MIT
// virtio-net: the kernel as the owner of the queues (net/vhost.h).
//
// Whose they are is decided when the device starts, and again whenever something has changed that
// the kernel does not do: then it is stopped and started unknown to the driver (virtio_restart).
// All pairs that the driver has set up go, or none; those not in use have no tap. The control
// queue stays here. What the filter asks for the tap does, as far as it can: VLANs it does not tell
// apart, and more than 8 single addresses, or a mode without some kind of packets, it leaves to the
// driver.
#include "virtio/net_private.h"

#include "base/log.h"
#include "base/util.h"
#include "hw/mem.h"

#include <linux/vhost_types.h>
#include <poll.h>
#include <sys/eventfd.h>

static unsigned ready_pairs(struct vnet *v)
{
	unsigned n = 0;

	while (n < v->port.end.vhosts && queue_live(virtio_net_rx_queue(&v->pair[n])) &&
		queue_live(virtio_net_tx_queue(&v->pair[n])))
		n++;
	return n;
}

/* ---- a pair ---- */

static struct vhost *vhost_of(const struct vnet_pair *p)
{
	return &p->v->port.end.vhost[p->index];
}

/* The areas have been found in RAM when the queue was started. */
static struct vhost_ring ring_of(const struct vnet *v, const struct queue_setup *s)
{
	return (struct vhost_ring){
		.size = s->size,
		.next = s->next_avail,
		.desc = mem_get(v->dev.mem, s->desc, 1),
		.avail = mem_get(v->dev.mem, s->avail, 1),
		.used = mem_get(v->dev.mem, s->used, 1),
		.kick = s->kick,
		.call = s->call,
	};
}

/* The kernel does not say why. */
static bool tap_is_gone(const struct vnet_pair *p)
{
	struct pollfd tap = {.fd = p->v->port.end.fd[p->index]};

	return poll(&tap, 1, 0) > 0 && tap.revents & (POLLERR | POLLHUP);
}

static void vhost_failed(void *arg, uint32_t events)
{
	struct vnet_pair *p = arg;

	if (tap_is_gone(p)) {
		virtio_net_end_gone(p->v);
		return;
	}
	loop_del(p->v->dev.io, &p->vhost_error);
	virtio_broken(&p->v->dev, "the kernel cannot go on with queues %u and %u", 2 * p->index,
		2 * p->index + 1);
	virtio_net_halt(p->v, 0);
}

static int lend_pair(struct vnet_pair *p)
{
	struct vnet *v = p->v;
	unsigned regions;
	const struct mem_region *r = mem_regions(v->dev.mem, &regions);
	struct vhost_memory_region memory[2] = {0};
	const struct vhost_ring rings[2] = {
		ring_of(v, v->setup[2 * p->index]), ring_of(v, v->setup[2 * p->index + 1])};
	int rc;

	for (unsigned i = 0; i < regions; i++)
		memory[i] = (struct vhost_memory_region){.guest_phys_addr = r[i].gpa,
			.memory_size = r[i].size,
			.userspace_addr = (uintptr_t)r[i].host};
	p->vhost_error = WATCH_INIT(vhost_failed, p);
	rc = vhost_start(vhost_of(p), v->dev.features, memory, regions, rings, -1);
	return rc ? rc : loop_add(v->dev.io, &p->vhost_error, vhost_of(p)->error, EPOLLIN);
}

/* Where the kernel was in a ring it says itself, and the ring how much of it is used. */
static void take_pair_back(struct vnet_pair *p)
{
	struct queue_setup **s = &p->v->setup[2 * p->index];
	uint16_t next[2] = {s[0]->next_avail, s[1]->next_avail};
	eventfd_t told;

	vhost_stop(vhost_of(p), next);
	loop_del(p->v->dev.io, &p->vhost_error);
	eventfd_read(vhost_of(p)->error, &told);
	for (unsigned i = 0; i < 2; i++) {
		s[i]->next_avail = next[i];
		mem_read(p->v->dev.mem, s[i]->used + offsetof(struct vring_used, idx),
			&s[i]->next_used, sizeof(s[i]->next_used));
	}
}

/* ---- all of them ---- */

void virtio_net_halt(struct vnet *v, unsigned first)
{
	for (unsigned i = first; i < v->lent; i++)
		if (vhost_attach(vhost_of(&v->pair[i]), -1) && virtio_net_may_say(v))
			log_warn("%s: %s", v->dev.name, last_error());
}

/* The monitor listens for errors of the tap alone. */
int virtio_net_go_on(struct vnet *v)
{
	int rc = 0;

	for (unsigned i = 0; i < MIN(v->lent, v->active) && !rc; i++) {
		virtio_net_watch(&v->pair[i], 0);
		rc = vhost_attach(vhost_of(&v->pair[i]), v->port.end.fd[i]);
	}
	return rc;
}

void virtio_net_take_back(struct vnet *v)
{
	while (v->lent)
		take_pair_back(&v->pair[--v->lent]);
	if (v->port.end.vhosts)
		port_set_filter(&v->port, NULL, 0, false);
}

static int lend(struct vnet *v, unsigned pairs)
{
	int rc = virtio_lend(&v->dev, 2 * pairs, v->setup);

	if (rc)
		return rc;
	while (v->lent < pairs && !rc)
		rc = lend_pair(&v->pair[v->lent++]);
	rc = rc ? rc : virtio_net_go_on(v);
	if (!rc)
		return 0;
	virtio_net_take_back(v);
	virtio_unlend(&v->dev);
	return rc;
}

void virtio_net_lend(struct vnet *v)
{
	unsigned pairs = ready_pairs(v);
	int rc;

	if (!pairs || !v->link_up || v->dead)
		return;
	if (v->tx.limited || v->rx.limited) {
		if (virtio_net_may_say(v))
			log_info("%s: its packets go through the monitor, as vhost knows no limits",
				v->dev.name);
		return;
	}
	rc = lend(v, pairs);
	if (!rc)
		virtio_net_hand_on_filter(v);
	else if (virtio_net_may_say(v))
		log_warn("%s: its packets go through the monitor, not vhost: %s", v->dev.name,
			last_error());
}

/* ---- the filter ---- */

struct addresses {
	uint8_t mac[2 * VNET_MACS + 2][6];
	unsigned count;
};

static void add(struct addresses *a, const void *macs, unsigned count)
{
	memcpy(a->mac[a->count], macs, 6 * (size_t)count);
	a->count += count;
}

void virtio_net_hand_on_filter(struct vnet *v)
{
	static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const struct vnet_filter *f = &v->filter;
	const unsigned all = 1u << VIRTIO_NET_CTRL_RX_PROMISC | 1u << VIRTIO_NET_CTRL_RX_ALLUNI;
	struct addresses a = {0};

	if (!v->lent)
		return;
	if (!(f->mode & all) && !f->table[false].overflow) {
		add(&a, v->dev.config, 1);
		add(&a, f->table[false].mac, f->table[false].count);
		add(&a, everybody, 1);
		add(&a, f->table[true].mac, f->table[true].count);
	}
	port_set_filter(&v->port, a.mac, a.count,
		f->table[true].overflow || f->mode & 1u << VIRTIO_NET_CTRL_RX_ALLMULTI);
}
