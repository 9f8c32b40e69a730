// SPDX-License-Identifier: MIT
// A driver for virtio-vsock that polls.
#include "tests/guests/vsock.h"

#include <string.h>

static void offer_rx(struct vsock *s, unsigned i)
{
	ring_desc(&s->rx, i, &s->rx_packet[i], sizeof(s->rx_packet[i]), VRING_DESC_F_WRITE);
	ring_offer(&s->rx, i);
}

static void offer_event(struct vsock *s)
{
	ring_desc(&s->event, 0, s->event_buffer, sizeof(*s->event_buffer), VRING_DESC_F_WRITE);
	ring_offer(&s->event, 0);
	ring_kick(&s->event);
}

static void read_cid(struct vsock *s)
{
	s->cid = virtio_get(&s->v, VIRTIO_MMIO_CONFIG) |
		 (uint64_t)virtio_get(&s->v, VIRTIO_MMIO_CONFIG + 4) << 32;
}

void vsock_start(struct vsock *s, uint64_t features, unsigned size)
{
	virtio_find(&s->v, VIRTIO_ID_VSOCK);
	if (!s->rx_packet) {
		s->rx_packet = alloc(size * sizeof(*s->rx_packet), 4096);
		s->tx_packet = alloc(size * sizeof(*s->tx_packet), 4096);
		s->event_buffer = alloc(4, 4);
	}
	virtio_start(&s->v, features);
	virtio_queue(&s->v, &s->rx, 0, size);
	virtio_queue(&s->v, &s->tx, 1, size);
	virtio_queue(&s->v, &s->event, 2, 4);
	virtio_live(&s->v);
	s->sent = 0;
	for (unsigned i = 0; i < size; i++)
		offer_rx(s, i);
	ring_kick(&s->rx);
	offer_event(s);
	read_cid(s);
	CHECK(s->cid > VSOCK_HOST && s->cid < UINT32_MAX);
}

struct vsock_packet *vsock_receive(struct vsock *s)
{
	struct vsock_packet *p;
	uint32_t len;

	if (!ring_reap(&s->rx, &s->held, &len))
		return NULL;
	CHECK(s->held < s->rx.size);
	p = &s->rx_packet[s->held];
	CHECK_EQUAL(len, sizeof(p->hdr) + p->hdr.len);
	CHECK_EQUAL(p->hdr.dst_cid, s->cid);
	CHECK_EQUAL(p->hdr.src_cid, VSOCK_HOST);
	return p;
}

void vsock_release(struct vsock *s)
{
	offer_rx(s, s->held);
	ring_kick(&s->rx);
}

bool vsock_was_reset(struct vsock *s)
{
	uint32_t head, len;

	if (!ring_reap(&s->event, &head, &len))
		return false;
	CHECK_EQUAL(len, sizeof(*s->event_buffer));
	CHECK_EQUAL(*s->event_buffer, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	read_cid(s);
	offer_event(s);
	return true;
}

/* A slot of the ring is free when what was in it a round ago has come back. */
static unsigned free_tx(struct vsock *s)
{
	uint32_t head;

	if (s->sent >= s->tx.size)
		ring_wait(&s->tx, &head);
	else
		head = (uint32_t)s->sent;
	s->sent++;
	return head;
}

void vsock_send(struct vsock *s, const struct virtio_vsock_hdr *hdr, const void *data, uint32_t len)
{
	unsigned i = free_tx(s);
	struct vsock_packet *p = &s->tx_packet[i];

	p->hdr = *hdr;
	p->hdr.src_cid = s->cid;
	p->hdr.dst_cid = VSOCK_HOST;
	p->hdr.type = VIRTIO_VSOCK_TYPE_STREAM;
	p->hdr.len = len;
	memcpy(p->data, data, len);
	ring_desc(&s->tx, i, p, sizeof(p->hdr) + len, 0);
	ring_offer(&s->tx, i);
	ring_kick(&s->tx);
}

void vsock_answer(struct vsock *s, const struct virtio_vsock_hdr *to, uint16_t op, uint32_t flags)
{
	const struct virtio_vsock_hdr hdr = {.src_port = to->dst_port,
		.dst_port = to->src_port,
		.op = op,
		.flags = flags,
		.buf_alloc = VSOCK_WINDOW};

	vsock_send(s, &hdr, NULL, 0);
}
