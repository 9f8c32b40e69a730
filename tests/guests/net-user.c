// SPDX-License-Identifier: MIT
// A guest in user mode: pings the gateway, says READY, and sends back each datagram for its ports 7
// and 8 to where it came from, until the link is down. Says how many. Where it is told `wrong` it
// sends before that what is cut short, what is of no kind that is known, and what is for the host's
// loopback, a frame of each.
#include "tests/guests/ip.h"

#include <string.h>

static struct net net;
static uint8_t *packet;

static void send_wrong(void)
{
	static const uint8_t loopback[4] = {127, 0, 0, 1};

	net_send(&net, packet, ip_wrap_echo(&net, packet, ip_gateway, 4) - 4);
	ip_wrap_echo(&net, packet, ip_gateway, 0);
	packet[NET_HEADER + 12] = NET_TEST >> 8;
	packet[NET_HEADER + 13] = NET_TEST & 0xff;
	net_send(&net, packet, IP_DATA + 8);
	net_send(&net, packet, ip_wrap_echo(&net, packet, loopback, 0));
}

static bool is_reply(uint32_t len)
{
	return ip_is(packet, len, IP_ICMP) && !memcmp(packet + IP_AT + 12, ip_gateway, 4) &&
	       packet[IP_DATA] == 0;
}

static bool is_for_us(uint32_t len)
{
	const uint8_t *port = packet + IP_DATA + 2;

	return ip_is(packet, len, IP_UDP) && port[0] == 0 && (port[1] == 7 || port[1] == 8);
}

static void ping_gateway(void)
{
	uint32_t len;

	net_send(&net, packet, ip_wrap_echo(&net, packet, ip_gateway, 0));
	while (!is_reply(len = net_receive(&net, packet)))
		if (!ip_answer_arp(&net, packet, len))
			relax();
}

void guest_main(void)
{
	unsigned count = 0;

	packet = alloc(NET_HEADER + NET_FRAME_MAX + NET_BUFFER, 4096);
	net_find(&net);
	net_start(&net, RING_EVENT | NET_F(MRG_RXBUF) | NET_F(CSUM) | NET_F(GUEST_CSUM) |
				NET_F(STATUS) | NET_F(MTU));
	CHECK(net.features & NET_F(CSUM) && net.features & NET_F(GUEST_CSUM));
	CHECK(virtio_offered(&net.v) & NET_F(HOST_TSO4));
	CHECK_EQUAL(mmio_read16(virtio_config(&net.v) + offsetof(struct virtio_net_config, mtu)),
		65520);
	if (told("wrong"))
		send_wrong();
	ping_gateway();
	print("READY\n");
	while (net_link_up(&net)) {
		uint32_t len = net_receive(&net, packet);

		if (is_for_us(len)) {
			ip_return_udp(&net, packet, len);
			count++;
		} else if (!ip_answer_arp(&net, packet, len)) {
			relax();
		}
	}
	print("datagrams: ");
	print_number(count);
	print("\n");
}
