// SPDX-License-Identifier: MIT
// The table of what can be said about a NIC, and the words of --net.
#include "vmm/net_config.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/port.h"
#include "net/slirp/slirp.h"
#include "vmm/keys.h"
#include "vmm/net_address.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

#define USER (1u << NET_USER)
#define TAP (1u << NET_TAP)
#define BRIDGE (1u << NET_BRIDGE)
#define ANY (USER | TAP | BRIDGE)
#define VERB (1u << NET_NONE) /* of limit-nic; a NIC that is none has no keys */
#define AT(member) .offset = offsetof(struct net_config, member)

static const char *const kinds[] = {
	[NET_NONE] = "none",
	[NET_USER] = "user",
	[NET_TAP] = "tap",
	[NET_BRIDGE] = "bridge",
	[NET_KINDS] = NULL,
};

static const char *const links[] = {[NET_LINK_UP] = "up", [NET_LINK_DOWN] = "down", NULL};

static const char *const to_host[] = {[NET_HOST_DENY] = "deny", [NET_HOST_ALLOW] = "allow", NULL};

static const char *const vhosts[] = {
	[NET_VHOST_OFF] = "off",
	[NET_VHOST_ON] = "on",
	[NET_VHOST_AUTO] = "auto",
	NULL,
};

const struct field net_keys[] = {
	{"id", "ID", "what messages and commands call the NIC; by default net0, net1, ...", AT(id),
		.type = FIELD_STRING, .commands = ANY | VERB | FIELD_MANDATORY},
	{"tx-bw", "SIZE", "bytes a second that the guest sends", AT(limits.tx.bandwidth),
		.type = FIELD_SIZE, .max = INT64_MAX, .commands = ANY | VERB},
	{"tx-bw-burst", "SIZE", "bytes at once after a rest", AT(limits.tx.bandwidth_burst),
		.type = FIELD_SIZE, .max = INT64_MAX, .commands = ANY | VERB},
	{"tx-pps", "N", "packets a second that the guest sends", AT(limits.tx.packets),
		.type = FIELD_U32, .commands = ANY | VERB},
	{"tx-pps-burst", "N", "packets at once after a rest", AT(limits.tx.packets_burst),
		.type = FIELD_U32, .commands = ANY | VERB},
	{"rx-bw", "SIZE", "bytes a second that it receives", AT(limits.rx.bandwidth),
		.type = FIELD_SIZE, .max = INT64_MAX, .commands = ANY | VERB},
	{"rx-bw-burst", "SIZE", "bytes at once after a rest", AT(limits.rx.bandwidth_burst),
		.type = FIELD_SIZE, .max = INT64_MAX, .commands = ANY | VERB},
	{"rx-pps", "N", "packets a second that it receives", AT(limits.rx.packets),
		.type = FIELD_U32, .commands = ANY | VERB},
	{"rx-pps-burst", "N", "packets at once after a rest", AT(limits.rx.packets_burst),
		.type = FIELD_U32, .commands = ANY | VERB},
	{"mac", "ADDRESS", "its address; without it one made of the VM's name", AT(mac_text),
		.type = FIELD_STRING, .commands = ANY},
	{"mtu", "BYTES", "the largest packet; 0: that of the other end", AT(mtu), .type = FIELD_U32,
		.fallback = "0", .max = NET_MTU_MAX, .commands = ANY},
	{"queues", "N", "pairs of virtqueues, as many as the guest's processors at most are of use",
		AT(pairs), .type = FIELD_U32, .fallback = "1", .min = 1, .max = NET_PAIRS_MAX,
		.commands = TAP | BRIDGE},
	{"addr", "SLOT", "with --transport pci, which slot it is in: 1 to 31, or 0x1 to 0x1f",
		AT(slot), .type = FIELD_U32, .min = 1, .max = 31, .commands = ANY},
	{"link", "STATE", "whether a cable is plugged in at first; kvick link changes it", AT(link),
		.type = FIELD_ENUM, .names = links, .fallback = "up", .commands = ANY},
	{"pcap", "FILE", "records the frames that the guest sends and receives, as a pcap file",
		AT(pcap), .type = FIELD_STRING, .commands = ANY},
	{"name", "TAP", "a tap that there is; without it one is made, and goes with the VM",
		AT(name), .type = FIELD_STRING, .commands = TAP},
	{"fd", "N", "an open tap, as descriptor N of this process; once for each pair of queues",
		AT(fd), .type = FIELD_LIST, .commands = TAP},
	{"ip", "IP/BITS", "the address of a guest of run; one of IPv4, one of IPv6", AT(tap_ip),
		.type = FIELD_LIST, .commands = TAP},
	{"gw", "IP", "the router in the network of ip; one of each likewise", AT(gateway),
		.type = FIELD_LIST, .commands = TAP},
	{"dns", "IP", "who answers for names, up to three of each", AT(dns), .type = FIELD_LIST,
		.commands = TAP},
	{"vhost", "MODE", "whether the host's kernel moves the packets; auto: where it can",
		AT(vhost), .type = FIELD_ENUM, .names = vhosts, .fallback = "auto",
		.commands = TAP | BRIDGE},
	{"publish", "PORTS",
		"[ADDRESS:]HOSTPORT:GUESTPORT[/udp], as --publish has it; may be repeated",
		AT(publish), .type = FIELD_LIST, .commands = USER},
	{"allow", "WHERE",
		"the guest reaches only what these name: a host, an address or ADDRESS/BITS, with "
		":PORT behind it or not; may be repeated",
		AT(allow), .type = FIELD_LIST, .commands = USER},
	{"restrict", NULL, "the guest reaches nothing but who connects to a published port",
		AT(restricted), .type = FIELD_FLAG, .commands = USER},
	{"host", "WHAT", "whether 10.0.2.2 and fec0::2 are the host's loopback to the guest",
		AT(host), .type = FIELD_ENUM, .names = to_host, .fallback = "deny",
		.commands = USER},
	{"br", "NAME", "one that there is, or else is made and goes with the last VM on it",
		AT(bridge), .type = FIELD_STRING, .fallback = "kvick0", .commands = BRIDGE},
	{"address", "IP/BITS",
		"the host's on a bridge that is made; without it one of 10.86.0.0/16", AT(address),
		.type = FIELD_STRING, .commands = BRIDGE},
	{"nat", NULL, "the bridge's guests reach what the host does, with its address", AT(nat),
		.type = FIELD_FLAG, .commands = BRIDGE},
	{"dhcp", NULL, "dnsmasq gives the bridge's guests addresses, and knows their names",
		AT(dhcp), .type = FIELD_FLAG, .commands = BRIDGE},
	{"ip", "IP/BITS", "the guest's; without it one that its MAC makes, of those free", AT(ip),
		.type = FIELD_STRING, .commands = BRIDGE},
	{"isolate", NULL, "the guest does not reach other guests that are isolated", AT(isolate),
		.type = FIELD_FLAG, .commands = BRIDGE},
	{"spoof-guard", NULL, "nothing is taken from the guest with another's MAC or IP",
		AT(spoof_guard), .type = FIELD_FLAG, .commands = BRIDGE},
};

static int take_kind(struct net_config *n, const char *word, size_t len)
{
	for (n->kind = 0; n->kind < NET_KINDS; n->kind++)
		if (strlen(kinds[n->kind]) == len && !memcmp(kinds[n->kind], word, len))
			return 0;
	return fail(EINVAL, "a NIC of kind \"%.*s\"; see kvick boot --help for those there are",
		(int)len, word);
}

/* -1: no hexadecimal digit. */
static int digit(char c)
{
	const char *digits = "0123456789abcdef", *at = strchr(digits, c | 0x20);

	return c && at ? (int)(at - digits) : -1;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
	if (strlen(text) != 17)
		return false;
	for (unsigned i = 0; i < 6; i++, text += 3) {
		int high = digit(text[0]), low = digit(text[1]);

		if (high < 0 || low < 0 || (i < 5 && text[2] != ':'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int check_mac(struct net_config *n)
{
	static const uint8_t none[6];

	if (!n->mac_text)
		return 0;
	if (!parse_mac(n->mac_text, n->mac))
		return fail(
			EINVAL, "mac %s: must be six bytes, as in 02:00:00:00:00:01", n->mac_text);
	if (n->mac[0] & 1 || !memcmp(n->mac, none, 6))
		return fail(EINVAL, "mac %s: is of a group or nobody, and no NIC's", n->mac_text);
	return 0;
}

static int check_tap(struct net_config *n)
{
	if (n->name && n->fd.count)
		return fail(EINVAL, "name and fd: a tap that is open has its name");
	if (n->name && (!*n->name || strlen(n->name) >= IFNAMSIZ))
		return fail(EINVAL, "name %s: an interface's name has 1 to %u bytes", n->name,
			IFNAMSIZ - 1);
	if (n->fd.count > NET_PAIRS_MAX)
		return fail(EINVAL, "fd: given %u times; at most %u pairs of queues", n->fd.count,
			NET_PAIRS_MAX);
	if (n->fd.count && field_given(&n->fields, "queues") && n->pairs != n->fd.count)
		return fail(EINVAL, "queues %u: with %u times fd", n->pairs, n->fd.count);
	if (n->fd.count)
		n->pairs = n->fd.count;
	return net_address_parse(&n->told, &n->tap_ip, &n->gateway, &n->dns);
}

/* One pair of queues: there is one process that has the packets. IPv6 knows no smaller packets. */
static int check_user(struct net_config *n)
{
	n->pairs = 1;
	if (n->mtu && (n->mtu < 1280 || n->mtu > SLIRP_MTU))
		return fail(EINVAL, "mtu %u: must be 1280 to %u in user mode", n->mtu, SLIRP_MTU);
	if (n->restricted && (n->allow.count || n->host == NET_HOST_ALLOW))
		return fail(EINVAL, "restrict: leaves nothing to do for host=allow and allow");
	return 0;
}

static int check_rate(const struct net_rate *r, const char *way)
{
	if (r->bandwidth_burst && !r->bandwidth)
		return fail(EINVAL, "%s-bw-burst: needs %s-bw", way, way);
	if (r->packets_burst && !r->packets)
		return fail(EINVAL, "%s-pps-burst: needs %s-pps", way, way);
	return 0;
}

int net_check_limits(const struct net_limits *l)
{
	int rc = check_rate(&l->tx, "tx");

	return rc ? rc : check_rate(&l->rx, "rx");
}

static int check_kind(struct net_config *n)
{
	if (n->kind == NET_USER)
		return check_user(n);
	return n->kind == NET_TAP ? check_tap(n) : 0;
}

static int check(struct net_config *n)
{
	int rc = net_check_limits(&n->limits);

	if (rc)
		return rc;
	if (n->id && !*n->id)
		return fail(EINVAL, "id: must not be empty");
	if (n->mtu && n->mtu < 68)
		return fail(EINVAL, "mtu %u: must be 68 to %u", n->mtu, NET_MTU_MAX);
	return check_kind(n);
}

static int take_keys(struct net_config *n, const char *text)
{
	const char *comma = strchrnul(text, ',');
	int rc = take_kind(n, text, (size_t)(comma - text));

	if (rc)
		return rc;
	if (n->kind == NET_NONE && *comma)
		return fail(EINVAL, "none: has no keys");
	n->fields.command = 1u << n->kind;
	rc = fields_init(&n->fields);
	if (!rc && *comma)
		rc = keys_parse(&n->fields, kinds, comma + 1);
	if (!rc)
		rc = check_mac(n);
	return rc ? rc : check(n);
}

int net_parse(struct net_config *out, const char *text)
{
	int rc;

	*out = (struct net_config){.fields = {.table = net_keys, .count = ARRAY_SIZE(net_keys)}};
	out->fields.values = out;
	rc = take_keys(out, text);
	return rc ? fail_context(rc, "%s", text) : 0;
}

int net_config_create(struct net_config **out, const char *text)
{
	struct net_config *n = malloc(sizeof(*n));
	int rc = n ? net_parse(n, text) : fail(ENOMEM, "out of memory");

	if (rc)
		net_config_free(n);
	*out = rc ? NULL : n;
	return rc;
}

void net_config_free(struct net_config *n)
{
	if (n)
		net_config_finish(n);
	free(n);
}

int net_publish(struct net_config *n, const char *ports)
{
	return field_set(&n->fields, field_find(&n->fields, "publish"), ports, "--");
}

void net_config_finish(struct net_config *n)
{
	fields_finish(&n->fields);
}

int net_set_defaults(struct net_config *n, unsigned index)
{
	if (!n->id && asprintf(&n->id, "net%u", index) < 0) {
		n->id = NULL;
		return fail(ENOMEM, "out of memory");
	}
	return 0;
}

/* FNV-1a, and what mixes its bits (the end of splitmix64). */
void net_set_mac(struct net_config *n, const char *vm, unsigned index)
{
	uint64_t h = 0xcbf29ce484222325ull;

	if (n->mac_text)
		return;
	for (; *vm; vm++)
		h = (h ^ (uint8_t)*vm) * 0x100000001b3ull;
	h = (h ^ (uint8_t)index) * 0x100000001b3ull;
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ull;
	h = (h ^ h >> 27) * 0x94d049bb133111ebull;
	h ^= h >> 31;
	memcpy(n->mac, &h, 6);
	n->mac[0] = 0x02;
}

const char *net_kind_name(enum net_kind kind)
{
	return kinds[kind];
}

void net_print_help(FILE *out)
{
	keys_print_help(net_keys, ARRAY_SIZE(net_keys), kinds, out);
}
