// SPDX-License-Identifier: MIT
// The words of publish= and allow=.
#include "net/slirp/policy.h"

#include "base/log.h"
#include "base/util.h"
#include "net/slirp/frame.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define ADDRESS_MAX INET6_ADDRSTRLEN

/* False where it is longer than any that could be meant. */
static bool copy_text(char *to, size_t size, const char *text)
{
	size_t len = strlen(text) + 1;

	if (len > size)
		return false;
	memcpy(to, text, len);
	return true;
}

/* Decimal digits and nothing else. */
static int parse_number(const char *text, unsigned long max, unsigned long *out)
{
	char *end;

	if (!isdigit((unsigned char)*text) || strlen(text) > 5)
		return -EINVAL;
	*out = strtoul(text, &end, 10);
	return *end || *out > max ? -EINVAL : 0;
}

static int parse_port(const char *text, uint16_t *port)
{
	unsigned long n;

	if (parse_number(text, UINT16_MAX, &n) || !n)
		return -EINVAL;
	*port = (uint16_t)n;
	return 0;
}

static int parse_address(const char *text, struct in6_addr *out, bool *v4)
{
	struct in_addr four;

	*v4 = inet_pton(AF_INET, text, &four) == 1;
	if (*v4)
		*out = frame_ipv4(&four);
	return *v4 || inet_pton(AF_INET6, text, out) == 1 ? 0 : -EINVAL;
}

bool policy_within(const struct in6_addr *a, const struct in6_addr *net, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a, net, whole) != 0)
		return false;
	return !rest || (a->s6_addr[whole] ^ net->s6_addr[whole]) >> (8 - rest) == 0;
}

/* RFC 1123, 2.1, and the underscore that some have. */
static bool is_host_name(const char *s)
{
	size_t label = 0;

	for (const char *p = s; *p; p++) {
		bool inner = *p == '-' || *p == '_';

		if (*p == '.' ? !label : !isalnum((unsigned char)*p) && !inner)
			return false;
		label = *p == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return label && strlen(s) < POLICY_NAME_MAX;
}

/* A name whose last label is a number would be an address to everyone else (RFC 1123, 2.1). */
static bool looks_like_address(const char *s)
{
	const char *last = strrchr(s, '.');

	last = last ? last + 1 : s;
	return strspn(last, "0123456789") == strlen(last);
}

static int set_name(struct policy_rule *r, const char *name)
{
	if (!is_host_name(name) || looks_like_address(name))
		return -EINVAL;
	for (size_t i = 0; name[i]; i++)
		r->name[i] = (char)tolower((unsigned char)name[i]);
	return 0;
}

static int set_net(struct policy_rule *r, char *text)
{
	char *slash = strchr(text, '/');
	unsigned long bits;
	bool v4;

	if (slash)
		*slash++ = '\0';
	if (parse_address(text, &r->net, &v4))
		return -EINVAL;
	bits = v4 ? 32 : 128;
	if (slash && parse_number(slash, bits, &bits))
		return -EINVAL;
	r->bits = (unsigned)bits + (v4 ? 96 : 0);
	return 0;
}

/* Bits beyond the prefix are more likely a mistake than meant to be ignored. */
static bool net_is_whole(const struct policy_rule *r)
{
	for (unsigned i = r->bits; i < 128; i++)
		if (r->net.s6_addr[i / 8] & 0x80 >> i % 8)
			return false;
	return true;
}

/* Cuts ":PORT" off; *port stays as it is where there is none. `text` moves past the brackets. */
static int split_port(char **text, uint16_t *port)
{
	char *end, *colon;

	if (**text == '[') {
		end = strchr(++*text, ']');
		if (!end)
			return -EINVAL;
		*end++ = '\0';
		if (!*end)
			return 0;
		return *end == ':' ? parse_port(end + 1, port) : -EINVAL;
	}
	colon = strchr(*text, ':');
	if (!colon || strchr(colon + 1, ':')) /* none, or an IPv6 address without a port */
		return 0;
	*colon = '\0';
	return parse_port(colon + 1, port);
}

static int parse_rule(struct policy_rule *r, char *text)
{
	bool bracketed = *text == '[';

	*r = (struct policy_rule){0};
	if (split_port(&text, &r->port))
		return -EINVAL;
	if (bracketed || strpbrk(text, "/:") || looks_like_address(text))
		return set_net(r, text);
	return set_name(r, text);
}

int policy_allow(struct policy *p, const char *text)
{
	char copy[POLICY_NAME_MAX + 8];
	struct policy_rule *r = &p->rule[p->rules];

	if (p->rules == POLICY_RULES_MAX)
		return fail(EINVAL, "allow %s: at most %u are taken", text, POLICY_RULES_MAX);
	if (!copy_text(copy, sizeof(copy), text) || parse_rule(r, copy))
		return fail(EINVAL,
			"allow %s: must be a host's name, an address or ADDRESS/BITS, with :PORT "
			"behind it or not; [IPv6]:PORT",
			text);
	if (!*r->name && !net_is_whole(r))
		return fail(EINVAL, "allow %s: the address has bits beyond its prefix", text);
	p->rules++;
	return 0;
}

bool policy_knows_name(const struct policy *p, const char *name)
{
	for (unsigned i = 0; i < p->rules; i++)
		if (*p->rule[i].name && !strcmp(p->rule[i].name, name))
			return true;
	return false;
}

static int set_host(struct policy_publish *p, const char *address, uint16_t port)
{
	p->host.v6 = (struct sockaddr_in6){0};
	if (!strchr(address, ':')) {
		p->host.v4.sin_family = AF_INET;
		p->host.v4.sin_port = htons(port);
		return inet_pton(AF_INET, address, &p->host.v4.sin_addr) == 1 ? 0 : -EINVAL;
	}
	p->host.v6.sin6_family = AF_INET6;
	p->host.v6.sin6_port = htons(port);
	return inet_pton(AF_INET6, address, &p->host.v6.sin6_addr) == 1 ? 0 : -EINVAL;
}

/* The address before the ports, brackets taken off; 127.0.0.1 where there is none. */
static const char *cut_address(char **text)
{
	char *address = *text, *end;

	if (*address == '[') {
		end = strstr(++address, "]:");
		if (!end)
			return NULL;
		*end = '\0';
		*text = end + 2;
		return strchr(address, ':') ? address : NULL;
	}
	end = strchr(address, ':');
	if (!end || !strchr(end + 1, ':'))
		return "127.0.0.1";
	*end = '\0';
	*text = end + 1;
	return address;
}

static int parse_publish(struct policy_publish *p, char *text)
{
	char *slash = strrchr(text, '/'), *colon;
	const char *address;
	uint16_t port;

	*p = (struct policy_publish){.udp = slash && !strcmp(slash, "/udp")};
	if (slash && !p->udp && strcmp(slash, "/tcp") != 0)
		return -EINVAL;
	if (slash)
		*slash = '\0';
	address = cut_address(&text);
	colon = strchr(text, ':');
	if (!address || !colon)
		return -EINVAL;
	*colon = '\0';
	if (parse_port(text, &port) || parse_port(colon + 1, &p->guest_port))
		return -EINVAL;
	return set_host(p, address, port);
}

/* libslirp finds the host's port for an answer by the guest's. */
static bool answers_elsewhere(const struct policy *p, const struct policy_publish *new)
{
	for (const struct policy_publish *o = p->publish; o < new; o++)
		if (new->udp && o->udp && o->guest_port == new->guest_port &&
			o->host.any.sa_family == new->host.any.sa_family)
			return true;
	return false;
}

int policy_publish(struct policy *p, const char *text)
{
	struct policy_publish *new = &p->publish[p->published];
	char copy[ADDRESS_MAX + 32];

	if (p->published == POLICY_PUBLISH_MAX)
		return fail(EINVAL, "publish %s: at most %u are taken", text, POLICY_PUBLISH_MAX);
	if (!copy_text(copy, sizeof(copy), text) || parse_publish(new, copy))
		return fail(EINVAL,
			"publish %s: must be [ADDRESS:]HOSTPORT:GUESTPORT[/udp], ports from 1 to "
			"65535, an IPv6 address in brackets",
			text);
	if (answers_elsewhere(p, new))
		return fail(EINVAL,
			"publish %s: the guest's port %u is published for datagrams already, and "
			"its answers go one way",
			text, new->guest_port);
	p->published++;
	return 0;
}
