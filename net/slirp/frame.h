// SPDX-License-Identifier: MIT
// Ethernet frames of a guest in user mode: what is in them, judged before anyone acts on it.
//
// Pure functions over bytes, as is filter.h's. An address is 16 bytes, IPv4 in its IPv6 form
// (::ffff:a.b.c.d), so that one comparison serves both.
#ifndef NET_SLIRP_FRAME_H
#define NET_SLIRP_FRAME_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_ETH 14u
#define FRAME_MAX (FRAME_ETH + 65535u)

enum frame_kind { FRAME_ARP, FRAME_IPV4, FRAME_IPV6 };

/* Of TCP. */
enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10, TCP_URG = 0x20 };

struct frame {
	const uint8_t *bytes; /* borrowed, from the Ethernet header on */
	size_t end;           /* of the packet in it; what follows is padding */
	enum frame_kind kind;

	/* Of IPv4 and IPv6. */
	struct in6_addr src, dst;
	uint8_t protocol; /* IPPROTO_TCP, _UDP, _ICMP or _ICMPV6, nothing else */
	bool fragment;    /* IPv4 only; what follows is not known then */
	size_t l4;        /* offset of the transport's header */
	uint16_t src_port, dst_port;
	uint8_t flags; /* of TCP */
	uint8_t type;  /* of ICMP */
};

enum frame_error { FRAME_OK, FRAME_MALFORMED, FRAME_UNKNOWN };

/* What the frame is. FRAME_UNKNOWN: whole, but of a kind that nobody here speaks. */
enum frame_error frame_parse(struct frame *f, const uint8_t *bytes, size_t len);

/*
 * Makes of what a virtio_net_hdr_v1 leaves to others to finish a packet that is whole: its checksum
 * (VIRTIO_NET_HDR_F_NEEDS_CSUM), and of one that was to be cut into segments its lengths too, as a
 * single packet of up to 64 KiB is as good. False where the header lies about the frame.
 */
bool frame_finish(const void *vnet_header, uint8_t *bytes, size_t len);

/* The ones' complement sum of bytes, in the byte order that they have, added to `sum`; any number
 * of even-sized pieces may be chained. */
uint32_t frame_sum(const void *bytes, size_t len, uint32_t sum);

/* As 16 bits, and their complement: what is put into a packet. */
uint16_t frame_fold(uint32_t sum);

/* The checksum of the transport's packet that f->l4 and f->end enclose, its field taken as it is.
 * 0 where it is right. */
uint16_t frame_l4_sum(const struct frame *f);

/* ::ffff:a.b.c.d of the four bytes at `v4`. */
struct in6_addr frame_ipv4(const void *v4);

static inline bool frame_is_tcp_open(const struct frame *f)
{
	const uint8_t all = TCP_SYN | TCP_FIN | TCP_RST | TCP_URG | TCP_ACK;

	return f->protocol == IPPROTO_TCP && !f->fragment && (f->flags & all) == TCP_SYN;
}

#endif
