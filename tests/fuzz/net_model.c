// SPDX-License-Identifier: MIT
// What virtio-net must do.
#include "tests/fuzz/net_model.h"

#include "base/util.h"
#include "net/port.h"

void model_reset(struct model *m, const uint8_t mac[6])
{
	*m = (struct model){.features = m->features,
		.pairs_max = m->pairs_max,
		.mtu = m->mtu,
		.up = m->up,
		.mode = 1u << VIRTIO_NET_CTRL_RX_PROMISC,
		.pairs = 1,
		.offloads = UINT64_MAX};
	memcpy(m->mac, mac, 6);
}

/* ---- towards the guest ---- */

static bool in_table(const struct model *m, bool group, const uint8_t *mac)
{
	for (unsigned i = 0; i < m->count[group]; i++)
		if (!memcmp(m->table[group][i], mac, 6))
			return true;
	return m->count[group] > 64;
}

static bool has_mode(const struct model *m, unsigned mode)
{
	return m->mode >> mode & 1;
}

bool model_takes(const struct model *m, const uint8_t frame[MODEL_PEEK])
{
	unsigned vlan = (frame[14] & 0xfu) << 8 | frame[15];

	if (model_has(m, VIRTIO_NET_F_CTRL_VLAN) && frame[12] == 0x81 && frame[13] == 0 &&
		!(m->vlan[vlan / 8] >> vlan % 8 & 1))
		return false;
	if (has_mode(m, VIRTIO_NET_CTRL_RX_PROMISC))
		return true;
	if (!memcmp(frame, "\xff\xff\xff\xff\xff\xff", 6))
		return !has_mode(m, VIRTIO_NET_CTRL_RX_NOBCAST);
	if (frame[0] & 1)
		return !has_mode(m, VIRTIO_NET_CTRL_RX_NOMULTI) &&
		       (has_mode(m, VIRTIO_NET_CTRL_RX_ALLMULTI) || in_table(m, true, frame));
	return !has_mode(m, VIRTIO_NET_CTRL_RX_NOUNI) &&
	       (has_mode(m, VIRTIO_NET_CTRL_RX_ALLUNI) || in_table(m, false, frame) ||
		       !memcmp(m->mac, frame, 6));
}

uint32_t model_longest(const struct model *m)
{
	uint64_t on = m->offloads & m->features;
	uint64_t gso = MODEL_F(GUEST_TSO4) | MODEL_F(GUEST_TSO6) | MODEL_F(GUEST_UFO) |
		       1ull << NET_F_GUEST_USO4 | 1ull << NET_F_GUEST_USO6;

	return NET_HEADER + (on & MODEL_F(GUEST_CSUM) && on & gso ? NET_FRAME_MAX : m->mtu + 18);
}

/* ---- from the guest ---- */

static const struct {
	uint8_t type;
	unsigned feature;
} segmentations[] = {
	{VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_HOST_TSO4},
	{VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_HOST_TSO6},
	{VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_F_HOST_UFO},
	{NET_HDR_GSO_UDP_L4, NET_F_HOST_USO},
};

static bool may_segment(const struct model *m, const struct virtio_net_hdr_v1 *h)
{
	bool known = false;

	for (unsigned i = 0; i < ARRAY_SIZE(segmentations); i++)
		known |= (h->gso_type & 0x7f) == segmentations[i].type &&
			 model_has(m, segmentations[i].feature);
	return known && h->gso_size &&
	       (!(h->gso_type & VIRTIO_NET_HDR_GSO_ECN) || model_has(m, VIRTIO_NET_F_HOST_ECN));
}

bool model_sends(const struct model *m, const struct virtio_net_hdr_v1 *h, uint32_t frame,
	struct virtio_net_hdr_v1 *out)
{
	*out = (struct virtio_net_hdr_v1){0};
	if (frame < NET_FRAME_MIN || frame > NET_FRAME_MAX)
		return false;
	if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		if (!model_has(m, VIRTIO_NET_F_CSUM) || h->csum_start + h->csum_offset + 2u > frame)
			return false;
		out->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		out->csum_start = h->csum_start;
		out->csum_offset = h->csum_offset;
	}
	if (!h->gso_type)
		return true;
	out->gso_type = h->gso_type;
	out->gso_size = h->gso_size;
	out->hdr_len = h->hdr_len;
	return out->flags && may_segment(m, h) && h->hdr_len <= frame;
}

/* ---- commands ---- */

static bool set_mode(struct model *m, unsigned command, const uint8_t *data)
{
	if (command > VIRTIO_NET_CTRL_RX_NOBCAST ||
		(command > VIRTIO_NET_CTRL_RX_ALLMULTI &&
			!model_has(m, VIRTIO_NET_F_CTRL_RX_EXTRA)))
		return false;
	m->mode = (uint8_t)((m->mode & ~(1u << command)) | (data[0] ? 1u << command : 0));
	return true;
}

static bool set_mac(struct model *m, unsigned command, const uint8_t *data)
{
	if (command == VIRTIO_NET_CTRL_MAC_ADDR_SET && model_has(m, VIRTIO_NET_F_CTRL_MAC_ADDR)) {
		memcpy(m->mac, data, 6);
		return true;
	}
	if (command != VIRTIO_NET_CTRL_MAC_TABLE_SET || !model_has(m, VIRTIO_NET_F_CTRL_RX))
		return false;
	for (unsigned i = 0; i < 2; i++) {
		m->count[i] = get_le32(data);
		memcpy(m->table[i], data + 4, 6 * m->count[i]);
		data += 4 + 6 * m->count[i];
	}
	return true;
}

static bool set_vlan(struct model *m, unsigned command, const uint8_t *data)
{
	unsigned id = get_le16(data);

	if (command > VIRTIO_NET_CTRL_VLAN_DEL || id > 4095)
		return false;
	m->vlan[id / 8] &= (uint8_t) ~(1u << id % 8);
	if (command == VIRTIO_NET_CTRL_VLAN_ADD)
		m->vlan[id / 8] |= (uint8_t)(1u << id % 8);
	return true;
}

static bool announced(struct model *m, unsigned command, const uint8_t *data)
{
	if (command != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
		return false;
	m->announce = false;
	return true;
}

static bool set_pairs(struct model *m, unsigned command, const uint8_t *data)
{
	unsigned pairs = get_le16(data);

	if (command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !pairs || pairs > m->pairs_max)
		return false;
	m->pairs = pairs;
	return true;
}

static bool set_offloads(struct model *m, unsigned command, const uint8_t *data)
{
	uint64_t all = MODEL_F(GUEST_CSUM) | MODEL_F(GUEST_TSO4) | MODEL_F(GUEST_TSO6) |
		       MODEL_F(GUEST_ECN) | MODEL_F(GUEST_UFO) | 1ull << NET_F_GUEST_USO4 |
		       1ull << NET_F_GUEST_USO6;

	if (command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || get_le64(data) & ~(all & m->features))
		return false;
	m->offloads = get_le64(data);
	return true;
}

static const struct {
	unsigned feature;
	bool (*run)(struct model *m, unsigned command, const uint8_t *data);
} classes[] = {
	{VIRTIO_NET_F_CTRL_RX, set_mode},
	{VIRTIO_NET_F_CTRL_VQ, set_mac},
	{VIRTIO_NET_F_CTRL_VLAN, set_vlan},
	{VIRTIO_NET_F_GUEST_ANNOUNCE, announced},
	{VIRTIO_NET_F_MQ, set_pairs},
	{VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, set_offloads},
};

bool model_command(struct model *m, const uint8_t *command)
{
	return command[0] < ARRAY_SIZE(classes) && model_has(m, classes[command[0]].feature) &&
	       classes[command[0]].run(m, command[1], command + 2);
}
