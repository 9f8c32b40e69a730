// SPDX-License-Identifier: MIT
// virtio-net: packets to the guest.
//
// How long a packet is shows once it is read. So buffers are taken in advance, enough for the
// longest there can be, and the read goes into all of them at once; those that are not needed stay
// at hand for the next packet. They go back to the queue when it is stopped: they are the ones
// taken last, as packets use them in order.
//
// Where the guest has not given as much, what does not fit goes to a spill of our own, and the
// packet waits for more buffers. With none at all nothing is read, and nothing is listened for but
// the guest's kick: a flood costs the guest that does not listen, and its host, nothing.
#include "virtio/net_private.h"

#include "base/iov.h"
#include "base/util.h"

#include <errno.h>

static bool is_merging(const struct vnet *v)
{
	return virtio_has_feature(&v->dev, VIRTIO_NET_F_MRG_RXBUF);
}

/* ---- buffers ---- */

static void forget_buffers(struct vnet_buffers *b)
{
	b->iov_first = b->iov_n = b->chain_first = b->chain_n = 0;
	b->room = 0;
}

/* Moves what is left to the front where the next chain may not fit behind it. */
static bool make_space(struct vnet_buffers *b)
{
	if (b->chain_n == VNET_QUEUE_SIZE || b->iov_n > VNET_CHAIN_MAX)
		return false;
	if (b->iov_first + b->iov_n > VNET_CHAIN_MAX) {
		memmove(b->iov, b->iov + b->iov_first, b->iov_n * sizeof(*b->iov));
		b->iov_first = 0;
	}
	if (b->chain_first + b->chain_n == VNET_QUEUE_SIZE) {
		memmove(b->chain, b->chain + b->chain_first, b->chain_n * sizeof(*b->chain));
		b->chain_first = 0;
	}
	return true;
}

static bool take_chain(struct vnet_pair *p)
{
	struct vnet_buffers *b = &p->buffers;
	struct queue_elem e = {.iov = b->iov + b->iov_first + b->iov_n, .cap = VNET_CHAIN_MAX};

	if (!queue_pop(virtio_net_rx_queue(p), &e))
		return false;
	if (e.out_n || !e.in_n) {
		virtio_broken(
			&p->v->dev, "queue %u: a buffer that cannot be written to", 2 * p->index);
		return false;
	}
	b->chain[b->chain_first + b->chain_n].len = e.in_len;
	b->chain[b->chain_first + b->chain_n].head = e.head;
	b->chain[b->chain_first + b->chain_n].pieces = e.in_n;
	b->chain_n++;
	b->iov_n += e.in_n;
	b->room += e.in_len;
	return true;
}

/* Takes buffers until the longest packet fits, or there are no more; without merging, one. */
static void take_buffers(struct vnet_pair *p)
{
	unsigned most = is_merging(p->v) ? VNET_QUEUE_SIZE : 1;

	while (p->buffers.room < p->v->most && p->buffers.chain_n < most &&
		make_space(&p->buffers) && take_chain(p))
		;
}

void virtio_net_put_back(struct vnet_pair *p)
{
	queue_unpop(virtio_net_rx_queue(p), p->buffers.chain_n);
	forget_buffers(&p->buffers);
	if (p->held)
		port_count_drop(&p->v->port, NET_DROP_ROOM);
	p->held = 0;
}

/* ---- packets ---- */

/* How many chains a packet of so many bytes fills. */
static uint16_t chains_of(const struct vnet_buffers *b, size_t len)
{
	uint16_t n = 0;

	for (size_t got = 0; got < len; n++)
		got += b->chain[b->chain_first + n].len;
	return n;
}

static void use_chain(struct vnet_pair *p, size_t *left)
{
	struct vnet_buffers *b = &p->buffers;
	struct queue_elem e = {
		.iov = b->iov + b->iov_first,
		.head = b->chain[b->chain_first].head,
		.in_n = b->chain[b->chain_first].pieces,
		.in_len = b->chain[b->chain_first].len,
	};
	uint32_t written = (uint32_t)MIN(*left, e.in_len);

	queue_put(virtio_net_rx_queue(p), &e, written);
	*left -= written;
	b->chain_first++;
	b->chain_n--;
	b->iov_first += e.in_n;
	b->iov_n -= e.in_n;
	b->room -= e.in_len;
}

static void record(struct vnet_pair *p, size_t len)
{
	const struct vnet_buffers *b = &p->buffers;
	struct iovec iov[2 * VNET_CHAIN_MAX + 1];
	unsigned n =
		iov_slice(iov + 1, b->iov + b->iov_first, b->iov_n, NET_HEADER, len - NET_HEADER);

	virtio_net_record(p->v, iov, n + 1, len - NET_HEADER);
}

/* 5.1.6.4.1: all of its buffers become visible at once, with their number in the first. */
static void deliver(struct vnet_pair *p, size_t len)
{
	struct vnet_buffers *b = &p->buffers;
	uint16_t count = chains_of(b, len);

	port_count_rx(&p->v->port, len - NET_HEADER);
	if (p->v->port.end.pcap)
		record(p, len);
	iov_write(b->iov + b->iov_first, b->iov_n, offsetof(struct virtio_net_hdr_v1, num_buffers),
		&count, sizeof(count));
	while (len)
		use_chain(p, &len);
	queue_publish(virtio_net_rx_queue(p));
}

/* Its head is in the guest's memory already: what may be seen of it is what the guest may change.
 */
static bool is_wanted(struct vnet_pair *p, size_t len)
{
	const struct vnet_buffers *b = &p->buffers;
	uint8_t frame[VNET_PEEK] = {0};

	iov_read(b->iov + b->iov_first, b->iov_n, NET_HEADER, frame,
		MIN(len - NET_HEADER, sizeof(frame)));
	return virtio_net_takes(p->v, frame);
}

/* A packet that lies in the buffers whole: they are used, or the next one is read over it. */
static void take_packet(struct vnet_pair *p, size_t len)
{
	if (len < NET_HEADER + NET_FRAME_MIN)
		port_count_drop(&p->v->port, NET_DROP_BAD);
	else if (!is_wanted(p, len))
		port_count_drop(&p->v->port, NET_DROP_FILTERED);
	else
		deliver(p, len);
}

/* Whether more of the guest's buffers could ever make room for it. */
static bool can_wait(const struct vnet_pair *p, size_t len)
{
	const struct vnet_buffers *b = &p->buffers;

	return is_merging(p->v) && len <= p->v->most && b->iov_n <= VNET_CHAIN_MAX &&
	       b->chain_n < p->v->queue[2 * p->index].size;
}

static void take_long_packet(struct vnet_pair *p, size_t len)
{
	if (!can_wait(p, len)) {
		port_count_drop(&p->v->port, NET_DROP_ROOM);
		return;
	}
	p->held = len;
	p->held_off = p->buffers.room;
}

/* False where it waits still. */
static bool finish_held(struct vnet_pair *p)
{
	const struct vnet_buffers *b = &p->buffers;
	size_t len = p->held;

	if (b->room < len && can_wait(p, len))
		return false;
	p->held = 0;
	if (b->room < len) {
		port_count_drop(&p->v->port, NET_DROP_ROOM);
		return true;
	}
	iov_write(b->iov + b->iov_first, b->iov_n, p->held_off, p->spill, len - p->held_off);
	take_packet(p, len);
	return true;
}

static ssize_t read_packet(struct vnet_pair *p)
{
	struct vnet_buffers *b = &p->buffers;

	b->iov[b->iov_first + b->iov_n] =
		(struct iovec){.iov_base = p->spill, .iov_len = p->v->most + 1};
	return port_receive(&p->v->port, p->index, b->iov + b->iov_first, b->iov_n + 1);
}

enum turn { TURN_MORE, TURN_EMPTY, TURN_STARVED, TURN_SHUT };

static enum turn receive_next(struct vnet_pair *p)
{
	ssize_t n;

	take_buffers(p);
	if (p->held)
		return finish_held(p) ? TURN_MORE : TURN_STARVED;
	if (!p->buffers.chain_n)
		return TURN_STARVED;
	if (!virtio_net_may_pass(&p->v->rx))
		return TURN_SHUT;
	n = read_packet(p);
	if (n == -EPIPE)
		virtio_net_is_dead(p->v);
	if (n < 0)
		return TURN_EMPTY;
	if (p->v->rx.limited)
		virtio_net_pay(&p->v->rx, (size_t)n - MIN((size_t)n, NET_HEADER));
	if ((size_t)n > p->buffers.room)
		take_long_packet(p, (size_t)n);
	else
		take_packet(p, (size_t)n);
	return TURN_MORE;
}

/* A driver that gives buffers as it should is not asked for kicks. */
void virtio_net_receive(struct vnet_pair *p)
{
	struct queue *q = virtio_net_rx_queue(p);
	enum turn turn = TURN_MORE;

	if (p->index >= p->v->active || p->v->dead || !p->v->link_up || !queue_live(q))
		return;
	queue_disable_kicks(q);
	for (int left = VNET_BUDGET; left > 0 && turn != TURN_EMPTY && turn != TURN_SHUT; left--) {
		turn = receive_next(p);
		/* Who waits for the first is not to wait for the others as well. */
		if (left == VNET_BUDGET)
			queue_notify(q);
		if (turn != TURN_STARVED)
			continue;
		if (!queue_enable_kicks(q))
			break;
		turn = TURN_MORE;
	}
	queue_notify(q);
	/* What has been read already nothing else would tell of. */
	if (turn == TURN_MORE && p->held)
		virtio_kick_again(&p->v->dev, 2 * p->index);
	virtio_net_watch(p, turn == TURN_STARVED || turn == TURN_SHUT
				    ? p->wants & ~(uint32_t)EPOLLIN
				    : p->wants | EPOLLIN);
}
