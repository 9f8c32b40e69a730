// SPDX-License-Identifier: MIT
// Sends back whatever comes in, on many streams at once, within the credit of both ends.
//
// Port 5000 is an echo; 5001 too, and for each stream to it the guest opens one of its own to port
// 6000 of the host, which it echoes likewise. A stream asked for on port 9 ends the guest as soon
// as all others are over.
#include "tests/guests/vsock.h"

#include <string.h>

enum { END_PORT = 9, ECHO_PORT = 5000, CALL_PORT = 5001, HOST_PORT = 6000, OWN_PORTS = 20000 };
#define STREAMS 64u

struct echo {
	bool used, live;
	bool host_done, told_end; /* the host sends no more; it was told that neither do we */
	uint32_t guest_port, host_port;
	uint32_t received, told, returned;   /* bytes in; of these acknowledged, sent back */
	uint32_t peer_alloc, peer_forwarded; /* the host's credit */
	uint8_t *data;                       /* a ring of VSOCK_WINDOW bytes */
};

static struct vsock vsock;
static struct echo echoes[STREAMS];
static unsigned count, total;
static bool ending;

static struct echo *find(const struct virtio_vsock_hdr *h)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		struct echo *e = &echoes[i];

		if (e->used && e->guest_port == h->dst_port && e->host_port == h->src_port)
			return e;
	}
	return NULL;
}

static struct echo *add(uint32_t guest_port, uint32_t host_port)
{
	struct echo *e = echoes;
	uint8_t *data;

	while (e->used)
		if (++e == echoes + STREAMS)
			STOP("too many streams");
	data = e->data ? e->data : alloc(VSOCK_WINDOW, 64);
	*e = (struct echo){
		.used = true, .guest_port = guest_port, .host_port = host_port, .data = data};
	count++;
	total++;
	return e;
}

static void packet(struct echo *e, uint16_t op, uint32_t flags, const void *data, uint32_t len)
{
	const struct virtio_vsock_hdr hdr = {.src_port = e->guest_port,
		.dst_port = e->host_port,
		.op = op,
		.flags = flags,
		.buf_alloc = VSOCK_WINDOW,
		.fwd_cnt = e->returned};

	e->told = e->returned;
	vsock_send(&vsock, &hdr, data, len);
}

static void requested(const struct virtio_vsock_hdr *h)
{
	struct echo *e;

	ending = ending || h->dst_port == END_PORT;
	if (h->dst_port != ECHO_PORT && h->dst_port != CALL_PORT) {
		vsock_answer(&vsock, h, VIRTIO_VSOCK_OP_RST, 0);
		return;
	}
	CHECK(!find(h));
	e = add(h->dst_port, h->src_port);
	e->live = true;
	packet(e, VIRTIO_VSOCK_OP_RESPONSE, 0, NULL, 0);
	if (h->dst_port == CALL_PORT)
		packet(add(OWN_PORTS + total, HOST_PORT), VIRTIO_VSOCK_OP_REQUEST, 0, NULL, 0);
}

static void take(struct echo *e, const uint8_t *data, uint32_t len)
{
	CHECK(e->received - e->returned + len <= VSOCK_WINDOW);
	for (uint32_t i = 0; i < len; i++)
		e->data[(e->received + i) % VSOCK_WINDOW] = data[i];
	e->received += len;
}

static void handle(struct echo *e, const struct vsock_packet *p)
{
	e->peer_alloc = p->hdr.buf_alloc;
	e->peer_forwarded = p->hdr.fwd_cnt;
	switch (p->hdr.op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		e->live = true;
		break;
	case VIRTIO_VSOCK_OP_RW:
		CHECK(p->hdr.len > 0);
		take(e, p->data, p->hdr.len);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		packet(e, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		e->host_done = e->host_done || (p->hdr.flags & VIRTIO_VSOCK_SHUTDOWN_SEND);
		break;
	case VIRTIO_VSOCK_OP_RST:
		e->used = false;
		count--;
		break;
	default:
		CHECK_EQUAL(p->hdr.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	}
}

static void receive(const struct vsock_packet *p)
{
	struct echo *e = find(&p->hdr);

	if (p->hdr.op == VIRTIO_VSOCK_OP_REQUEST)
		requested(&p->hdr);
	else if (e)
		handle(e, p);
	else if (p->hdr.op != VIRTIO_VSOCK_OP_RST)
		vsock_answer(&vsock, &p->hdr, VIRTIO_VSOCK_OP_RST, 0);
}

/* One packet, as long as credit, the ring's end and what there is allow. Whether there was any. */
static bool send_back(struct echo *e)
{
	uint32_t credit = e->peer_alloc - (e->returned - e->peer_forwarded);
	uint32_t at = e->returned % VSOCK_WINDOW;
	uint32_t len = MIN(e->received - e->returned, VSOCK_WINDOW - at);

	len = MIN(MIN(len, credit), VSOCK_PAYLOAD);
	if (len) {
		e->returned += len;
		packet(e, VIRTIO_VSOCK_OP_RW, 0, e->data + at, len);
	} else if (e->host_done && e->received == e->returned && !e->told_end) {
		e->told_end = true;
		packet(e, VIRTIO_VSOCK_OP_SHUTDOWN,
			VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	}
	return len;
}

void guest_main(void)
{
	vsock_start(&vsock, RING_INDIRECT | RING_EVENT, 32);
	print("READY\n");
	while (!ending || count) {
		const struct vsock_packet *p = vsock_receive(&vsock);

		if (p) {
			receive(p);
			vsock_release(&vsock);
		}
		for (unsigned i = 0; i < STREAMS; i++)
			if (echoes[i].used && echoes[i].live)
				send_back(&echoes[i]);
	}
	print("streams: ");
	print_number(total);
}
