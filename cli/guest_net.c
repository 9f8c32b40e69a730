// SPDX-License-Identifier: MIT
// What a NIC's other end knows of the network, in the words of the guest's init.
#include "cli/guest_net.h"

#include "base/util.h"
#include "vmm/net_config.h"

#include <string.h>

/* IPv4 first: a kernel without IPv6 reaches no other. What is more than fits is left out. */
static void put_resolvers(struct proto_net *out, const struct net_guest *g)
{
	static const struct in6_addr none;
	unsigned n = 0;

	for (unsigned i = 0; i < NET_RESOLVERS_MAX && n < PROTO_RESOLVERS; i++) {
		if (!g->resolver[i].s_addr)
			continue;
		out->resolvers[n][10] = out->resolvers[n][11] = 0xff;
		memcpy(out->resolvers[n++] + 12, &g->resolver[i], 4);
	}
	for (unsigned i = 0; i < NET_RESOLVERS_MAX && n < PROTO_RESOLVERS; i++)
		if (memcmp(&g->resolver6[i], &none, sizeof(none)) != 0)
			memcpy(out->resolvers[n++], &g->resolver6[i], 16);
}

void guest_net_put(struct proto_net *out, const struct net_guest *g)
{
	*out = (struct proto_net){.mtu = (uint16_t)MIN(g->mtu, UINT16_MAX),
		.prefix4 = (uint8_t)g->prefix,
		.prefix6 = (uint8_t)g->prefix6};
	memcpy(out->mac, g->mac, sizeof(out->mac));
	memcpy(out->address4, &g->address, sizeof(out->address4));
	memcpy(out->gateway4, &g->gateway, sizeof(out->gateway4));
	memcpy(out->address6, &g->address6, sizeof(out->address6));
	memcpy(out->gateway6, &g->gateway6, sizeof(out->gateway6));
	put_resolvers(out, g);
}
