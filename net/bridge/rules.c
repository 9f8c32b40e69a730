// SPDX-License-Identifier: MIT
#include "net/bridge/rules.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/bridge/subnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* The first line of what nftables says, without what it begins with. */
static const char *first_line(const char *said, char *buf, size_t len)
{
	const char *colon = strstr(said, "Error: ");

	said = colon ? colon + strlen("Error: ") : said;
	snprintf(buf, len, "%.*s", (int)strcspn(said, "\n"), said);
	return *buf ? buf : "it does not say why";
}

/* The library ends the process where it cannot have its socket. */
static int check_socket(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	if (fd < 0)
		return failno(errno, "nftables: not in this kernel (modprobe nf_tables)");
	close(fd);
	return 0;
}

/* One transaction. 0, or -errno with nftables' words as the message. */
static int apply(const char *commands)
{
	int rc = check_socket();
	struct nft_ctx *nft = rc ? NULL : nft_ctx_new(NFT_CTX_DEFAULT);
	char why[160];

	if (rc)
		return rc;
	if (!nft)
		return fail(ENOMEM, "nftables: cannot be asked");
	nft_ctx_buffer_error(nft);
	rc = nft_run_cmd_from_buffer(nft, commands);
	if (rc)
		rc = fail(EIO, "nftables: %s",
			first_line(nft_ctx_get_error_buffer(nft), why, sizeof(why)));
	nft_ctx_free(nft);
	return rc;
}

static int apply_format(const char *fmt, ...) printf_like(1, 2);

static int apply_format(const char *fmt, ...)
{
	CLEANUP_FREE char *commands = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&commands, fmt, ap);
	va_end(ap);
	if (n < 0) {
		commands = NULL;
		return fail(ENOMEM, "out of memory");
	}
	return apply(commands);
}

int rules_add_bridge(const struct bridge_state *b)
{
	const char *name = b->wish.name;
	struct subnet net = {{htonl(subnet_network(&b->wish.address))}, b->wish.address.prefix};
	char text[SUBNET_TEXT], nat[256] = "";

	subnet_format(&net, text);
	if (b->wish.nat)
		snprintf(nat, sizeof(nat),
			"	oifname \"%s\" ct state { new, invalid, untracked } counter drop\n"
			" }\n"
			" chain nat {\n"
			"	type nat hook postrouting priority srcnat;\n"
			"	ip saddr %s oifname != \"%s\" masquerade\n",
			name, text, name);
	return apply_format("add table inet kvick-%s\n"
			    "delete table inet kvick-%s\n"
			    "table inet kvick-%s {\n"
			    " chain forward {\n"
			    "	type filter hook forward priority filter;\n"
			    "	iifname \"%s\" oifname \"%s\" counter drop\n"
			    "%s }\n"
			    "}\n",
		name, name, name, name, name, nat);
}

/* Adding what is there already does nothing, so that what is taken away may be missing. */
void rules_remove_bridge(const char *bridge)
{
	int rc = apply_format("add table inet kvick-%s\ndelete table inet kvick-%s\n"
			      "add table bridge kvick-%s\ndelete table bridge kvick-%s\n",
		bridge, bridge, bridge, bridge);

	if (rc)
		log_warn("%s: its rules are not taken away: %s", bridge, last_error());
}

/* The guard's table, made if it is not there, and the NIC's chain in it, empty and jumped to by
 * none. */
#define EMPTY_GUARD                                                                                \
	"table bridge kvick-%1$s {\n"                                                              \
	" map guard { type iface_index : verdict; }\n"                                             \
	" chain port { type filter hook prerouting priority dstnat; }\n"                           \
	" chain nic%2$u { }\n"                                                                     \
	"}\n"                                                                                      \
	"flush chain bridge kvick-%1$s port\n"                                                     \
	"add rule bridge kvick-%1$s port iif vmap @guard\n"                                        \
	"add element bridge kvick-%1$s guard { %2$u : jump nic%2$u }\n"                            \
	"delete element bridge kvick-%1$s guard { %2$u }\n"                                        \
	"flush chain bridge kvick-%1$s nic%2$u\n"

/*
 * %3$s is the MAC, %4$s the address, %5$s and %6$s those of IPv6 as addresses and as numbers, %7$s
 * the MAC as a number. Who has no address yet may ask for its own alone (RFC 5227, 4862), or
 * another would take it for used; and by DHCP for its own MAC (chaddr) alone. A fragment that
 * begins with another header of IPv6 could end before the one that tells what it is (RFC 7112).
 */
#define GUARD                                                                                      \
	"table bridge kvick-%1$s {\n"                                                              \
	" chain nic%2$u {\n"                                                                       \
	"	ether saddr != %3$s counter drop\n"                                                      \
	"	ether type != { ip, arp, ip6 } counter drop\n"                                           \
	"	arp saddr ether != %3$s counter drop\n"                                                  \
	"	arp saddr ip %4$s return\n"                                                              \
	"	arp saddr ip 0.0.0.0 arp daddr ip %4$s return\n"                                         \
	"	udp sport { 67, 547 } counter drop\n"                                                    \
	"	ip saddr { %4$s, 0.0.0.0 } udp dport 67 @th,288,48 %7$s return\n"                        \
	"	udp dport 67 counter drop\n"                                                             \
	"	igmp type membership-query counter drop\n"                                               \
	"	icmp type { redirect, router-advertisement } counter drop\n"                             \
	"	ip saddr %4$s return\n"                                                                  \
	"	frag nexthdr { 0, 43, 44, 51, 60, 135 } counter drop\n"                                  \
	"	icmpv6 type { mld-listener-query, nd-router-advert, nd-redirect } counter drop\n"        \
	"	icmpv6 type nd-neighbor-advert @th,64,128 != { %6$s } counter drop\n"                    \
	"	ip6 saddr { %5$s } return\n"                                                             \
	"	ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 { %6$s } return\n"               \
	"	ip6 saddr :: icmpv6 type { nd-router-solicit, mld2-listener-report } return\n"           \
	"	counter drop\n"                                                                          \
	" }\n"                                                                                     \
	"}\n"                                                                                      \
	"add element bridge kvick-%1$s guard { %2$u : jump nic%2$u }\n"

/* As nftables wants it where it takes bytes of a packet. */
static void format_number(const void *bytes, unsigned len, char *buf)
{
	const uint8_t *p = bytes;

	memcpy(buf, "0x", 2);
	for (unsigned i = 0; i < len; i++)
		snprintf(buf + 2 + 2 * i, 3, "%02x", p[i]);
}

int rules_add_guard(const struct bridge_state *b, const struct nic_state *n)
{
	struct in6_addr local = link_local_of(n->mac), address6 = state_address6(b, n->address);
	char v4[INET_ADDRSTRLEN], text6[2][INET6_ADDRSTRLEN], number6[2][36];
	char mac[18], mac_number[15], texts[2 * INET6_ADDRSTRLEN + 4], numbers[80];
	const char *comma = b->ipv6 ? ", " : "";
	const uint8_t *m = n->mac;

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		m[5]);
	format_number(m, 6, mac_number);
	inet_ntop(AF_INET, &n->address, v4, sizeof(v4));
	text6[1][0] = number6[1][0] = '\0';
	inet_ntop(AF_INET6, &local, text6[0], sizeof(text6[0]));
	format_number(&local, sizeof(local), number6[0]);
	if (b->ipv6) {
		inet_ntop(AF_INET6, &address6, text6[1], sizeof(text6[1]));
		format_number(&address6, sizeof(address6), number6[1]);
	}
	snprintf(texts, sizeof(texts), "%s%s%s", text6[0], comma, text6[1]);
	snprintf(numbers, sizeof(numbers), "%s%s%s", number6[0], comma, number6[1]);
	return apply_format(
		EMPTY_GUARD GUARD, b->wish.name, n->index, mac, v4, texts, numbers, mac_number);
}

void rules_remove_guard(const char *bridge, unsigned index)
{
	int rc =
		apply_format(EMPTY_GUARD "delete chain bridge kvick-%1$s nic%2$u\n", bridge, index);

	if (rc)
		log_warn("%s: the guard of NIC %u is not taken away: %s", bridge, index,
			last_error());
}
