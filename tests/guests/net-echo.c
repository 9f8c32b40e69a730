// SPDX-License-Identifier: MIT
// Sends back each frame for experiments that is for its own address, to where it came from, until
// it is told to end. A frame of another type, or for another, is dropped.
//
// Words of the command line: `plain` takes no offloads and no merging of buffers; `filter` has the
// device filter, and fails where something comes through that is not for it; `link` says each time
// that the link has gone up or down. Says READY, and how many it sent back.
#include "tests/guests/net.h"

#include <string.h>

#define SEGMENTS (NET_F(CSUM) | NET_F(GUEST_CSUM) | NET_F(HOST_TSO4) | NET_F(GUEST_TSO4))

static struct net net;
static uint8_t *packet;

static void set_filter(void)
{
	const uint8_t off = 0;

	CHECK_EQUAL(net_command(&net, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
		VIRTIO_NET_OK);
	while (net_receive(&net, packet))
		; /* what came before that */
}

static void send_back(uint32_t len)
{
	uint8_t *frame = packet + NET_HEADER;

	memset(packet, 0, NET_HEADER);
	memcpy(frame, frame + 6, 6);
	memcpy(frame + 6, net.mac, 6);
	net_send(&net, packet, len);
}

static void watch_link(void)
{
	static bool down;

	if (net_link_up(&net) == down) {
		down = !down;
		print(down ? "link down\n" : "link up\n");
	}
}

void guest_main(void)
{
	uint64_t features =
		RING_EVENT | RING_INDIRECT | NET_F(CTRL_VQ) | NET_F(CTRL_RX) | NET_F(STATUS);
	bool filter = told("filter"), link = told("link");
	unsigned count = 0;

	if (!told("plain"))
		features |= NET_F(MRG_RXBUF) | SEGMENTS;
	packet = alloc(NET_HEADER + NET_FRAME_MAX + NET_BUFFER, 4096);
	net_find(&net);
	net_start(&net, features);
	if (filter)
		set_filter();
	print("READY\n");
	for (;;) {
		uint32_t len = net_receive(&net, packet);
		uint8_t *frame = packet + NET_HEADER;
		bool mine = len && !memcmp(frame, net.mac, 6);

		if (!len)
			relax();
		if (!len && link)
			watch_link();
		if (len && filter)
			CHECK(mine || frame[0] == 0xff);
		if (mine && net_type(frame) == NET_END)
			break;
		if (mine && net_type(frame) == NET_TEST) {
			send_back(len);
			count++;
		}
	}
	print("frames: ");
	print_number(count);
	print("\n");
}
