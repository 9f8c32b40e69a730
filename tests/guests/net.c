// SPDX-License-Identifier: MIT
// A driver for virtio-net that polls.
#include "tests/guests/net.h"

#include "tests/guests/pci.h"

#include <string.h>

static void look(struct net *n)
{
	for (unsigned i = 0; i < sizeof(n->mac); i++)
		n->mac[i] = mmio_read8(virtio_config(&n->v) + i);
}

void net_find(struct net *n)
{
	virtio_find(&n->v, VIRTIO_ID_NET);
	look(n);
}

void net_take(struct net *n, unsigned slot)
{
	CHECK(pci_take_virtio(&n->v, slot, VIRTIO_ID_NET));
	look(n);
}

static void give(struct net *n, unsigned i)
{
	ring_desc(&n->rx, i, n->rx_buffers + i * NET_BUFFER, NET_BUFFER, VRING_DESC_F_WRITE);
	ring_offer(&n->rx, i);
}

void net_start(struct net *n, uint64_t features)
{
	n->features = features & virtio_offered(&n->v);
	if (!n->rx_buffers) {
		n->rx_buffers = alloc(NET_RING * NET_BUFFER, 4096);
		n->tx_buffer = alloc(NET_HEADER + NET_FRAME_MAX + 4096, 4096);
		n->ctrl_data = alloc(4096, 4096);
	}
	virtio_start(&n->v, n->features);
	virtio_queue(&n->v, &n->rx, 0, NET_RING);
	virtio_queue(&n->v, &n->tx, 1, NET_RING);
	if (n->features & NET_F(CTRL_VQ))
		virtio_queue(&n->v, &n->ctrl, 2, 16);
	for (unsigned i = 0; i < NET_RING; i++)
		give(n, i);
	virtio_live(&n->v);
	ring_kick(&n->rx);
}

uint32_t net_receive(struct net *n, void *to)
{
	const struct virtio_net_hdr_v1 *h = to;
	uint32_t head, len, total = 0;
	unsigned left = 1;

	if (!ring_reap(&n->rx, &head, &len))
		return 0;
	for (;;) {
		CHECK(len <= NET_BUFFER && head < NET_RING);
		memcpy((uint8_t *)to + total, n->rx_buffers + head * NET_BUFFER, len);
		if (!total) {
			CHECK(len >= NET_HEADER);
			left = h->num_buffers;
		}
		total += len;
		give(n, head);
		if (--left == 0)
			break;
		CHECK(ring_reap(&n->rx, &head, &len)); /* the rest is there when the first is */
	}
	ring_kick(&n->rx);
	return total;
}

void net_send(struct net *n, const void *from, uint32_t len)
{
	uint32_t head;

	memcpy(n->tx_buffer, from, len);
	ring_desc(&n->tx, 0, n->tx_buffer, len, 0);
	ring_offer(&n->tx, 0);
	ring_kick(&n->tx);
	CHECK_EQUAL(ring_wait(&n->tx, &head), 0);
	CHECK_EQUAL(head, 0);
}

uint8_t net_command(struct net *n, uint8_t class, uint8_t command, const void *data, uint32_t len)
{
	uint8_t *answer = n->ctrl_data + 2 + len;
	uint32_t head;

	n->ctrl_data[0] = class;
	n->ctrl_data[1] = command;
	memcpy(n->ctrl_data + 2, data, len);
	*answer = 0xee;
	ring_desc(&n->ctrl, 0, n->ctrl_data, 2 + len, VRING_DESC_F_NEXT);
	ring_desc(&n->ctrl, 1, answer, 1, VRING_DESC_F_WRITE);
	ring_offer(&n->ctrl, 0);
	ring_kick(&n->ctrl);
	CHECK_EQUAL(ring_wait(&n->ctrl, &head), 1);
	return *answer;
}

bool net_link_up(const struct net *n)
{
	return mmio_read16(virtio_config(&n->v) + offsetof(struct virtio_net_config, status)) &
	       VIRTIO_NET_S_LINK_UP;
}
