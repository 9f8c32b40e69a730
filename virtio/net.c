// SPDX-License-Identifier: MIT
// virtio-net: the device. Packets are in net_rx.c and net_tx.c, commands in net_ctrl.c.
//
// Queues 2i and 2i + 1 are pair i, which receives and sends through descriptor i of the port. The
// control queue comes after the last pair, or after the first where the driver knows of no more
// (virtio 1.2, 5.1.2). Pairs past those in use are neither read from nor written to.
#include "virtio/net_private.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>

#define OWN_FEATURES                                                                               \
	(VNET_BIT(VIRTIO_NET_F_MAC) | VNET_BIT(VIRTIO_NET_F_STATUS) |                              \
		VNET_BIT(VIRTIO_NET_F_MRG_RXBUF) | VNET_BIT(VIRTIO_NET_F_CTRL_VQ) |                \
		VNET_BIT(VIRTIO_NET_F_CTRL_RX) | VNET_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |            \
		VNET_BIT(VIRTIO_NET_F_CTRL_VLAN) | VNET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |          \
		VNET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))

/* Neither receiving ones nor, whatever its number, that of commands. */
#define SENDING_QUEUES 0xaaaaaaaaaaaaaaaaull

#define CONFIG_LEN offsetof(struct virtio_net_config, speed)

static struct vnet *vnet_of(struct virtio_device *dev)
{
	return container_of(dev, struct vnet, dev);
}

/* ---- the link ---- */

void virtio_net_tell_status(struct vnet *v)
{
	const unsigned off = offsetof(struct virtio_net_config, status);
	bool announce = v->announce && virtio_has_feature(&v->dev, VIRTIO_NET_F_GUEST_ANNOUNCE);
	uint16_t status = 0;

	if (v->link_up && !v->dead)
		status |= VIRTIO_NET_S_LINK_UP;
	if (announce)
		status |= VIRTIO_NET_S_ANNOUNCE;
	if (memcmp(v->dev.config + off, &status, sizeof(status)) != 0)
		virtio_config_set(&v->dev, off, &status, sizeof(status));
}

static void unwatch(struct vnet_pair *p)
{
	loop_del(p->v->dev.io, &p->watch);
	p->wants = 0;
}

void virtio_net_watch(struct vnet_pair *p, uint32_t events)
{
	int rc = 0;

	if (p->v->dead)
		return;
	if (p->watch.fd < 0)
		rc = loop_add(p->v->dev.io, &p->watch, p->v->port.end.fd[p->index], events);
	else if (p->wants != events)
		rc = loop_mod(p->v->dev.io, &p->watch, events);
	p->wants = events;
	if (rc)
		log_error("%s: %s", p->v->dev.name, last_error());
}

/* What the guest sends from now on is dropped, also what waits to be sent. */
void virtio_net_lose(struct virtio_device *dev)
{
	struct vnet *v = vnet_of(dev);

	v->dead = true;
	for (unsigned i = 0; i < v->port.end.pairs; i++) {
		unwatch(&v->pair[i]);
		if (v->started)
			virtio_kick_again(dev, 2 * i + 1);
	}
	virtio_net_tell_status(v);
}

/* Of another end than a tap who has started it tells. */
void virtio_net_is_dead(struct vnet *v)
{
	char what[IFNAMSIZ + 40];

	if (v->dead)
		return;
	virtio_net_lose(&v->dev);
	snprintf(what, sizeof(what), "tap %s has gone; its link is down", v->port.end.name);
	if (v->event && v->port.end.tap)
		v->event(v->arg, v->dev.name, what);
}

void virtio_net_record(struct vnet *v, struct iovec *iov, unsigned n, size_t frame)
{
	char what[128];
	int rc = port_record(&v->port, iov, n, frame);

	if (!rc)
		return;
	snprintf(what, sizeof(what), "pcap: %s; nothing more is recorded", strerror(-rc));
	if (v->event)
		v->event(v->arg, v->dev.name, what);
}

/* What the kernel cannot know of is for this device: its queues come back. */
void virtio_net_end_gone(struct vnet *v)
{
	virtio_net_is_dead(v);
	if (v->lent)
		virtio_restart(&v->dev);
}

static void ready(void *arg, uint32_t events)
{
	struct vnet_pair *p = arg;

	if (events & (EPOLLERR | EPOLLHUP)) {
		virtio_net_end_gone(p->v);
		return;
	}
	if (events & EPOLLOUT) {
		virtio_net_watch(p, p->wants & ~(uint32_t)EPOLLOUT);
		virtio_net_send(p);
	}
	if (events & EPOLLIN)
		virtio_net_receive(p);
}

void virtio_net_serve(struct vnet *v)
{
	for (unsigned i = 0; i < v->active; i++) {
		virtio_net_receive(&v->pair[i]);
		virtio_net_send(&v->pair[i]);
	}
}

/* What came in while it was down is not what the guest is to get. */
void virtio_net_set_link(struct virtio_device *dev, bool up)
{
	struct vnet *v = vnet_of(dev);

	if (v->link_up == up)
		return;
	v->link_up = up;
	for (unsigned i = 0; i < v->active; i++)
		if (up)
			port_drain(&v->port, i);
		else if (v->pair[i].watch.fd >= 0)
			virtio_net_watch(&v->pair[i], v->pair[i].wants & ~(uint32_t)EPOLLIN);
	virtio_net_tell_status(v);
	if (v->port.end.vhosts)
		virtio_restart(dev);
	else
		virtio_net_serve(v);
}

enum virtio_net_link virtio_net_link(struct virtio_device *dev)
{
	const struct vnet *v = vnet_of(dev);

	return v->dead ? VIRTIO_NET_LOST : v->link_up ? VIRTIO_NET_UP : VIRTIO_NET_DOWN;
}

/* ---- what the driver sets ---- */

/* All of these the guest can bring about as often as it likes. */
bool virtio_net_may_say(struct vnet *v)
{
	uint64_t now = now_ns();

	if (now < v->quiet_until_ns)
		return false;
	v->quiet_until_ns = now + NSEC_PER_SEC;
	return true;
}

static void say(struct vnet *v)
{
	if (virtio_net_may_say(v))
		log_warn("%s: %s", v->dev.name, last_error());
}

void virtio_net_apply_offloads(struct vnet *v)
{
	uint64_t guest = v->offloads & v->dev.features & VNET_GUEST_OFFLOADS;

	if (!(guest & VNET_BIT(VIRTIO_NET_F_GUEST_CSUM)))
		guest = 0;
	if (port_set_offloads(&v->port, guest))
		say(v);
	v->most = NET_HEADER + (guest & VNET_GUEST_GSO ? NET_FRAME_MAX : v->mtu + 18);
}

/* A queue of a tap is watched only while it is attached: it is in error otherwise. */
static int set_pairs(struct vnet *v, unsigned pairs)
{
	virtio_net_halt(v, pairs);
	for (unsigned i = pairs; i < v->port.end.pairs; i++) {
		virtio_net_put_back(&v->pair[i]);
		unwatch(&v->pair[i]);
	}
	v->active = pairs;
	return v->dead ? 0 : port_set_pairs(&v->port, pairs);
}

int virtio_net_use_pairs(struct vnet *v, unsigned pairs)
{
	int rc = set_pairs(v, pairs);

	rc = rc ? rc : virtio_net_go_on(v);
	if (rc)
		say(v);
	virtio_net_serve(v);
	return rc;
}

/* ---- the device ---- */

static void vnet_start(struct virtio_device *dev)
{
	struct vnet *v = vnet_of(dev);

	v->started = true;
	virtio_net_apply_offloads(v);
	virtio_net_tell_status(v);
	if (set_pairs(v, v->active))
		say(v);
	virtio_net_lend(v);
	virtio_net_serve(v);
}

static void vnet_stop(struct virtio_device *dev)
{
	struct vnet *v = vnet_of(dev);

	v->started = false;
	virtio_net_take_back(v);
	for (unsigned i = 0; i < v->port.end.pairs; i++) {
		virtio_net_put_back(&v->pair[i]);
		unwatch(&v->pair[i]);
	}
}

static void vnet_reset(struct virtio_device *dev)
{
	struct vnet *v = vnet_of(dev);

	virtio_net_reset_filter(&v->filter);
	v->active = 1;
	v->offloads = VNET_GUEST_OFFLOADS;
	v->announce = false;
	virtio_net_tell_status(v);
	virtio_config_set(dev, offsetof(struct virtio_net_config, mac), v->mac, sizeof(v->mac));
}

static unsigned control_queue(const struct vnet *v)
{
	if (!virtio_has_feature(&v->dev, VIRTIO_NET_F_CTRL_VQ))
		return VNET_QUEUES_MAX;
	return virtio_has_feature(&v->dev, VIRTIO_NET_F_MQ) ? 2 * v->port.end.pairs : 2;
}

static void vnet_kick(struct virtio_device *dev, unsigned index)
{
	struct vnet *v = vnet_of(dev);

	if (index == control_queue(v))
		virtio_net_control(v, &v->queue[index]);
	else if (index / 2 >= v->active)
		return;
	else if (index & 1)
		virtio_net_send(&v->pair[index / 2]);
	else
		virtio_net_receive(&v->pair[index / 2]);
}

static void save_filter(const struct vnet_filter *f, struct stream_out *s)
{
	stream_put_u8(s, f->mode);
	for (unsigned i = 0; i < 2; i++) {
		stream_put_u8(s, f->table[i].overflow);
		stream_put_u32(s, f->table[i].count);
		stream_put(s, f->table[i].mac, f->table[i].count * sizeof(f->table[i].mac[0]));
	}
	stream_put(s, f->vlan, sizeof(f->vlan));
}

static void load_filter(struct vnet_filter *f, struct stream_in *s)
{
	*f = (struct vnet_filter){.mode = stream_get_u8(s)};
	for (unsigned i = 0; i < 2 && !s->err; i++) {
		f->table[i].overflow = stream_get_u8(s);
		f->table[i].count = stream_get_u32(s);
		if (f->table[i].count > VNET_MACS) {
			f->table[i].count = 0;
			stream_bad(s, "more addresses than there is room for");
		}
		stream_get(s, f->table[i].mac, f->table[i].count * sizeof(f->table[i].mac[0]));
	}
	stream_get(s, f->vlan, sizeof(f->vlan));
}

static void vnet_save(struct virtio_device *dev, struct stream_out *s)
{
	const struct vnet *v = vnet_of(dev);

	stream_begin(s, "virtio-net", 1);
	stream_put(s, dev->config, sizeof(v->mac));
	stream_put_u8(s, v->link_up);
	stream_put_u16(s, (uint16_t)v->active);
	stream_put_u64(s, v->offloads);
	save_filter(&v->filter, s);
	stream_end(s);
}

/* Where the guest goes on, others are to learn of it: it announces itself. */
static int vnet_load(struct virtio_device *dev, struct stream_in *s)
{
	struct vnet *v = vnet_of(dev);
	uint8_t mac[sizeof(v->mac)];
	int rc = stream_open(s, "virtio-net", 1);

	if (rc < 0)
		return rc;
	stream_get(s, mac, sizeof(mac));
	v->link_up = stream_get_u8(s);
	v->active = stream_get_u16(s);
	v->offloads = stream_get_u64(s) & VNET_GUEST_OFFLOADS;
	load_filter(&v->filter, s);
	if (!s->err && (!v->active || v->active > v->port.end.pairs)) {
		v->active = 1;
		stream_bad(s, "more pairs of queues in use than the device has");
	}
	rc = stream_close(s);
	if (rc)
		return rc;
	v->announce = true;
	virtio_config_set(dev, offsetof(struct virtio_net_config, mac), mac, sizeof(mac));
	virtio_net_tell_status(v);
	return 0;
}

static const struct virtio_ops vnet_ops = {
	.start = vnet_start,
	.stop = vnet_stop,
	.reset = vnet_reset,
	.kick = vnet_kick,
	.save = vnet_save,
	.load = vnet_load,
};

/* ---- birth and death ---- */

static uint64_t offered(const struct virtio_net_args *args)
{
	uint64_t f = OWN_FEATURES | args->end.offers;

	if (args->end.offers & VNET_GUEST_OFFLOADS && args->end.tap)
		f |= VNET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (args->mtu)
		f |= VNET_BIT(VIRTIO_NET_F_MTU);
	if (args->end.pairs > 1)
		f |= VNET_BIT(VIRTIO_NET_F_MQ);
	return f;
}

static void describe(struct vnet *v, const struct virtio_net_args *args)
{
	struct virtio_net_config c = {
		.max_virtqueue_pairs = (uint16_t)args->end.pairs,
		.mtu = (uint16_t)v->mtu,
	};

	memcpy(c.mac, args->mac, sizeof(c.mac));
	memcpy(v->dev.config, &c, CONFIG_LEN);
	virtio_net_tell_status(v);
}

static int make_pairs(struct vnet *v, unsigned count)
{
	v->pair = calloc(count, sizeof(*v->pair)); /* whose pages are touched as they are used */
	for (unsigned i = 0; v->pair && i < count; i++) {
		struct vnet_pair *p = &v->pair[i];

		*p = (struct vnet_pair){.v = v, .index = i, .watch = WATCH_INIT(ready, p)};
		p->spill = malloc(NET_HEADER + MAX(NET_FRAME_MAX, v->mtu + 18) + 1);
		if (!p->spill)
			return -ENOMEM;
	}
	return v->pair ? 0 : -ENOMEM;
}

static void free_all(struct vnet *v, unsigned pairs)
{
	for (unsigned i = 0; v && v->pair && i < pairs; i++)
		free(v->pair[i].spill);
	if (v)
		free(v->pair);
	free(v);
}

int virtio_net_create(struct virtio_device **out, const struct virtio_net_args *args)
{
	struct vnet *v = calloc(1, sizeof(*v));
	struct net_end end = args->end;

	if (v)
		v->mtu = args->mtu ? args->mtu : 1500;
	if (!v || make_pairs(v, end.pairs)) {
		free_all(v, end.pairs);
		port_close(&end);
		return fail(ENOMEM, "%s: no memory", args->name);
	}
	v->port.end = end;
	v->link_up = args->link_up;
	v->active = 1;
	v->offloads = VNET_GUEST_OFFLOADS;
	v->event = args->event;
	v->arg = args->arg;
	memcpy(v->mac, args->mac, sizeof(v->mac));
	virtio_net_reset_filter(&v->filter);
	virtio_net_init_limits(v, &args->limits);
	for (unsigned i = 0; i < 2 * end.pairs + 1; i++)
		v->queue_max[i] = VNET_QUEUE_SIZE;
	v->dev = (struct virtio_device){
		.ops = &vnet_ops,
		.name = args->name,
		.id = VIRTIO_ID_NET,
		.offered = offered(args),
		.queues = v->queue,
		.queue_max = v->queue_max,
		.queue_count = 2 * end.pairs + 1,
		.config_len = CONFIG_LEN,
		.brief = SENDING_QUEUES,
	};
	virtio_device_init(&v->dev);
	describe(v, args);
	*out = &v->dev;
	return 0;
}

void virtio_net_destroy(struct virtio_device *dev)
{
	struct vnet *v;
	unsigned pairs;

	if (!dev)
		return;
	v = vnet_of(dev);
	pairs = v->port.end.pairs;
	if (dev->io) {
		loop_disarm(dev->io, &v->tx.timer);
		loop_disarm(dev->io, &v->rx.timer);
	}
	virtio_device_finish(dev);
	port_close(&v->port.end);
	free_all(v, pairs);
}

void virtio_net_count(struct virtio_device *dev, struct virtio_net_counters *out)
{
	const struct vnet *v = vnet_of(dev);

	*out = (struct virtio_net_counters){.port = v->port.count, .vhost = v->lent > 0};
	for (unsigned i = 0; i < dev->queue_count; i++) {
		out->interrupts += v->queue[i].calls;
		out->spared += v->queue[i].calls_spared;
	}
}
