// SPDX-License-Identifier: MIT
// What a guest in user mode may reach, and what reaches it: the words of publish= and allow=.
#ifndef NET_SLIRP_POLICY_H
#define NET_SLIRP_POLICY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define POLICY_RULES_MAX 64u
#define POLICY_PUBLISH_MAX 64u
#define POLICY_NAME_MAX 254u /* a host name as text, and its end */

/* One allow=: addresses, or a host whose addresses are learned from answers of DNS. */
struct policy_rule {
	char name[POLICY_NAME_MAX]; /* in lower case; "": addresses */
	struct in6_addr net;        /* IPv4 as ::ffff:a.b.c.d */
	unsigned bits;              /* of it that count, of 128 */
	uint16_t port;              /* 0: any, and ping */
};

/* One publish=. */
struct policy_publish {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} host;
	uint16_t guest_port;
	bool udp;
};

struct policy {
	bool restricted; /* the guest reaches only what is published to it */
	bool host;       /* 10.0.2.2 and fec0::2 are the host's loopback */
	bool listed;     /* only what `rule` has is reached */
	struct policy_rule rule[POLICY_RULES_MAX];
	unsigned rules;
	struct policy_publish publish[POLICY_PUBLISH_MAX];
	unsigned published;
};

/* "NAME", "ADDRESS" or "ADDRESS/BITS", with ":PORT" behind it if it is for one port alone; an IPv6
 * address with a port is in brackets. 0, or -errno with a message that names the text. */
int policy_allow(struct policy *p, const char *text);

/* "[ADDRESS:]HOSTPORT:GUESTPORT[/udp]"; the address is 127.0.0.1 unless given. As above. */
int policy_publish(struct policy *p, const char *text);

/* Whether the rules know the host of that name, in lower case. */
bool policy_knows_name(const struct policy *p, const char *name);

/* Whether `a` begins with the first `bits` of `net`. */
bool policy_within(const struct in6_addr *a, const struct in6_addr *net, unsigned bits);

#endif
