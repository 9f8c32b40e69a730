// SPDX-License-Identifier: MIT
// Frames that answer a guest's in place of whom they were for.
#include "net/slirp/reply.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>

#define HOPS 64u

static size_t ip_header(const struct frame *f)
{
	return f->kind == FRAME_IPV4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
}

static void put_ipv4(const struct frame *f, uint8_t *to, size_t len)
{
	struct iphdr ip = {.version = 4,
		.ihl = 5,
		.tot_len = htons((uint16_t)(sizeof(ip) + len)),
		.frag_off = htons(IP_DF),
		.ttl = HOPS,
		.protocol = f->protocol};

	memcpy(&ip.saddr, &f->dst.s6_addr[12], 4);
	memcpy(&ip.daddr, &f->src.s6_addr[12], 4);
	ip.check = frame_fold(frame_sum(&ip, sizeof(ip), 0));
	memcpy(to, &ip, sizeof(ip));
}

static void put_ipv6(const struct frame *f, uint8_t *to, size_t len)
{
	struct ip6_hdr ip = {.ip6_flow = htonl(6u << 28),
		.ip6_plen = htons((uint16_t)len),
		.ip6_nxt = f->protocol,
		.ip6_hlim = HOPS,
		.ip6_src = f->dst,
		.ip6_dst = f->src};

	memcpy(to, &ip, sizeof(ip));
}

/* Headers of Ethernet and IP before `len` bytes, back to who sent `f`. */
static void put_headers(const struct frame *f, uint8_t *to, size_t len)
{
	memcpy(to, f->bytes + 6, 6);
	memcpy(to + 6, f->bytes, 6);
	memcpy(to + 12, f->bytes + 12, 2);
	if (f->kind == FRAME_IPV4)
		put_ipv4(f, to + FRAME_ETH, len);
	else
		put_ipv6(f, to + FRAME_ETH, len);
}

/* The sum of the transport's packet in what was made; its own field is still 0. */
static uint16_t sum_of(const struct frame *f, const uint8_t *frame, size_t len)
{
	struct frame made = {.bytes = frame,
		.src = f->dst,
		.dst = f->src,
		.protocol = f->protocol,
		.l4 = FRAME_ETH + ip_header(f)};

	made.end = made.l4 + len;
	return frame_l4_sum(&made);
}

/* RFC 9293, 3.10.7.1: a segment without an acknowledgement is answered from sequence number 0. */
size_t reply_reset(const struct frame *f, uint8_t to[REPLY_HEADERS])
{
	size_t l4 = FRAME_ETH + ip_header(f);
	struct tcphdr opened, reset;

	memcpy(&opened, f->bytes + f->l4, sizeof(opened));
	reset = (struct tcphdr){.th_sport = opened.th_dport,
		.th_dport = opened.th_sport,
		.th_ack = htonl(ntohl(opened.th_seq) + 1),
		.th_off = sizeof(reset) / 4,
		.th_flags = TH_RST | TH_ACK};
	put_headers(f, to, sizeof(reset));
	memcpy(to + l4, &reset, sizeof(reset));
	reset.th_sum = sum_of(f, to, sizeof(reset));
	memcpy(to + l4, &reset, sizeof(reset));
	return l4 + sizeof(reset);
}

size_t reply_datagram(const struct frame *f, uint8_t *to, size_t len, uint8_t **frame)
{
	size_t all = sizeof(struct udphdr) + len, l4 = FRAME_ETH + ip_header(f);
	uint8_t *at = to + REPLY_HEADERS - sizeof(struct udphdr) - l4;
	struct udphdr udp = {.uh_sport = htons(f->dst_port),
		.uh_dport = htons(f->src_port),
		.uh_ulen = htons((uint16_t)all)};

	put_headers(f, at, all);
	memcpy(at + l4, &udp, sizeof(udp));
	udp.uh_sum = sum_of(f, at, all);
	if (!udp.uh_sum)
		udp.uh_sum = UINT16_MAX; /* 0 would be none (RFC 768) */
	memcpy(at + l4, &udp, sizeof(udp));
	*frame = at;
	return l4 + all;
}
