// SPDX-License-Identifier: MIT
// Answers the host as no init does: not at all, with garbage, with more and more of it, or not to
// the end.
#include "tests/guests/vsock.h"

#include "guest/proto.h"

#include <string.h>

#define OWN_PORT 1000u

static struct vsock vsock;
static struct virtio_vsock_hdr stream = {
	.src_port = OWN_PORT, .dst_port = PROTO_PORT, .buf_alloc = VSOCK_WINDOW};
static uint32_t sent;

static void connect(void)
{
	const struct vsock_packet *p;

	stream.op = VIRTIO_VSOCK_OP_REQUEST;
	vsock_send(&vsock, &stream, NULL, 0);
	while (!(p = vsock_receive(&vsock)))
		relax();
	CHECK_EQUAL(p->hdr.op, VIRTIO_VSOCK_OP_RESPONSE);
	vsock_release(&vsock);
}

static void say(const void *data, uint32_t len)
{
	stream.op = VIRTIO_VSOCK_OP_RW;
	vsock_send(&vsock, &stream, data, len);
	sent += len;
}

static void garbage(void)
{
	static const char text[] = "this is no frame of the protocol, whatever its length says";

	say(text, sizeof(text));
}

/* More than anyone allowed it to send. */
static void flood(void)
{
	static uint8_t data[VSOCK_PAYLOAD];

	memset(data, 0xff, sizeof(data));
	for (unsigned i = 0; i < 2000; i++)
		say(data, sizeof(data));
}

/* The first bytes of a frame, and then the end. */
static void half(void)
{
	say("\1", 1);
	stream.op = VIRTIO_VSOCK_OP_SHUTDOWN;
	stream.flags = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;
	vsock_send(&vsock, &stream, NULL, 0);
}

void guest_main(void)
{
	vsock_start(&vsock, 0, 16);
	if (told("silent"))
		spin();
	connect();
	if (told("garbage"))
		garbage();
	else if (told("flood"))
		flood();
	else
		half();
	spin();
}
