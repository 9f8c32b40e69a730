// SPDX-License-Identifier: MIT
// The words of --net: whatever they are, they are refused with a message, or are a NIC whose
// addresses and way out are as those of a host can be.
#include "base/log.h"
#include "vmm/net_config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool is)
{
	if (!is)
		abort();
}

static void check4(const struct net_guest *g)
{
	uint64_t own = ntohl(g->address.s_addr), way = ntohl(g->gateway.s_addr);

	check(g->prefix <= 32 && (own != 0) == (g->prefix != 0));
	if (way)
		check(g->prefix && way != own && (way ^ own) >> (32 - g->prefix) == 0);
}

static bool bit_of(const struct in6_addr *a, unsigned n)
{
	return a->s6_addr[n / 8] >> (7 - n % 8) & 1;
}

static void check6(const struct net_guest *g)
{
	static const struct in6_addr none;

	check(g->prefix6 <= 128 && (memcmp(&g->address6, &none, 16) != 0) == (g->prefix6 != 0));
	if (!memcmp(&g->gateway6, &none, 16))
		return;
	check(g->prefix6 && memcmp(&g->address6, &g->gateway6, 16) != 0);
	for (unsigned n = 0; n < g->prefix6 && !IN6_IS_ADDR_LINKLOCAL(&g->gateway6); n++)
		check(bit_of(&g->address6, n) == bit_of(&g->gateway6, n));
}

static void check_nic(const struct net_config *n)
{
	check(n->kind < NET_KINDS);
	check(n->kind == NET_NONE || (n->pairs >= 1 && n->pairs <= NET_PAIRS_MAX));
	check(n->kind == NET_TAP || (!n->told.prefix && !n->told.prefix6));
	check4(&n->told);
	check6(&n->told);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);
	struct net_config n;

	if (!text)
		return 0;
	if (!net_parse(&n, text))
		check_nic(&n);
	else
		check(*last_error());
	net_config_finish(&n);
	free(text);
	return 0;
}
