// SPDX-License-Identifier: MIT
// virtio-vsock: one stream, between the guest's packets and the UNIX socket of the host's peer.
#include "virtio/vsock_priv.h"

#include "base/fd.h"
#include "base/iov.h"
#include "base/util.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHUT_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

/*
 * Edge-triggered: one event says that there may be data, and `readable` remembers it until a read
 * finds none. So a stream without credit, or without its turn, costs no change of the watch.
 */
#define WATCHED (EPOLLIN | EPOLLRDHUP | EPOLLET)

static uint32_t bit(unsigned op)
{
	return 1u << op;
}

/* What the guest still has room for. A guest whose counters make no sense gets nothing. */
static uint32_t credit(const struct stream *s)
{
	uint32_t ahead = s->sent - s->peer_forwarded;

	return ahead < s->peer_alloc ? s->peer_alloc - ahead : 0;
}

/* ---- From the guest to the host's peer ---- */

/*
 * Bytes have left. The guest is told while it still has half of what it knows of: an interrupt for
 * each 128 KiB of a long stream, and no wait for one.
 */
static void forward(struct stream *s, uint32_t n)
{
	s->forwarded += n;
	if (s->forwarded - s->told >= VSOCK_WINDOW / 2 &&
		!(s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND))
		s->due |= bit(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

static void want_writable(struct stream *s, bool want)
{
	if (s->wants_writable == want)
		return;
	s->wants_writable = want;
	if (loop_mod(s->v->dev.io, &s->watch, WATCHED | (want ? EPOLLOUT : 0)) < 0)
		stream_reset(s);
}

/* The host's peer takes no more: the guest may as well stop. */
static void go_deaf(struct stream *s)
{
	s->host_deaf = true;
	fifo_finish(&s->fifo);
	forward(s, s->received - s->forwarded);
	s->shut_due |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	if (s->state == LINGERING)
		stream_kill(s);
}

/* Bytes taken; 0 where there is no room, or nobody to read it any more. */
static uint32_t send_some(struct stream *s, struct iovec *iov, unsigned n)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t sent = TEMP_FAILURE_RETRY(sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL));

	if (sent >= 0)
		return (uint32_t)sent;
	if (errno != EAGAIN)
		go_deaf(s);
	return 0;
}

/* The guest's last byte has left. */
static void drained(struct stream *s)
{
	if (s->state == LINGERING)
		stream_kill(s);
	else if (s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		shutdown(s->fd, SHUT_WR);
}

static void drain(struct stream *s)
{
	while (s->state != DEAD && s->fifo.len) {
		struct iovec iov[2];
		uint32_t sent = send_some(s, iov, fifo_peek(&s->fifo, iov));

		if (!sent)
			return;
		fifo_drop(&s->fifo, sent);
		forward(s, sent);
	}
	if (s->state == DEAD)
		return;
	want_writable(s, false);
	drained(s);
}

/* Keeps what the host's peer has not taken, the bytes from `done` on. */
static void keep(struct stream *s, unsigned n, uint32_t done, uint32_t len)
{
	struct iovec *iov = s->v->payload;

	n = iov_slice(iov, iov, n, done, len - done);
	if (fifo_put(&s->fifo, iov, n) < 0)
		stream_reset(s);
	else
		want_writable(s, true);
}

static void on_data(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n)
{
	uint32_t done = 0;

	if (hdr->len > VSOCK_WINDOW - (s->received - s->told) ||
		(s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)) {
		guest_error(&s->v->dev.log, s->v->dev.name, "port %u: data %s", s->guest_port,
			s->guest_shut ? "after the end" : "beyond the credit");
		stream_reset(s);
		return;
	}
	s->received += hdr->len;
	if (s->fifo.len == 0 && !s->host_deaf && hdr->len)
		done = send_some(s, s->v->payload, n);
	if (s->host_deaf)
		done = s->received - s->forwarded;
	forward(s, done);
	if (!s->host_deaf && done < hdr->len)
		keep(s, n, done, hdr->len);
}

/* The guest wants neither to send nor to receive: it waits for an RST (5.10.6.6). */
static void finish(struct stream *s)
{
	const struct refusal r = {
		.src_cid = s->v->cid,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = s->guest_port,
		.dst_port = s->host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
	};

	vsock_refuse(s->v, &r);
	if (s->state == ESTABLISHED && s->fifo.len) {
		stream_remove(s);
		list_del(&s->turn);
		s->state = LINGERING;
	} else {
		stream_kill(s);
	}
}

static void on_shutdown(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n)
{
	uint8_t more = (uint8_t)(hdr->flags & SHUT_BOTH & ~s->guest_shut);

	s->guest_shut |= more;
	if (s->guest_shut == SHUT_BOTH) {
		finish(s);
		return;
	}
	if ((more & VIRTIO_VSOCK_SHUTDOWN_SEND) && s->fifo.len == 0)
		shutdown(s->fd, SHUT_WR);
	if (more & VIRTIO_VSOCK_SHUTDOWN_RCV)
		shutdown(s->fd, SHUT_RD);
}

/* ---- Packets ---- */

void stream_reset(struct stream *s)
{
	if (s->state == REQUESTED || s->state == ESTABLISHED) {
		fifo_finish(&s->fifo);
		finish(s);
	} else {
		stream_kill(s);
	}
}

static void on_response(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n)
{
	bool asked = s->state == REQUESTED && !(s->due & bit(VIRTIO_VSOCK_OP_REQUEST));

	if (!asked || !vsock_greet(s)) {
		stream_reset(s);
		return;
	}
	s->state = ESTABLISHED;
	s->readable = true;
}

static void on_rst(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n)
{
	stream_kill(s);
}

static void on_credit_update(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n)
{
	/* The counters that every packet has are all there is to it. */
}

static void on_credit_request(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n)
{
	s->due |= bit(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

/* By op; what is missing is a mistake on a stream that exists. */
static const struct {
	void (*handle)(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n);
	bool established_only;
} packets[] = {
	[VIRTIO_VSOCK_OP_RESPONSE] = {on_response, false},
	[VIRTIO_VSOCK_OP_RST] = {on_rst, false},
	[VIRTIO_VSOCK_OP_SHUTDOWN] = {on_shutdown, true},
	[VIRTIO_VSOCK_OP_RW] = {on_data, true},
	[VIRTIO_VSOCK_OP_CREDIT_UPDATE] = {on_credit_update, true},
	[VIRTIO_VSOCK_OP_CREDIT_REQUEST] = {on_credit_request, true},
};

static void note_credit(struct stream *s, const struct virtio_vsock_hdr *hdr)
{
	s->peer_alloc = hdr->buf_alloc;
	s->peer_forwarded = hdr->fwd_cnt;
	if (credit(s))
		s->credit_asked = false;
}

void stream_packet(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n)
{
	note_credit(s, hdr);
	if (hdr->op >= ARRAY_SIZE(packets) || !packets[hdr->op].handle ||
		(packets[hdr->op].established_only && s->state != ESTABLISHED)) {
		guest_error(&s->v->dev.log, s->v->dev.name, "port %u: packet %u out of turn",
			s->guest_port, hdr->op);
		stream_reset(s);
		return;
	}
	packets[hdr->op].handle(s, hdr, n);
	stream_queue(s);
}

void stream_accept(struct stream *s, const struct virtio_vsock_hdr *hdr)
{
	stream_insert(s, hdr->src_port, hdr->dst_port);
	note_credit(s, hdr);
	s->due = bit(VIRTIO_VSOCK_OP_RESPONSE);
	stream_queue(s);
	stream_attach(s);
}

/* ---- From the host's peer to the guest ---- */

static bool may_read(const struct stream *s)
{
	return s->readable && !(s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

/* The directions that the guest is to hear are over: not those that it has closed itself. */
static uint8_t shut_news(const struct stream *s)
{
	uint8_t known = s->shut_told;

	if (s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		known |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	if (s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		known |= VIRTIO_VSOCK_SHUTDOWN_SEND;
	return s->shut_due & (uint8_t)~known;
}

static bool has_due(const struct stream *s)
{
	if (s->state != REQUESTED && s->state != ESTABLISHED)
		return false;
	if (s->due)
		return true;
	return s->state == ESTABLISHED &&
	       (shut_news(s) || (may_read(s) && (credit(s) || !s->credit_asked)));
}

void stream_queue(struct stream *s)
{
	if (has_due(s) && list_empty(&s->turn))
		list_append(&s->v->turn, &s->turn);
}

/* The bytes read into the pieces; 0 where there are none now, or no more at all. */
static uint32_t read_some(struct stream *s, unsigned n)
{
	struct iovec *iov = s->v->payload;
	ssize_t got;

	n = iov_slice(iov, iov, n, 0, credit(s));
	got = TEMP_FAILURE_RETRY(readv(s->fd, iov, (int)n));
	if (got > 0)
		return (uint32_t)got;
	s->readable = false;
	if (got < 0 && errno == EAGAIN)
		return 0;
	/* An error is the end of a peer that died with our data unread. */
	s->host_eof = true;
	s->host_hup |= got < 0;
	s->shut_due |= s->host_hup ? SHUT_BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND;
	return 0;
}

static bool take_due(struct stream *s, unsigned op)
{
	bool due = s->due & bit(op);

	s->due &= ~bit(op);
	return due;
}

/* Which packet comes next: the answer first, the end after all data. INVALID where there is none.
 */
static unsigned next_op(struct stream *s, struct virtio_vsock_hdr *hdr, unsigned n)
{
	if (take_due(s, VIRTIO_VSOCK_OP_REQUEST))
		return VIRTIO_VSOCK_OP_REQUEST;
	if (take_due(s, VIRTIO_VSOCK_OP_RESPONSE))
		return VIRTIO_VSOCK_OP_RESPONSE;
	if (may_read(s) && credit(s)) {
		hdr->len = read_some(s, n);
		if (hdr->len)
			return VIRTIO_VSOCK_OP_RW;
	}
	if (take_due(s, VIRTIO_VSOCK_OP_CREDIT_UPDATE))
		return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	if (may_read(s) && !s->credit_asked) {
		s->credit_asked = true;
		return VIRTIO_VSOCK_OP_CREDIT_REQUEST;
	}
	hdr->flags = shut_news(s);
	return hdr->flags ? VIRTIO_VSOCK_OP_SHUTDOWN : VIRTIO_VSOCK_OP_INVALID;
}

bool stream_next(struct stream *s, struct virtio_vsock_hdr *hdr, unsigned n)
{
	hdr->op = (uint16_t)next_op(s, hdr, n);
	if (hdr->op == VIRTIO_VSOCK_OP_INVALID)
		return false;
	s->shut_told |= (uint8_t)hdr->flags;
	s->sent += hdr->len;
	/* Every packet tells the guest where it stands. */
	s->told = s->forwarded;
	s->due &= ~bit(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	hdr->src_port = s->host_port;
	hdr->dst_port = s->guest_port;
	hdr->buf_alloc = VSOCK_WINDOW;
	hdr->fwd_cnt = s->forwarded;
	return true;
}

/* ---- The host's peer stirs ---- */

static void advance(struct stream *s, uint32_t events)
{
	if (s->state == HANDSHAKE)
		vsock_handshake(s);
	/* Nobody is left to wait for, or to write to. */
	if (s->host_hup && (s->state == REQUESTED || s->state == LINGERING))
		stream_reset(s);
	if (s->state != DEAD && (events & EPOLLOUT))
		drain(s);
	if (s->host_eof && s->host_hup)
		s->shut_due |= SHUT_BOTH;
}

static void peer_ready(void *arg, uint32_t events)
{
	struct stream *s = arg;
	struct vsock *v = s->v;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->readable = true;
	if (events & EPOLLHUP)
		s->host_hup = true;
	advance(s, events);
	stream_queue(s);
	vsock_pump(v);
}

void stream_attach(struct stream *s)
{
	s->watch = WATCH_INIT(peer_ready, s);
	if (loop_add(s->v->dev.io, &s->watch, s->fd, WATCHED | (s->wants_writable ? EPOLLOUT : 0)) <
		0)
		stream_reset(s);
}

void stream_detach(struct stream *s)
{
	if (s->watch.fd >= 0)
		loop_del(s->v->dev.io, &s->watch);
}
