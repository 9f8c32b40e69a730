// SPDX-License-Identifier: MIT
// Frames taken apart, and their checksums.
#include "net/slirp/frame.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <linux/virtio_net.h>

#define IPV4_HEADER 20u
#define IPV6_HEADER 40u
#define ARP_PACKET 28u
#define TCP_HEADER 20u
#define UDP_HEADER 8u
#define ICMP_HEADER 8u

enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_ARP = 0x0806, ETHERTYPE_IPV6 = 0x86dd };

static uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_be16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

struct in6_addr frame_ipv4(const void *v4)
{
	struct in6_addr a = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

	memcpy(&a.s6_addr[12], v4, 4);
	return a;
}

/* Four sums of 32-bit words, which a compiler makes vectors of; 2^32 words would overflow one. */
uint32_t frame_sum(const void *bytes, size_t len, uint32_t sum)
{
	const uint8_t *p = bytes;
	uint64_t part[4] = {sum}, all;
	uint32_t word[4];
	uint16_t half;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(word, p, sizeof(word));
		for (unsigned i = 0; i < ARRAY_SIZE(word); i++)
			part[i] += word[i];
	}
	all = part[0] + part[1] + part[2] + part[3];
	for (; len >= 2; p += 2, len -= 2) {
		memcpy(&half, p, 2);
		all += half;
	}
	if (len)
		all += htole16(*p);
	while (all >> 32)
		all = (all & UINT32_MAX) + (all >> 32);
	return (uint32_t)all;
}

uint16_t frame_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint16_t frame_l4_sum(const struct frame *f)
{
	size_t len = f->end - f->l4;
	uint32_t sum = htons((uint16_t)len) + htons(f->protocol);

	/* The words that IPv4's addresses have before them here are ffff, which adds nothing. */
	sum = frame_sum(&f->src, sizeof(f->src), sum);
	sum = frame_sum(&f->dst, sizeof(f->dst), sum);
	return frame_fold(frame_sum(f->bytes + f->l4, len, sum));
}

static enum frame_error parse_tcp(struct frame *f)
{
	const uint8_t *p = f->bytes + f->l4;
	size_t len = f->end - f->l4, header;

	if (len < TCP_HEADER)
		return FRAME_MALFORMED;
	header = (size_t)(p[12] >> 4) * 4;
	if (header < TCP_HEADER || header > len)
		return FRAME_MALFORMED;
	f->src_port = get_be16(p);
	f->dst_port = get_be16(p + 2);
	f->flags = p[13];
	return FRAME_OK;
}

static enum frame_error parse_udp(struct frame *f)
{
	const uint8_t *p = f->bytes + f->l4;
	size_t len = f->end - f->l4, said;

	if (len < UDP_HEADER)
		return FRAME_MALFORMED;
	said = get_be16(p + 4);
	if (said < UDP_HEADER || said > len)
		return FRAME_MALFORMED;
	f->src_port = get_be16(p);
	f->dst_port = get_be16(p + 2);
	return FRAME_OK;
}

static enum frame_error parse_icmp(struct frame *f)
{
	if (f->end - f->l4 < ICMP_HEADER)
		return FRAME_MALFORMED;
	f->type = f->bytes[f->l4];
	return FRAME_OK;
}

static enum frame_error parse_l4(struct frame *f)
{
	if (f->protocol == IPPROTO_TCP)
		return f->fragment ? FRAME_OK : parse_tcp(f);
	if (f->protocol == IPPROTO_UDP)
		return f->fragment ? FRAME_OK : parse_udp(f);
	if (f->protocol == (f->kind == FRAME_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return f->fragment ? FRAME_OK : parse_icmp(f);
	return FRAME_UNKNOWN;
}

static enum frame_error parse_ipv4(struct frame *f, size_t len)
{
	const uint8_t *p = f->bytes + FRAME_ETH;
	size_t room = len - FRAME_ETH, header, total;

	if (room < IPV4_HEADER || p[0] >> 4 != 4)
		return FRAME_MALFORMED;
	header = (size_t)(p[0] & 15) * 4;
	total = get_be16(p + 2);
	if (header < IPV4_HEADER || total < header || total > room)
		return FRAME_MALFORMED;
	f->src = frame_ipv4(p + 12);
	f->dst = frame_ipv4(p + 16);
	f->protocol = p[9];
	f->fragment = get_be16(p + 6) & 0x3fff;
	f->l4 = FRAME_ETH + header;
	f->end = FRAME_ETH + total;
	return parse_l4(f);
}

static enum frame_error parse_ipv6(struct frame *f, size_t len)
{
	const uint8_t *p = f->bytes + FRAME_ETH;
	size_t room = len - FRAME_ETH, payload;

	if (room < IPV6_HEADER || p[0] >> 4 != 6)
		return FRAME_MALFORMED;
	payload = get_be16(p + 4);
	if (payload > room - IPV6_HEADER)
		return FRAME_MALFORMED;
	memcpy(&f->src, p + 8, sizeof(f->src));
	memcpy(&f->dst, p + 24, sizeof(f->dst));
	/* Nobody sends these, and a socket would take them for IPv4. */
	if (IN6_IS_ADDR_V4MAPPED(&f->src) || IN6_IS_ADDR_V4MAPPED(&f->dst))
		return FRAME_MALFORMED;
	f->protocol = p[6];
	f->l4 = FRAME_ETH + IPV6_HEADER;
	f->end = f->l4 + payload;
	return parse_l4(f);
}

enum frame_error frame_parse(struct frame *f, const uint8_t *bytes, size_t len)
{
	*f = (struct frame){.bytes = bytes, .end = len};
	if (len < FRAME_ETH || len > FRAME_MAX)
		return FRAME_MALFORMED;
	switch (get_be16(bytes + 12)) {
	case ETHERTYPE_ARP:
		f->kind = FRAME_ARP;
		return len - FRAME_ETH < ARP_PACKET ? FRAME_MALFORMED : FRAME_OK;
	case ETHERTYPE_IPV4:
		f->kind = FRAME_IPV4;
		return parse_ipv4(f, len);
	case ETHERTYPE_IPV6:
		f->kind = FRAME_IPV6;
		return parse_ipv6(f, len);
	default:
		return FRAME_UNKNOWN;
	}
}

/* The field holds the sum of the pseudo-header, as who left the rest to us has computed it. */
static bool finish_sum(const struct virtio_net_hdr_v1 *h, uint8_t *bytes, size_t len)
{
	size_t start = le16toh(h->csum_start), field = start + le16toh(h->csum_offset);
	uint16_t sum;

	if (start > len || !range_ok(field, 2, len))
		return false;
	sum = frame_fold(frame_sum(bytes + start, len - start, 0));
	memcpy(bytes + field, &sum, sizeof(sum));
	return true;
}

/* The length of the whole; a driver may have left that of a segment, or none. */
static bool lengthen(uint8_t *bytes, size_t len)
{
	uint8_t *p = bytes + FRAME_ETH;
	size_t room = len - FRAME_ETH, header = (size_t)(p[0] & 15) * 4;
	uint16_t sum;

	if (get_be16(bytes + 12) == ETHERTYPE_IPV6 && room >= IPV6_HEADER) {
		put_be16(p + 4, room - IPV6_HEADER);
		return true;
	}
	if (get_be16(bytes + 12) != ETHERTYPE_IPV4 || header < IPV4_HEADER || header > room)
		return false;
	put_be16(p + 2, room);
	put_be16(p + 10, 0);
	sum = frame_fold(frame_sum(p, header, 0));
	memcpy(p + 10, &sum, sizeof(sum));
	return true;
}

/* The pseudo-header's sum may be of a segment too, so the whole of it is computed. */
static bool finish_segments(uint8_t *bytes, size_t len)
{
	struct frame f;
	uint16_t sum = 0;

	if (len < FRAME_ETH + IPV4_HEADER || len > FRAME_MAX || !lengthen(bytes, len))
		return false;
	if (frame_parse(&f, bytes, len) != FRAME_OK || f.protocol != IPPROTO_TCP || f.fragment)
		return false;
	memcpy(bytes + f.l4 + 16, &sum, sizeof(sum));
	sum = frame_l4_sum(&f);
	memcpy(bytes + f.l4 + 16, &sum, sizeof(sum));
	return true;
}

bool frame_finish(const void *vnet_header, uint8_t *bytes, size_t len)
{
	struct virtio_net_hdr_v1 h;
	uint8_t gso;

	memcpy(&h, vnet_header, sizeof(h));
	gso = h.gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	if (gso == VIRTIO_NET_HDR_GSO_TCPV4 || gso == VIRTIO_NET_HDR_GSO_TCPV6)
		return finish_segments(bytes, len);
	if (gso != VIRTIO_NET_HDR_GSO_NONE)
		return false;
	return !(h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || finish_sum(&h, bytes, len);
}
