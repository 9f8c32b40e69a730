// SPDX-License-Identifier: MIT
// The addresses of a guest on a tap: the words of ip=, gw= and dns=.
#include "vmm/net_address.h"

#include "base/log.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

/* Of either family. */
struct address {
	int family;
	union {
		struct in_addr v4;
		struct in6_addr v6;
	};
};

static bool parse_address(struct address *a, const char *text)
{
	a->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(a->family, text, &a->v6) == 1;
}

/* Whether two begin with the same `bits`. */
static bool share(const void *a, const void *b, unsigned bits)
{
	const uint8_t *p = a, *q = b;
	unsigned whole = bits / 8, rest = bits % 8;

	return !memcmp(p, q, whole) && (!rest || !((p[whole] ^ q[whole]) >> (8 - rest)));
}

static bool is_host4(struct in_addr address, unsigned bits)
{
	uint32_t a = ntohl(address.s_addr), own = bits < 31 ? ~0u >> bits : 0;

	return a >> 24 && a >> 24 != 127 && a >> 24 < 224 && (!own || ((a & own) && ~a & own));
}

static bool is_host6(const struct in6_addr *a)
{
	return !IN6_IS_ADDR_UNSPECIFIED(a) && !IN6_IS_ADDR_LOOPBACK(a) && !IN6_IS_ADDR_MULTICAST(a);
}

static int take_ip(struct net_guest *g, const char *text)
{
	const char *slash = strchrnul(text, '/');
	char alone[INET6_ADDRSTRLEN];
	struct address a;
	bool v4;
	uint32_t bits;

	if (snprintf(alone, sizeof(alone), "%.*s", (int)(slash - text), text) >=
			(int)sizeof(alone) ||
		!*slash || parse_u32(slash + 1, &bits) || !parse_address(&a, alone))
		return fail(EINVAL,
			"ip %s: must be an address and the length of its network, as in "
			"192.168.70.2/24 or fd70::2/64",
			text);
	v4 = a.family == AF_INET;
	if (v4 ? g->prefix : g->prefix6)
		return fail(EINVAL, "ip %s: there is one of IPv%d already", text, v4 ? 4 : 6);
	if (!bits || bits > (v4 ? 32 : 128))
		return fail(EINVAL, "ip %s: the length of its network must be 1 to %d", text,
			v4 ? 32 : 128);
	if (v4 ? !is_host4(a.v4, bits) : !is_host6(&a.v6))
		return fail(EINVAL, "ip %s: is no host's address", text);
	if (v4)
		g->address = a.v4, g->prefix = bits;
	else
		g->address6 = a.v6, g->prefix6 = bits;
	return 0;
}

/* The guest reaches it without a way out: what is on its own network, and a link's own addresses.
 */
static bool is_near(const struct net_guest *g, const struct address *a)
{
	if (a->family == AF_INET)
		return is_host4(a->v4, g->prefix) && share(&a->v4, &g->address, g->prefix) &&
		       a->v4.s_addr != g->address.s_addr;
	return is_host6(&a->v6) && !IN6_ARE_ADDR_EQUAL(&a->v6, &g->address6) &&
	       (share(&a->v6, &g->address6, g->prefix6) || IN6_IS_ADDR_LINKLOCAL(&a->v6));
}

static int take_gateway(struct net_guest *g, const char *text)
{
	struct address a;
	bool v4;

	if (!parse_address(&a, text))
		return fail(EINVAL, "gw %s: must be an address", text);
	v4 = a.family == AF_INET;
	if (!(v4 ? g->prefix : g->prefix6))
		return fail(EINVAL, "gw %s: needs an ip of IPv%d", text, v4 ? 4 : 6);
	if (v4 ? g->gateway.s_addr != 0 : !IN6_IS_ADDR_UNSPECIFIED(&g->gateway6))
		return fail(EINVAL, "gw %s: there is one of IPv%d already", text, v4 ? 4 : 6);
	if (!is_near(g, &a))
		return fail(EINVAL,
			"gw %s: is no other host in the network of ip, where the guest reaches it",
			text);
	if (v4)
		g->gateway = a.v4;
	else
		g->gateway6 = a.v6;
	return 0;
}

/* Where the next one goes; NET_RESOLVERS_MAX: nowhere. */
static unsigned resolvers(const struct net_guest *g, bool v4)
{
	unsigned n = 0;

	while (n < NET_RESOLVERS_MAX &&
		(v4 ? g->resolver[n].s_addr != 0 : !IN6_IS_ADDR_UNSPECIFIED(&g->resolver6[n])))
		n++;
	return n;
}

static int take_resolver(struct net_guest *g, const char *text)
{
	struct address a;
	unsigned n;
	bool v4;

	if (!parse_address(&a, text))
		return fail(EINVAL, "dns %s: must be an address", text);
	v4 = a.family == AF_INET;
	if (v4 ? !is_host4(a.v4, 32) : !is_host6(&a.v6))
		return fail(EINVAL, "dns %s: is no host's address", text);
	if (!(v4 ? g->prefix : g->prefix6))
		return fail(EINVAL, "dns %s: needs an ip of IPv%d", text, v4 ? 4 : 6);
	n = resolvers(g, v4);
	if (n == NET_RESOLVERS_MAX)
		return fail(EINVAL, "dns %s: there are %u of IPv%d already", text, n, v4 ? 4 : 6);
	if (v4)
		g->resolver[n] = a.v4;
	else
		g->resolver6[n] = a.v6;
	return 0;
}

int net_address_parse(struct net_guest *g, const struct field_list *ip,
	const struct field_list *gateway, const struct field_list *dns)
{
	int rc = 0;

	for (unsigned i = 0; i < ip->count && !rc; i++)
		rc = take_ip(g, ip->items[i]);
	for (unsigned i = 0; i < gateway->count && !rc; i++)
		rc = take_gateway(g, gateway->items[i]);
	for (unsigned i = 0; i < dns->count && !rc; i++)
		rc = take_resolver(g, dns->items[i]);
	return rc;
}
