// SPDX-License-Identifier: MIT
// IPv4 of a guest in user mode.
#include "tests/guests/ip.h"

#include <string.h>

#define ARP_TYPE 0x0806u
#define ARP_END (IP_AT + 28u)

const uint8_t ip_self[4] = {10, 0, 2, 15}, ip_gateway[4] = {10, 0, 2, 2};

static void put16(uint8_t *to, unsigned v)
{
	to[0] = (uint8_t)(v >> 8);
	to[1] = (uint8_t)v;
}

static void put_sum(uint8_t *to, const uint8_t *from, unsigned len)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < len; i++)
		sum += i & 1 ? from[i] : (uint32_t)from[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(to, ~sum);
}

uint32_t ip_wrap(
	const struct net *n, uint8_t *packet, const uint8_t dst[4], uint8_t protocol, uint32_t len)
{
	static const uint8_t router[] = {0x52, 0x55, 10, 0, 2, 2};
	uint8_t *frame = packet + NET_HEADER, *ip = packet + IP_AT;

	memset(packet, 0, IP_DATA);
	memcpy(frame, router, 6);
	memcpy(frame + 6, n->mac, 6);
	put16(frame + 12, IP_TYPE);
	ip[0] = 0x45;
	put16(ip + 2, 20 + len);
	ip[8] = 64;
	ip[9] = protocol;
	memcpy(ip + 12, ip_self, 4);
	memcpy(ip + 16, dst, 4);
	put_sum(ip + 10, ip, 20);
	return IP_DATA + len;
}

uint32_t ip_wrap_echo(const struct net *n, uint8_t *packet, const uint8_t dst[4], uint32_t len)
{
	uint8_t *icmp = packet + IP_DATA;

	memset(icmp, 0, 8);
	icmp[0] = 8;
	put_sum(icmp + 2, icmp, 8 + len);
	return ip_wrap(n, packet, dst, IP_ICMP, 8 + len);
}

uint32_t ip_wrap_udp(const struct net *n, uint8_t *packet, const uint16_t ports[2], uint32_t len)
{
	uint8_t *udp = packet + IP_DATA;

	put16(udp, ports[0]);
	put16(udp + 2, ports[1]);
	put16(udp + 4, 8 + len);
	put16(udp + 6, 0); /* not summed */
	return ip_wrap(n, packet, ip_gateway, IP_UDP, 8 + len);
}

bool ip_is(const uint8_t *packet, uint32_t len, uint8_t protocol)
{
	const uint8_t *ip = packet + IP_AT;

	return len >= IP_DATA + 8 && net_type(packet + NET_HEADER) == IP_TYPE &&
	       ip[9] == protocol && !memcmp(ip + 16, ip_self, 4);
}

static void swap(uint8_t *a, uint8_t *b, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		uint8_t c = a[i];

		a[i] = b[i];
		b[i] = c;
	}
}

void ip_return_udp(struct net *n, uint8_t *packet, uint32_t len)
{
	uint8_t *frame = packet + NET_HEADER, *ip = packet + IP_AT;

	memset(packet, 0, NET_HEADER);
	swap(frame, frame + 6, 6);
	swap(ip + 12, ip + 16, 4);
	swap(ip + 20, ip + 22, 2);
	net_send(n, packet, len);
}

bool ip_answer_arp(struct net *n, uint8_t *packet, uint32_t len)
{
	uint8_t *frame = packet + NET_HEADER, *arp = packet + IP_AT;

	if (len < ARP_END || net_type(frame) != ARP_TYPE || arp[7] != 1 ||
		memcmp(arp + 24, ip_self, 4) != 0)
		return false;
	memset(packet, 0, NET_HEADER);
	memcpy(frame, frame + 6, 6);
	memcpy(frame + 6, n->mac, 6);
	arp[7] = 2;
	memcpy(arp + 18, arp + 8, 10);
	memcpy(arp + 8, n->mac, 6);
	memcpy(arp + 14, ip_self, 4);
	net_send(n, packet, ARP_END);
	return true;
}
