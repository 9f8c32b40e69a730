// SPDX-License-Identifier: MIT
// The filter of a guest in user mode. The theory is in filter.h.
#include "net/slirp/filter.h"

#include "base/util.h"

#include <arpa/inet.h>

enum { PORT_DNS = 53, PORT_DHCP_SERVER = 67, PORT_DHCPV6_SERVER = 547 };
enum { ICMP_ECHO_REQUEST = 8, ICMPV6_ECHO_REQUEST = 128 };
enum { ICMPV6_ROUTER_SOLICITATION = 133, ICMPV6_SOLICITATION = 135, ICMPV6_ADVERTISEMENT = 136 };

#define FLOW_MS 240000  /* as long as libslirp keeps a socket for datagrams */
#define FLOW_WAYS 4u    /* entries that one pair of ends may be in */
#define LEARN_MIN_S 60u /* a guest that has just been told an address must get to use it */
#define LEARN_MAX_S 86400u

/* An address as the four or eight numbers that it is written with. */
#define IPV4(a, b, c, d)                                                                           \
	((struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff, (a), (b), (c), (d)}})
#define FEC0(last) ((struct in6_addr){.s6_addr = {0xfe, 0xc0, [15] = (last)}})
#define BITS4(n) (96u + (n))

static const struct in6_addr host4 = IPV4(10, 0, 2, 2), dns4 = IPV4(10, 0, 2, 3);
static const struct in6_addr host6 = FEC0(2), dns6 = FEC0(3);
static const struct in6_addr linklocal4 = IPV4(169, 254, 0, 0);
static const struct in6_addr host_link6 = {.s6_addr = {0xfe, 0x80, [15] = 2}};

/* No gateway has a way to these, and the host's own kernel takes some of them for itself. */
static const struct {
	struct in6_addr net;
	unsigned bits;
} local[] = {
	{IPV4(0, 0, 0, 0), BITS4(8)},                 /* this host */
	{IPV4(127, 0, 0, 0), BITS4(8)},               /* loopback */
	{IPV4(10, 0, 2, 0), BITS4(SLIRP_IPV4_BITS)},  /* the guest's own network */
	{IPV4(169, 254, 0, 0), BITS4(16)},            /* link-local */
	{IPV4(224, 0, 0, 0), BITS4(3)},               /* multicast, reserved, broadcast */
	{{.s6_addr = {0}}, 96},                       /* unspecified, loopback */
	{{.s6_addr = {0xfe, 0xc0}}, SLIRP_IPV6_BITS}, /* the guest's own network */
	{{.s6_addr = {0xfe, 0x80}}, 10},              /* link-local */
	{{.s6_addr = {0xff}}, 8},                     /* multicast */
};

static bool same(const struct in6_addr *a, const struct in6_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

void filter_init(struct filter *f, const struct policy *p, uint64_t *counts)
{
	memset(f, 0, sizeof(*f));
	f->policy = p;
	f->counts = counts;
}

static enum filter_verdict drop(struct filter *f, enum slirp_count why)
{
	f->counts[why]++;
	return FILTER_DROP;
}

/* Datagrams: who talks with whom. */

static struct filter_flow *flow_set(struct filter *f, const struct filter_flow *k)
{
	uint32_t h = k->guest_port * 31u + k->peer_port, word;

	for (unsigned i = 0; i < sizeof(k->peer); i += sizeof(word)) {
		memcpy(&word, &k->peer.s6_addr[i], sizeof(word));
		h = (h ^ word) * 0x9e3779b1u;
	}
	return &f->flow[(h >> 16) % (FILTER_FLOWS / FLOW_WAYS) * FLOW_WAYS];
}

static struct filter_flow *flow_find(struct filter *f, const struct filter_flow *k, int64_t now_ms)
{
	struct filter_flow *set = flow_set(f, k);

	for (unsigned i = 0; i < FLOW_WAYS; i++)
		if (set[i].until_ms > now_ms && set[i].guest_port == k->guest_port &&
			set[i].peer_port == k->peer_port && same(&set[i].guest, &k->guest) &&
			same(&set[i].peer, &k->peer))
			return &set[i];
	return NULL;
}

/* In place of the one that has been silent for longest. */
static void flow_keep(struct filter *f, struct filter_flow *k, int64_t now_ms)
{
	struct filter_flow *at = flow_find(f, k, now_ms), *set = flow_set(f, k);

	if (!at) {
		at = set;
		for (unsigned i = 1; i < FLOW_WAYS; i++)
			if (set[i].until_ms < at->until_ms)
				at = &set[i];
	}
	k->until_ms = now_ms + FLOW_MS;
	*at = *k;
}

static struct filter_flow flow_of_guest(const struct frame *p)
{
	return (struct filter_flow){.guest = p->src,
		.peer = p->dst,
		.guest_port = p->src_port,
		.peer_port = p->dst_port};
}

static struct filter_flow flow_to_guest(const struct frame *p)
{
	return (struct filter_flow){.guest = p->dst,
		.peer = p->src,
		.guest_port = p->dst_port,
		.peer_port = p->src_port};
}

/* Rules. */

static bool port_ok(const struct policy_rule *r, const struct frame *p)
{
	bool ping = p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6;

	return !r->port || (!ping && r->port == p->dst_port);
}

static bool net_matches(const struct policy_rule *r, const struct in6_addr *a)
{
	return !*r->name && IN6_IS_ADDR_V4MAPPED(&r->net) == IN6_IS_ADDR_V4MAPPED(a) &&
	       policy_within(a, &r->net, r->bits);
}

/* Whether the name of rule `i` has an address; each name is learned for the first that has it. */
static bool name_matches(const struct filter *f, unsigned i, const struct frame *p, int64_t now_ms)
{
	const struct filter_learned *l;

	for (l = f->learned; l < f->learned + FILTER_LEARNED; l++)
		if (l->until_ms > now_ms && same(&l->address, &p->dst) &&
			!strcmp(f->policy->rule[l->rule].name, f->policy->rule[i].name))
			return true;
	return false;
}

static bool listed(const struct filter *f, const struct frame *p, int64_t now_ms)
{
	for (unsigned i = 0; i < f->policy->rules; i++) {
		const struct policy_rule *r = &f->policy->rule[i];

		if (port_ok(r, p) &&
			(*r->name ? name_matches(f, i, p, now_ms) : net_matches(r, &p->dst)))
			return true;
	}
	return false;
}

/* A rule opens link-local addresses only where it is about nothing else. */
static bool names_linklocal(const struct filter *f, const struct frame *p)
{
	for (unsigned i = 0; i < f->policy->rules; i++) {
		const struct policy_rule *r = &f->policy->rule[i];

		if (r->bits >= BITS4(16) && port_ok(r, p) && net_matches(r, &p->dst) &&
			policy_within(&r->net, &linklocal4, BITS4(16)))
			return true;
	}
	return false;
}

static bool is_local(const struct filter *f, const struct frame *p)
{
	if (f->policy->host && (same(&p->dst, &host4) || same(&p->dst, &host6)))
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(local); i++)
		if (policy_within(&p->dst, &local[i].net, local[i].bits))
			return !names_linklocal(f, p);
	return false;
}

static bool is_host(const struct frame *p)
{
	return same(&p->dst, &host4) || same(&p->dst, &host6);
}

static bool is_dns(const struct frame *p)
{
	return p->dst_port == PORT_DNS && (same(&p->dst, &dns4) || same(&p->dst, &dns6));
}

static enum filter_verdict deny(struct filter *f, const struct frame *p, enum slirp_count why)
{
	drop(f, why);
	return frame_is_tcp_open(p) ? FILTER_REFUSE : FILTER_DROP;
}

/* Where the guest may go of itself. The host's loopback is not among what rules can name: it is
 * open, to those that it is open to, as a whole. */
static enum filter_verdict judge(struct filter *f, const struct frame *p, int64_t now_ms)
{
	const struct policy *policy = f->policy;

	if (is_local(f, p))
		return deny(f, p, SLIRP_LOCAL);
	if (policy->restricted)
		return deny(f, p, SLIRP_DENIED);
	if (policy->listed && !is_host(p) && !listed(f, p, now_ms))
		return deny(f, p, SLIRP_DENIED);
	return FILTER_PASS;
}

/* The resolver of a guest with rules answers datagrams alone. */
static enum filter_verdict judge_dns(struct filter *f, const struct frame *p)
{
	if (f->policy->restricted || (f->policy->listed && p->protocol != IPPROTO_UDP))
		return deny(f, p, SLIRP_DENIED);
	return f->policy->listed ? FILTER_DNS : FILTER_PASS;
}

static enum filter_verdict out_tcp(struct filter *f, const struct frame *p, int64_t now_ms)
{
	if (!frame_is_tcp_open(p))
		return FILTER_PASS;
	return is_dns(p) ? judge_dns(f, p) : judge(f, p, now_ms);
}

static bool is_dhcp(const struct frame *p)
{
	static const struct in6_addr broadcast = IPV4(255, 255, 255, 255);
	static const struct in6_addr servers = {
		.s6_addr = {0xff, 0x02, [13] = 1, [15] = 2}}; /* RFC 8415, 7.1 */

	if (p->dst_port == PORT_DHCP_SERVER)
		return same(&p->dst, &broadcast) || same(&p->dst, &host4);
	return p->dst_port == PORT_DHCPV6_SERVER &&
	       (same(&p->dst, &servers) || same(&p->dst, &host6));
}

static enum filter_verdict out_udp(struct filter *f, const struct frame *p, int64_t now_ms)
{
	struct filter_flow flow = flow_of_guest(p), *known;
	enum filter_verdict v;

	if (is_dhcp(p))
		return FILTER_PASS;
	if (is_dns(p))
		return judge_dns(f, p);
	known = flow_find(f, &flow, now_ms);
	if (known) {
		known->until_ms = now_ms + FLOW_MS;
		return FILTER_PASS;
	}
	v = judge(f, p, now_ms);
	if (v == FILTER_PASS && f->policy->listed)
		flow_keep(f, &flow, now_ms);
	return v;
}

/* libslirp answers for 10.0.2.2 and .3 itself. */
static enum filter_verdict out_icmp(struct filter *f, const struct frame *p, int64_t now_ms)
{
	if (p->type != ICMP_ECHO_REQUEST)
		return drop(f, SLIRP_UNKNOWN);
	if (same(&p->dst, &host4) || same(&p->dst, &dns4))
		return FILTER_PASS;
	return judge(f, p, now_ms);
}

/* Neighbours, and echoes that libslirp answers; it knows no others. */
static enum filter_verdict out_icmpv6(struct filter *f, const struct frame *p)
{
	switch (p->type) {
	case ICMPV6_ROUTER_SOLICITATION:
	case ICMPV6_SOLICITATION:
	case ICMPV6_ADVERTISEMENT:
		return FILTER_PASS;
	case ICMPV6_ECHO_REQUEST:
		if (same(&p->dst, &host6) || same(&p->dst, &dns6) || same(&p->dst, &host_link6))
			return FILTER_PASS;
	}
	return drop(f, SLIRP_UNKNOWN);
}

/* The address is in each of them, the ports only in the first. */
static enum filter_verdict out_fragment(struct filter *f, const struct frame *p, int64_t now_ms)
{
	if (f->policy->restricted || f->policy->listed)
		return drop(f, SLIRP_FRAGMENT);
	return judge(f, p, now_ms);
}

enum filter_verdict filter_out(struct filter *f, const struct frame *p, int64_t now_ms)
{
	if (p->kind == FRAME_ARP)
		return FILTER_PASS;
	if (p->fragment)
		return out_fragment(f, p, now_ms);
	switch (p->protocol) {
	case IPPROTO_TCP:
		return out_tcp(f, p, now_ms);
	case IPPROTO_UDP:
		return out_udp(f, p, now_ms);
	case IPPROTO_ICMP:
		return out_icmp(f, p, now_ms);
	case IPPROTO_ICMPV6:
		return out_icmpv6(f, p);
	default:
		return drop(f, SLIRP_UNKNOWN);
	}
}

static bool is_loopback(const struct in6_addr *a)
{
	static const struct in6_addr loopback4 = IPV4(127, 0, 0, 0);

	return IN6_IS_ADDR_LOOPBACK(a) || policy_within(a, &loopback4, BITS4(8));
}

/* Whether who has this address can have come by what is published there. */
static bool reaches(const struct in6_addr *src, const struct policy_publish *p)
{
	bool v4 = p->host.any.sa_family == AF_INET;
	struct in6_addr at = v4 ? frame_ipv4(&p->host.v4.sin_addr) : p->host.v6.sin6_addr;

	if (IN6_IS_ADDR_V4MAPPED(src) != v4)
		return false;
	return !is_loopback(&at) || is_loopback(src) || same(src, &host4) || same(src, &host6);
}

/* What the guest sends from that port of another address of its own makes a socket that is nobody's
 * business, on which others may answer: the port alone says nothing. */
static bool is_published(const struct policy *policy, const struct frame *f)
{
	for (const struct policy_publish *p = policy->publish;
		p < policy->publish + policy->published; p++)
		if (p->udp && p->guest_port == f->dst_port && reaches(&f->src, p))
			return true;
	return false;
}

/* libslirp's own: DHCP and its kin. */
static bool from_gateway(const struct frame *p)
{
	return (p->src_port == PORT_DHCP_SERVER && same(&p->src, &host4)) ||
	       (p->src_port == PORT_DHCPV6_SERVER && same(&p->src, &host6));
}

bool filter_in(struct filter *f, const struct frame *p, int64_t now_ms)
{
	bool rules = f->policy->restricted || f->policy->listed;
	struct filter_flow flow = flow_to_guest(p);

	if (p->kind == FRAME_ARP || p->protocol != IPPROTO_UDP)
		return true;
	if (p->fragment) {
		f->counts[SLIRP_FRAGMENT] += rules;
		return !rules;
	}
	if (is_published(f->policy, p)) {
		flow_keep(f, &flow, now_ms);
		return true;
	}
	if (!rules || from_gateway(p) || flow_find(f, &flow, now_ms))
		return true;
	f->counts[SLIRP_UNASKED]++;
	return false;
}

static unsigned rule_of_name(const struct policy *p, const char *name)
{
	unsigned i = 0;

	while (i < p->rules && strcmp(p->rule[i].name, name) != 0)
		i++;
	return i;
}

/* In its own entry if it has one, else in that which ends first. */
void filter_learn(struct filter *f, const char *name, const struct in6_addr *address,
	uint32_t ttl_s, int64_t now_ms)
{
	unsigned rule = rule_of_name(f->policy, name);
	struct filter_learned *at = f->learned, *l;
	int64_t until = now_ms + (int64_t)MIN(MAX(ttl_s, LEARN_MIN_S), LEARN_MAX_S) * 1000;

	if (!*name || rule == f->policy->rules)
		return;
	for (l = f->learned; l < f->learned + FILTER_LEARNED; l++) {
		if (l->rule == rule && l->until_ms && same(&l->address, address)) {
			l->until_ms = MAX(l->until_ms, until);
			return;
		}
		if (l->until_ms < at->until_ms)
			at = l;
	}
	*at = (struct filter_learned){*address, rule, until};
}
