// SPDX-License-Identifier: MIT
// How many packets a second: sends as many as the ring takes, or takes whatever comes, for a while,
// and polls. No interrupt is asked for, and nothing is done with the data.
//
// Words of the command line: `receive` (else sends), bytes=N of a frame, `segments` where such a
// frame is of TCP, to be cut, ticks=N of the processor's clock. Says READY, waits for a byte from
// the host; says how many, and waits for another.
#include "tests/guests/net.h"

#include <string.h>

#define SENDING 128u /* at a time */

static struct net net;
static uint8_t *packet;
static uint32_t bytes;

/* For nobody, or IPv4 and TCP for the host. */
static void compose(bool segments)
{
	struct virtio_net_hdr_v1 *h = (struct virtio_net_hdr_v1 *)packet;
	uint8_t *frame = packet + NET_HEADER, *ip = frame + 14;

	memcpy(frame, "\2\0\0\xff\xff\xfe", 6);
	memcpy(frame + 6, net.mac, 6);
	frame[12] = segments ? 8 : NET_TEST >> 8;
	frame[13] = segments ? 0 : NET_TEST & 0xff;
	if (!segments)
		return;
	ip[0] = 0x45;
	ip[2] = (uint8_t)((bytes - 14) >> 8);
	ip[3] = (uint8_t)(bytes - 14);
	ip[8] = 64;
	ip[9] = 6;
	ip[20 + 12] = 5 << 4;
	*h = (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 1448,
		.hdr_len = 54,
		.csum_start = 34,
		.csum_offset = 16};
}

/* What has gone goes again; the device is told once of all that came back together. */
static uint64_t send_round(void)
{
	uint32_t head, len;
	uint64_t n = 0;

	while (ring_reap(&net.tx, &head, &len)) {
		ring_offer(&net.tx, head);
		n++;
	}
	if (n)
		ring_kick(&net.tx);
	else
		relax();
	return n;
}

static uint64_t receive_round(void)
{
	uint32_t head, len;
	uint64_t n = 0, given = 0;

	for (; ring_reap(&net.rx, &head, &len); given++) {
		const struct virtio_net_hdr_v1 *h =
			(const void *)(net.rx_buffers + head * NET_BUFFER);
		unsigned more = h->num_buffers - 1u;

		n++;
		ring_offer(&net.rx, head);
		for (; more; more--, given++) {
			CHECK(ring_reap(&net.rx, &head, &len));
			ring_offer(&net.rx, head);
		}
	}
	if (given)
		ring_kick(&net.rx);
	else
		relax();
	return n;
}

static void wait_for_host(void)
{
	while (!(in8(PORT_COM1 + 5) & 1))
		relax();
	in8(PORT_COM1);
}

static void begin_sending(void)
{
	for (unsigned i = 0; i < SENDING; i++) {
		ring_desc(&net.tx, i, packet, NET_HEADER + bytes, 0);
		ring_offer(&net.tx, i);
	}
	ring_kick(&net.tx);
}

void guest_main(void)
{
	bool receive = told("receive");
	uint64_t ticks = told_number("ticks=", 1000000000), end, n = 0;

	bytes = (uint32_t)told_number("bytes=", 64);
	packet = alloc(NET_HEADER + NET_FRAME_MAX, 4096);
	net_find(&net);
	net_start(&net, RING_INDIRECT | RING_EVENT | NET_F(MRG_RXBUF) | NET_F(CSUM) |
				NET_F(HOST_TSO4) | NET_F(GUEST_CSUM) | NET_F(GUEST_TSO4));
	compose(told("segments"));
	print("READY\n");
	wait_for_host();
	end = rdtsc() + ticks;
	if (!receive)
		begin_sending();
	while (rdtsc() < end)
		n += receive ? receive_round() : send_round();
	print("packets ");
	print_number(n);
	print("\n");
	wait_for_host();
}
