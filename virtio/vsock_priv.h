// SPDX-License-Identifier: MIT
// What the files of virtio-vsock share. vsock.c has the theory.
#ifndef VIRTIO_VSOCK_PRIV_H
#define VIRTIO_VSOCK_PRIV_H

#include "base/fifo.h"
#include "base/list.h"
#include "base/loop.h"
#include "virtio/device.h"

#include <linux/virtio_vsock.h>

#define VSOCK_HOST_CID 2u
#define VSOCK_STREAMS_MAX 1024u /* and half of the process's descriptors */
#define VSOCK_BUCKETS 256u
#define VSOCK_HOST_PORTS 0x40000000u /* ports of the host's own streams are from here up */

/* What the guest may send ahead of the host's reader, per stream. Linux guests use the same. */
#define VSOCK_WINDOW (256u << 10)

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };
#define VSOCK_QUEUE_SIZE 128u

/*
 * A stream's life. Guest and host ports are those of the pair that names it.
 *
 *   (accepted) -> HANDSHAKE -> REQUESTED -> ESTABLISHED -> LINGERING -> DEAD
 *   (guest's REQUEST) ----------------------^
 *
 * HANDSHAKE:   a host's peer has connected, its CONNECT line is not complete. Has no ports yet.
 * REQUESTED:   in the table; a REQUEST is to be sent, or was, and the guest's answer is awaited.
 * ESTABLISHED: in the table; data may flow.
 * LINGERING:   the guest is done with it and has been told so; what it had written goes on to the
 * host's peer. No longer in the table: its ports may be used again. DEAD:        closed; freed
 * before the loop goes on. Any state may lead here.
 */
enum stream_state { HANDSHAKE, REQUESTED, ESTABLISHED, LINGERING, DEAD };

struct vsock;

struct stream {
	struct vsock *v;
	enum stream_state state;
	uint32_t guest_port, host_port;
	struct watch watch; /* of the host's peer; not added while the device is stopped */
	int fd;             /* owned */

	/* To the guest: what it allows (5.10.6.3), and what was sent. Counters wrap. */
	uint32_t peer_alloc, peer_forwarded, sent;
	bool readable; /* the host's peer may have data, or an end, for us */
	bool credit_asked;
	bool host_eof; /* the host's peer sends no more */
	bool host_hup; /* it is gone, or both directions are shut */

	/* From the guest: what it sent, what of that has left, what it was told has left. */
	uint32_t received, forwarded, told;
	struct fifo fifo;    /* received and not forwarded */
	bool wants_writable; /* EPOLLOUT is asked for, as there is something in the fifo */
	bool host_deaf;      /* the host's peer reads no more: what the guest sends is dropped */

	uint32_t due;                /* bits 1 << op: packets that the guest is to get */
	uint8_t shut_told, shut_due; /* SHUTDOWN flags the guest was told, or is to be told */
	uint8_t guest_shut;          /* SHUTDOWN flags the guest has sent */

	struct stream *bucket_next; /* in the table */
	struct list turn;           /* among those with something for the guest */
	struct list all;            /* among all, or among the dead */
};

/* A packet's two ends and type: enough to refuse it. */
struct refusal {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

struct vsock {
	struct virtio_device dev;
	struct queue queues[VSOCK_QUEUES];
	struct iovec tx_iov[VSOCK_QUEUE_SIZE], rx_iov[VSOCK_QUEUE_SIZE];
	struct iovec payload[VSOCK_QUEUE_SIZE]; /* of the packet being looked at */
	uint32_t cid;
	bool live;      /* started: the queues and the loop may be used */
	bool reset_due; /* the guest is to be told that its streams are gone */

	int dir, listen_fd;
	const char *socket;
	struct watch listener;
	struct timer accept_again;
	uint32_t next_port;

	struct list streams, dead, turn;
	unsigned count, most; /* of those in `streams`, and how many there may be */
	struct stream *table[VSOCK_BUCKETS];

	/* RSTs for what is no stream, oldest first; more than these are dropped. */
	struct refusal refusals[2 * VSOCK_QUEUE_SIZE];
	unsigned refusal_first, refusal_count;
};

/* ---- vsock.c: the queues ---- */

/* Gives the guest what is due, as far as it has buffers, and frees the dead. Last in each callback.
 */
void vsock_pump(struct vsock *v);

/* An RST in answer to what came from r->src for r->dst. */
void vsock_refuse(struct vsock *v, const struct refusal *r);

/* ---- vsock_table.c: which streams there are ---- */

/* A new one over `fd`, which is taken. NULL where there are too many or no memory: then fd is
 * closed. */
struct stream *stream_new(struct vsock *v, int fd, enum stream_state state);

/* Names it, and forgets the name. The pair must be free. */
void stream_insert(struct stream *s, uint32_t guest_port, uint32_t host_port);
void stream_remove(struct stream *s);
struct stream *stream_find(const struct vsock *v, uint32_t guest_port, uint32_t host_port);

/* A host port that is free towards that port of the guest. */
uint32_t stream_free_port(struct vsock *v, uint32_t guest_port);

/* Closes it; it stays a valid pointer until stream_bury frees all that were killed. */
void stream_kill(struct stream *s);
void stream_bury(struct vsock *v);

/* ---- vsock_stream.c: one stream ---- */

/* The watch on the host's peer, added as the device starts, removed as it stops. */
void stream_attach(struct stream *s);
void stream_detach(struct stream *s);

/* A stream that the guest has asked for. */
void stream_accept(struct stream *s, const struct virtio_vsock_hdr *hdr);

/* A packet from the guest; v->payload has its hdr->len bytes in n pieces. */
void stream_packet(struct stream *s, const struct virtio_vsock_hdr *hdr, unsigned n);

/* Puts it at the end of the queue of those with something for the guest, if it has something. */
void stream_queue(struct stream *s);

/*
 * The next packet for the guest: op, len and flags of *hdr, the payload read into the n pieces of
 * v->payload, which have room for at least a byte. False when there turns out to be none.
 */
bool stream_next(struct stream *s, struct virtio_vsock_hdr *hdr, unsigned n);

/* Tells the guest that it is over, at once. */
void stream_reset(struct stream *s);

/* ---- vsock_host.c: the host's sockets ---- */

/* Waits for peers, as far as there may be more streams. No-op where that is so already. */
void vsock_listen(struct vsock *v);
void vsock_unlisten(struct vsock *v);

/* Connects to the host's socket for that port. The descriptor, or -errno. */
int vsock_connect(const struct vsock *v, uint32_t port);

/* Reads the CONNECT line as far as it has come, and goes on to REQUESTED when it is complete. */
void vsock_handshake(struct stream *s);

/* Tells the host's peer that the guest has answered. False when it did not take it. */
bool vsock_greet(struct stream *s);

#endif
