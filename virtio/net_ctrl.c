// SPDX-License-Identifier: MIT
// virtio-net's control queue (virtio 1.2, 5.1.6.5), and the filter that it sets.
//
// A command is a class, a number, data, and a byte for the answer. Whatever is not as it should be,
// or of a feature that was not negotiated, is answered with an error and changes nothing.
#include "virtio/net_private.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>

/* The data of a command: what is left of the chain's readable part. */
struct data {
	const struct queue_elem *e;
	size_t off;
	bool bad; /* more was asked for than there is */
};

static void take(struct data *d, void *buf, size_t len)
{
	memset(buf, 0, len);
	if (iov_read(d->e->iov, d->e->out_n, d->off, buf, len) < len)
		d->bad = true;
	d->off += len;
}

static size_t left_of(const struct data *d)
{
	return d->e->out_len - MIN(d->off, d->e->out_len);
}

static bool ends(const struct data *d)
{
	return !d->bad && !left_of(d);
}

/* ---- the filter ---- */

/* A driver that knows nothing of it gets everything. */
void virtio_net_reset_filter(struct vnet_filter *f)
{
	*f = (struct vnet_filter){.mode = 1u << VIRTIO_NET_CTRL_RX_PROMISC};
}

static bool is_in(const struct vnet_filter *f, bool group, const uint8_t mac[6])
{
	for (uint32_t i = 0; i < f->table[group].count; i++)
		if (!memcmp(f->table[group].mac[i], mac, 6))
			return true;
	return f->table[group].overflow;
}

static bool takes_vlan(const struct vnet *v, const uint8_t *frame)
{
	uint16_t vlan = (uint16_t)((frame[14] & 0xf) << 8 | frame[15]);

	if (frame[12] != 0x81 || frame[13] != 0 ||
		!virtio_has_feature(&v->dev, VIRTIO_NET_F_CTRL_VLAN))
		return true;
	return v->filter.vlan[vlan / 8] >> vlan % 8 & 1;
}

bool virtio_net_takes(const struct vnet *v, const uint8_t frame[VNET_PEEK])
{
	static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const struct vnet_filter *f = &v->filter;
	bool group = frame[0] & 1;
	uint8_t all = 1u << (group ? VIRTIO_NET_CTRL_RX_ALLMULTI : VIRTIO_NET_CTRL_RX_ALLUNI);
	uint8_t none = 1u << (group ? VIRTIO_NET_CTRL_RX_NOMULTI : VIRTIO_NET_CTRL_RX_NOUNI);

	if (!takes_vlan(v, frame))
		return false;
	if (f->mode & 1u << VIRTIO_NET_CTRL_RX_PROMISC)
		return true;
	if (!memcmp(frame, everybody, 6))
		return !(f->mode & 1u << VIRTIO_NET_CTRL_RX_NOBCAST);
	if (f->mode & none)
		return false;
	if (f->mode & all || is_in(f, group, frame))
		return true;
	return !group && !memcmp(frame, v->dev.config, 6);
}

/* ---- commands; each returns whether it is done ---- */

/* A mode's number is its bit. */
static bool set_mode(struct vnet *v, uint8_t command, struct data *d)
{
	uint8_t on;

	take(d, &on, 1);
	if (!ends(d) || command > VIRTIO_NET_CTRL_RX_NOBCAST ||
		(command > VIRTIO_NET_CTRL_RX_ALLMULTI &&
			!virtio_has_feature(&v->dev, VIRTIO_NET_F_CTRL_RX_EXTRA)))
		return false;
	v->filter.mode &= (uint8_t) ~(1u << command);
	if (on)
		v->filter.mode |= (uint8_t)(1u << command);
	return true;
}

/* More than there is room for are remembered as all of that kind. */
static bool take_table(struct vnet_filter *f, bool group, struct data *d)
{
	uint32_t count;

	take(d, &count, sizeof(count));
	if (d->bad || count > left_of(d) / 6)
		return false;
	f->table[group].overflow = count > VNET_MACS;
	f->table[group].count = MIN(count, VNET_MACS);
	for (uint32_t i = 0; i < f->table[group].count; i++)
		take(d, f->table[group].mac[i], 6);
	d->off += 6 * (size_t)(count - f->table[group].count);
	return true;
}

static bool set_tables(struct vnet *v, struct data *d)
{
	struct vnet_filter f = v->filter;

	if (!take_table(&f, false, d) || !take_table(&f, true, d) || !ends(d))
		return false;
	v->filter = f;
	return true;
}

static bool set_address(struct vnet *v, struct data *d)
{
	uint8_t mac[6];

	take(d, mac, sizeof(mac));
	if (!ends(d))
		return false;
	virtio_config_set(&v->dev, offsetof(struct virtio_net_config, mac), mac, sizeof(mac));
	return true;
}

/*
 * A feature each. CTRL_MAC_ADDR needs no CTRL_RX (5.1.3.1), and Linux sets its address with it
 * alone, although 5.1.6.5.2 tells drivers to have CTRL_RX for the whole class.
 */
static bool set_mac(struct vnet *v, uint8_t command, struct data *d)
{
	if (command == VIRTIO_NET_CTRL_MAC_TABLE_SET)
		return virtio_has_feature(&v->dev, VIRTIO_NET_F_CTRL_RX) && set_tables(v, d);
	return command == VIRTIO_NET_CTRL_MAC_ADDR_SET &&
	       virtio_has_feature(&v->dev, VIRTIO_NET_F_CTRL_MAC_ADDR) && set_address(v, d);
}

static bool set_vlan(struct vnet *v, uint8_t command, struct data *d)
{
	uint16_t vlan;

	take(d, &vlan, sizeof(vlan));
	if (!ends(d) || vlan >= VNET_VLANS || command > VIRTIO_NET_CTRL_VLAN_DEL)
		return false;
	if (command == VIRTIO_NET_CTRL_VLAN_ADD)
		v->filter.vlan[vlan / 8] |= (uint8_t)(1u << vlan % 8);
	else
		v->filter.vlan[vlan / 8] &= (uint8_t) ~(1u << vlan % 8);
	return true;
}

static bool announced(struct vnet *v, uint8_t command, struct data *d)
{
	if (!ends(d) || command != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
		return false;
	v->announce = false;
	virtio_net_tell_status(v);
	return true;
}

static bool set_pairs(struct vnet *v, uint8_t command, struct data *d)
{
	uint16_t pairs;

	take(d, &pairs, sizeof(pairs));
	if (!ends(d) || command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !pairs ||
		pairs > v->port.end.pairs)
		return false;
	return virtio_net_use_pairs(v, pairs) == 0;
}

static bool set_offloads(struct vnet *v, uint8_t command, struct data *d)
{
	uint64_t offloads;

	take(d, &offloads, sizeof(offloads));
	if (!ends(d) || command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
		offloads & ~(v->dev.features & VNET_GUEST_OFFLOADS))
		return false;
	v->offloads = offloads;
	virtio_net_apply_offloads(v);
	return true;
}

static const struct {
	unsigned feature;
	bool (*run)(struct vnet *v, uint8_t command, struct data *d);
} classes[] = {
	[VIRTIO_NET_CTRL_RX] = {VIRTIO_NET_F_CTRL_RX, set_mode},
	[VIRTIO_NET_CTRL_MAC] = {VIRTIO_NET_F_CTRL_VQ, set_mac},
	[VIRTIO_NET_CTRL_VLAN] = {VIRTIO_NET_F_CTRL_VLAN, set_vlan},
	[VIRTIO_NET_CTRL_ANNOUNCE] = {VIRTIO_NET_F_GUEST_ANNOUNCE, announced},
	[VIRTIO_NET_CTRL_MQ] = {VIRTIO_NET_F_MQ, set_pairs},
	[VIRTIO_NET_CTRL_GUEST_OFFLOADS] = {VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, set_offloads},
};

static bool run(struct vnet *v, const struct queue_elem *e)
{
	struct data d = {.e = e};
	struct virtio_net_ctrl_hdr h;

	take(&d, &h, sizeof(h));
	return !d.bad && h.class < ARRAY_SIZE(classes) &&
	       virtio_has_feature(&v->dev, classes[h.class].feature) &&
	       classes[h.class].run(v, h.cmd, &d);
}

static bool serve_next(struct vnet *v, struct queue *q)
{
	struct iovec iov[VNET_CHAIN_MAX];
	struct queue_elem e = {.iov = iov, .cap = VNET_CHAIN_MAX};
	uint8_t answer = VIRTIO_NET_OK;

	if (!queue_pop(q, &e))
		return false;
	if (run(v, &e)) {
		virtio_net_hand_on_filter(v);
	} else {
		answer = VIRTIO_NET_ERR;
		guest_error(&v->dev.log, v->dev.name, "a control command that is refused");
	}
	iov_write(e.iov + e.out_n, e.in_n, 0, &answer, 1);
	queue_push(q, &e, MIN(e.in_len, 1));
	return true;
}

void virtio_net_control(struct vnet *v, struct queue *q)
{
	int left = VNET_BUDGET;

	do {
		queue_disable_kicks(q);
		while (left > 0 && serve_next(v, q))
			left--;
	} while (queue_enable_kicks(q) && left > 0);
	queue_notify(q);
	if (!queue_live(q))
		virtio_net_halt(v, 0);
	if (left == 0)
		virtio_kick_again(&v->dev, q->index);
}
