// SPDX-License-Identifier: MIT
// What a monitor and kvick-slirp, its process for a NIC in user mode, have between them.
//
// kvick-slirp has the guest's packets on descriptor SLIRP_PACKETS, a SOCK_SEQPACKET socket where
// each message is a struct virtio_net_hdr_v1 and a frame, both ways. Its standard input is a socket
// of the same kind for control: it says once how its start went, a struct slirp_reply, and then
// lives until the other end of it is closed. SLIRP_COUNTERS is a file in memory of
// SLIRP_COUNTS numbers of 64 bits that it keeps up to date.
#ifndef NET_SLIRP_SLIRP_H
#define NET_SLIRP_SLIRP_H

#include <stdint.h>

enum { SLIRP_CONTROL, SLIRP_PACKETS = 3, SLIRP_COUNTERS };

struct slirp_reply {
	int32_t error; /* 0: it serves; else a positive errno */
	char text[508];
};

/* The guest's network: 10.0.2.0/24 and fec0::/64. */
#define SLIRP_MTU 65520u
#define SLIRP_IPV4_NET "10.0.2.0"
#define SLIRP_IPV4_HOST "10.0.2.2"
#define SLIRP_IPV4_DNS "10.0.2.3"
#define SLIRP_IPV4_GUEST "10.0.2.15"
#define SLIRP_IPV4_BITS 24u
#define SLIRP_IPV6_NET "fec0::"
#define SLIRP_IPV6_HOST "fec0::2"
#define SLIRP_IPV6_DNS "fec0::3"
#define SLIRP_IPV6_GUEST "fec0::15"
#define SLIRP_IPV6_BITS 64u

/* Frames that did not get through, by cause, and what else is counted; what users call each. */
#define SLIRP_COUNTERS_TABLE(ROW)                                                                  \
	ROW(MALFORMED, "malformed") /* cut short, or a length that lies */                         \
	ROW(UNKNOWN, "unknown")     /* not ARP, IPv4, IPv6, or of those not TCP, UDP, ICMP */      \
	ROW(FRAGMENT, "fragment")   /* of a guest that has rules */                                \
	ROW(LOCAL, "local")         /* to the host's loopback, link-local addresses, multicast */  \
	ROW(DENIED, "denied")       /* to what no rule allows */                                   \
	ROW(NAME, "name")           /* a question of DNS about a name that no rule has */          \
	ROW(UNASKED, "unasked")     /* a datagram from whom the guest has not asked */             \
	ROW(FULL, "full")           /* for a guest that does not read */                           \
	ROW(BUSY, "busy")           /* would take one more socket than there may be */

#define SLIRP_ENUM_ROW(id, name) SLIRP_##id,
#define SLIRP_NAME_ROW(id, name) name,
enum slirp_count { SLIRP_COUNTERS_TABLE(SLIRP_ENUM_ROW) SLIRP_COUNTS };

#endif
