// SPDX-License-Identifier: MIT
// A guest in user mode: pings the gateway, says READY, and sends back each datagram for its ports 7
// and 8 to where it came from, until the link is down. Says how many. Where it is told `wrong` it
// sends before that what is cut short, what is of no kind that is known, and what is for the host's
// loopback, a frame of each.
#include "tests/guests/net.h"

#include <string.h>

#define ETH 14u
#define IPV4 0x0800u
#define ARP (NET_HEADER + ETH + 28u)
#define IP (NET_HEADER + ETH)
#define PING (IP + 20u + 8u)

static struct net net;
static uint8_t *packet;

static const uint8_t self[4] = {10, 0, 2, 15}, gateway[4] = {10, 0, 2, 2},
		     loopback[4] = {127, 0, 0, 1};
static const uint8_t arp[] = {0, 1, 8, 0, 6, 4, 0, 2};
static const uint8_t ping[] = {0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0x62, 0xd0, 10, 0, 2, 15, 10, 0,
	2, 2, 8, 0, 0xf7, 0xff, 0, 0, 0, 0};

static void swap(uint8_t *a, uint8_t *b, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		uint8_t c = a[i];

		a[i] = b[i];
		b[i] = c;
	}
}

static bool is_arp_request(uint32_t len)
{
	const uint8_t *frame = packet + NET_HEADER;

	return len >= ARP && net_type(frame) == 0x0806 && frame[21] == 1 &&
	       !memcmp(frame + 38, self, 4);
}

static void answer_arp(void)
{
	uint8_t *frame = packet + NET_HEADER;

	memset(packet, 0, NET_HEADER);
	memcpy(frame, frame + 6, 6);
	memcpy(frame + 6, net.mac, 6);
	memcpy(frame + ETH, arp, sizeof(arp));
	memcpy(frame + 32, frame + 22, 10);
	memcpy(frame + 22, net.mac, 6);
	memcpy(frame + 28, self, 4);
	net_send(&net, packet, ARP);
}

static void send_ping(unsigned type, const uint8_t dst[4], uint32_t len)
{
	static const uint8_t to[] = {0x52, 0x55, 10, 0, 2, 2};
	uint8_t *frame = packet + NET_HEADER;

	memset(packet, 0, NET_HEADER);
	memcpy(frame, to, 6);
	memcpy(frame + 6, net.mac, 6);
	frame[12] = (uint8_t)(type >> 8);
	frame[13] = (uint8_t)type;
	memcpy(frame + ETH, ping, sizeof(ping));
	memcpy(frame + ETH + 16, dst, 4);
	net_send(&net, packet, len);
}

static void send_wrong(void)
{
	send_ping(IPV4, gateway, PING - 4);
	send_ping(NET_TEST, gateway, PING);
	send_ping(IPV4, loopback, PING);
}

static bool is_reply(uint32_t len)
{
	const uint8_t *ip = packet + IP;

	return len >= PING && net_type(packet + NET_HEADER) == IPV4 && ip[9] == 1 &&
	       !memcmp(ip + 12, gateway, 4) && !memcmp(ip + 16, self, 4) && ip[20] == 0;
}

static bool is_for_us(uint32_t len)
{
	const uint8_t *ip = packet + IP;

	return len >= IP + 28 && net_type(packet + NET_HEADER) == IPV4 && ip[9] == 17 &&
	       !memcmp(ip + 16, self, 4) && ip[22] == 0 && (ip[23] == 7 || ip[23] == 8);
}

/* Its sums stay right: the same words stand elsewhere. */
static void send_back(uint32_t len)
{
	uint8_t *frame = packet + NET_HEADER, *ip = packet + IP;

	memset(packet, 0, NET_HEADER);
	swap(frame, frame + 6, 6);
	swap(ip + 12, ip + 16, 4);
	swap(ip + 20, ip + 22, 2);
	net_send(&net, packet, len);
}

static void ping_gateway(void)
{
	uint32_t len;

	send_ping(IPV4, gateway, PING);
	while (!is_reply(len = net_receive(&net, packet))) {
		if (is_arp_request(len))
			answer_arp();
		else
			relax();
	}
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

		if (is_arp_request(len)) {
			answer_arp();
		} else if (is_for_us(len)) {
			send_back(len);
			count++;
		} else {
			relax();
		}
	}
	print("datagrams: ");
	print_number(count);
	print("\n");
}
