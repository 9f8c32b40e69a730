// SPDX-License-Identifier: MIT
#include "net/bridge/subnet.h"

#include "base/field.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t mask(uint32_t prefix)
{
	return prefix ? ~0u << (32 - prefix) : 0;
}

int subnet_parse(struct subnet *out, const char *text)
{
	const char *slash = strchr(text, '/');
	char address[INET_ADDRSTRLEN];
	int rc = 0;

	if (!slash || (size_t)(slash - text) >= sizeof(address))
		return fail(EINVAL,
			"%s: must be an address and the length of its network, "
			"as in 10.86.0.1/24",
			text);
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	if (inet_pton(AF_INET, address, &out->address) != 1)
		rc = fail(EINVAL, "%s: no IPv4 address", text);
	else if (parse_u32(slash + 1, &out->prefix))
		rc = fail(EINVAL, "%s: \"%s\" is no length of a network", text, slash + 1);
	return rc ? rc : subnet_check(out);
}

const char *subnet_format(const struct subnet *s, char *buf)
{
	char address[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &s->address, address, sizeof(address));
	snprintf(buf, SUBNET_TEXT, "%s/%u", address, s->prefix);
	return buf;
}

int subnet_check(const struct subnet *s)
{
	uint32_t a = ntohl(s->address.s_addr), host = a & ~mask(s->prefix);
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &s->address, text, sizeof(text));
	if (s->prefix < 8 || s->prefix > 30)
		return fail(EINVAL, "%s/%u: the length must be 8 to 30", text, s->prefix);
	if (!host || host == ~mask(s->prefix))
		return fail(EINVAL, "%s/%u: is no host's address in that network", text, s->prefix);
	if (a >> 24 == 0 || a >> 24 == 127 || a >> 24 >= 224)
		return fail(EINVAL, "%s: is no address that a host may have", text);
	return 0;
}

uint32_t subnet_network(const struct subnet *s)
{
	return ntohl(s->address.s_addr) & mask(s->prefix);
}

uint32_t subnet_hosts(const struct subnet *s)
{
	return ~mask(s->prefix) - 1;
}

bool subnet_overlaps(const struct subnet *a, const struct subnet *b)
{
	uint32_t common = mask(a->prefix < b->prefix ? a->prefix : b->prefix);

	return !((ntohl(a->address.s_addr) ^ ntohl(b->address.s_addr)) & common);
}

bool subnet_has(const struct subnet *s, struct in_addr address)
{
	return !((ntohl(s->address.s_addr) ^ ntohl(address.s_addr)) & mask(s->prefix));
}

/* FNV-1a, and what mixes its bits (the end of splitmix64). */
uint64_t stable_hash(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ull;
	h = (h ^ h >> 27) * 0x94d049bb133111ebull;
	return h ^ h >> 31;
}

/* 10.86.N.1/24: N is the name's own number, as of kvick0, or made of the name. */
struct subnet subnet_default(const char *bridge, unsigned n)
{
	size_t digits = strcspn(bridge, "0123456789");
	uint32_t number;

	if (!digits || parse_u32(bridge + digits, &number))
		number = (uint32_t)stable_hash(bridge, strlen(bridge));
	number = (number + n) % DEFAULT_SUBNETS;
	return (struct subnet){{htonl(0x0a560001 | number << 8)}, 24};
}

struct in6_addr subnet6_address(const char *bridge, uint32_t host)
{
	struct in6_addr a = {.s6_addr = {0xfd}};
	uint64_t h = stable_hash(bridge, strlen(bridge));
	uint32_t low = htonl(host);

	memcpy(a.s6_addr + 1, &h, 5);
	memcpy(a.s6_addr + 12, &low, 4);
	return a;
}

struct in6_addr link_local_of(const uint8_t mac[6])
{
	struct in6_addr a = {.s6_addr = {0xfe, 0x80, [11] = 0xff, [12] = 0xfe}};

	memcpy(a.s6_addr + 8, mac, 3);
	memcpy(a.s6_addr + 13, mac + 3, 3);
	a.s6_addr[8] ^= 2;
	return a;
}
