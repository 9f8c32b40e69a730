// SPDX-License-Identifier: MIT
// virtio-net: packets from the guest.
//
// The header is copied once and the copy is judged, so that what the host's kernel reads is what
// was judged; the frame goes out of the guest's memory as it is. A packet that is wrong is used and
// counted, and the next one goes on.
#include "virtio/net_private.h"

#include "base/iov.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>

static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HEADER, "our header is virtio's");

/* The feature that allows this kind of segmentation; 0: there is none such. */
static unsigned feature_of(uint8_t gso_type)
{
	switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return VIRTIO_NET_F_HOST_TSO4;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return VIRTIO_NET_F_HOST_TSO6;
	case VIRTIO_NET_HDR_GSO_UDP:
		return VIRTIO_NET_F_HOST_UFO;
	case NET_HDR_GSO_UDP_L4:
		return NET_F_HOST_USO;
	default:
		return 0;
	}
}

static bool is_gso_ok(const struct vnet *v, const struct virtio_net_hdr_v1 *h)
{
	unsigned feature = feature_of(h->gso_type);

	if (!feature || !virtio_has_feature(&v->dev, feature) || !h->gso_size)
		return false;
	return !(h->gso_type & VIRTIO_NET_HDR_GSO_ECN) ||
	       virtio_has_feature(&v->dev, VIRTIO_NET_F_HOST_ECN);
}

/*
 * 5.1.6.2: flags that are unknown are ignored, and what has no meaning without its flag is made
 * zero. `len` is the frame's.
 */
static bool judge(const struct vnet *v, struct virtio_net_hdr_v1 *h, uint32_t len)
{
	bool csum = h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return false;
	if (csum && (!virtio_has_feature(&v->dev, VIRTIO_NET_F_CSUM) ||
			    (uint32_t)h->csum_start + h->csum_offset + 2 > len))
		return false;
	if (h->gso_type && (!csum || !is_gso_ok(v, h) || h->hdr_len > len))
		return false;
	*h = (struct virtio_net_hdr_v1){
		.flags = csum ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
		.gso_type = h->gso_type,
		.hdr_len = h->gso_type ? h->hdr_len : 0,
		.gso_size = h->gso_type ? h->gso_size : 0,
		.csum_start = csum ? h->csum_start : 0,
		.csum_offset = csum ? h->csum_offset : 0,
	};
	return true;
}

struct packet {
	struct virtio_net_hdr_v1 hdr;
	struct iovec iov[VNET_CHAIN_MAX + 1]; /* the header, and the chain from the second on */
	struct queue_elem elem;
};

/* The header comes out of the chain; what is left of that is the frame. */
static ssize_t send_packet(struct vnet_pair *p, struct packet *out)
{
	const struct queue_elem *e = &out->elem;
	struct virtio_net_hdr_v1 *h = &out->hdr;
	ssize_t rc;
	unsigned n;

	if (!p->v->link_up || p->v->dead)
		return -ENETDOWN;
	if (iov_read(e->iov, e->out_n, 0, h, sizeof(*h)) < sizeof(*h))
		return -EBADMSG;
	if (!judge(p->v, h, e->out_len - NET_HEADER))
		return -EBADMSG;
	n = iov_slice(out->iov + 1, e->iov, e->out_n, NET_HEADER, e->out_len - NET_HEADER);
	out->iov[0] = (struct iovec){.iov_base = h, .iov_len = sizeof(*h)};
	rc = port_send(&p->v->port, p->index, out->iov, n + 1);
	if (rc > 0 && p->v->port.end.pcap)
		virtio_net_record(p->v, out->iov, n + 1, (size_t)rc - NET_HEADER);
	return rc;
}

static void count_drop(struct vnet_pair *p, ssize_t rc)
{
	struct vnet *v = p->v;

	if (rc == -EBADMSG) {
		port_count_drop(&v->port, NET_DROP_BAD);
		guest_error(&v->dev.log, v->dev.name, "queue %u: a packet with a wrong header",
			2 * p->index + 1);
	} else if (rc == -ENETDOWN || rc == -EPIPE) {
		port_count_drop(&v->port, NET_DROP_LINK);
	} else {
		port_count_drop(&v->port, NET_DROP_REFUSED);
	}
	if (rc == -EPIPE)
		virtio_net_is_dead(v);
}

/* False when there is no more, or the other end has no room: the packet stays in the queue then. */
static bool send_next(struct vnet_pair *p)
{
	struct queue *q = virtio_net_tx_queue(p);
	struct packet out;
	ssize_t rc;

	if (!virtio_net_may_pass(&p->v->tx))
		return false;
	out.elem = (struct queue_elem){.iov = out.iov + 1, .cap = VNET_CHAIN_MAX};
	if (!queue_pop(q, &out.elem))
		return false;
	rc = send_packet(p, &out);
	if (rc == -EAGAIN) {
		queue_unpop(q, 1);
		virtio_net_watch(p, p->wants | EPOLLOUT);
		return false;
	}
	if (rc < 0)
		count_drop(p, rc);
	else if (p->v->tx.limited)
		virtio_net_pay(&p->v->tx, (size_t)rc - NET_HEADER);
	queue_push(q, &out.elem, 0);
	return true;
}

void virtio_net_send(struct vnet_pair *p)
{
	struct queue *q = virtio_net_tx_queue(p);
	int left = VNET_BUDGET;

	if (p->index >= p->v->active || p->wants & EPOLLOUT || p->v->tx.shut || !queue_live(q))
		return;
	do {
		queue_disable_kicks(q);
		while (left > 0 && send_next(p))
			left--;
	} while (!(p->wants & EPOLLOUT) && !p->v->tx.shut && queue_enable_kicks(q) && left > 0);
	queue_notify(q);
	if (left == 0)
		virtio_kick_again(&p->v->dev, 2 * p->index + 1);
}
