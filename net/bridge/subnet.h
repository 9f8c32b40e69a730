// SPDX-License-Identifier: MIT
// IPv4 networks, and the addresses that are made of names.
#ifndef NET_BRIDGE_SUBNET_H
#define NET_BRIDGE_SUBNET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An address within its network; prefix 0: none. */
struct subnet {
	struct in_addr address;
	uint32_t prefix;
};

#define SUBNET_TEXT 20 /* "255.255.255.255/32" with its end */

/* "10.86.0.1/24": a host's address with the length of its network. 0, or -EINVAL with a message. */
int subnet_parse(struct subnet *out, const char *text);

/* The reverse, into SUBNET_TEXT bytes; returned. */
const char *subnet_format(const struct subnet *s, char *buf);

/* -EINVAL, with a message, where it is no network of 8 to 30 bits, or no host's address in it. */
int subnet_check(const struct subnet *s);

/* The network's own address, in host order. */
uint32_t subnet_network(const struct subnet *s);

/* How many addresses hosts may have in it. */
uint32_t subnet_hosts(const struct subnet *s);

/* Whether two networks have an address in common. */
bool subnet_overlaps(const struct subnet *a, const struct subnet *b);

bool subnet_has(const struct subnet *s, struct in_addr address);

/* The same for the same bytes, wherever and whenever. */
uint64_t stable_hash(const void *bytes, size_t len);

/* The `n`th network that a bridge of that name gets of itself, of DEFAULT_SUBNETS. */
#define DEFAULT_SUBNETS 256u
struct subnet subnet_default(const char *bridge, unsigned n);

/* The bridge's own IPv6 network, /64 and for local use (RFC 4193): its host number `host`. */
struct in6_addr subnet6_address(const char *bridge, uint32_t host);

/* The link-local address that is made of a MAC (RFC 4291, appendix A). */
struct in6_addr link_local_of(const uint8_t mac[6]);

#endif
