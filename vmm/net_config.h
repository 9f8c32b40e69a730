// SPDX-License-Identifier: MIT
// What a NIC is to be, as plain values: the kind and the keys of --net.
#ifndef VMM_NET_CONFIG_H
#define VMM_NET_CONFIG_H

#include "base/field.h"
#include "net/port.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define NET_MTU_MAX 65521u /* with the Ethernet header, the largest frame of a tap */

/* What is at the other end; a bit each in the table of keys. */
enum net_kind { NET_NONE, NET_USER, NET_TAP, NET_BRIDGE, NET_KINDS };
enum net_to_host { NET_HOST_DENY, NET_HOST_ALLOW };

#define NET_RESOLVERS_MAX 3u

/*
 * What the guest's interface is to have, filled by whoever sets the NIC up. What is not known is
 * zero: without an address the guest asks by DHCP, or is told nothing.
 */
struct net_guest {
	uint8_t mac[6];
	uint32_t mtu; /* 0: 1500 */
	struct in_addr address, gateway, resolver[NET_RESOLVERS_MAX];
	unsigned prefix;
	struct in6_addr address6, gateway6, resolver6[NET_RESOLVERS_MAX];
	unsigned prefix6;
};

struct net_config {
	enum net_kind kind;
	char *id; /* of net_set_defaults, if it was not given */
	char *mac_text;
	uint8_t mac[6];       /* of net_set_mac, if it was not given */
	uint32_t mtu;         /* 0: as the other end has it */
	uint32_t pairs;       /* of queues */
	uint32_t slot;        /* of the PCI bus; 0: any */
	unsigned link;        /* enum net_link, at first */
	char *name;           /* tap: one that there is; NULL: one of our own */
	unsigned vhost;       /* tap and bridge: enum net_vhost */
	struct field_list fd; /* tap: open ones, in decimal, one a pair */
	struct field_list tap_ip, gateway, dns;
	struct net_guest told; /* tap: what these three say */
	struct net_limits limits;
	char *pcap;                       /* file; NULL: nothing is recorded */
	struct field_list publish, allow; /* user: in the words of kvick-slirp, which judges them */
	bool restricted;                  /* user */
	unsigned host;                    /* user: enum net_to_host */
	char *bridge;       /* bridge: its name; what follows is kvick-net's to judge */
	char *address, *ip; /* of the host on it, of the guest; NULL: not said */
	bool nat, dhcp, isolate, spoof_guard;

	struct fields fields;
};

enum net_link { NET_LINK_UP, NET_LINK_DOWN };
enum net_vhost { NET_VHOST_OFF, NET_VHOST_ON, NET_VHOST_AUTO };

/*
 * "tap,mac=02:00:00:00:00:01": a kind, then keys with their values, a comma within a value doubled.
 * `out` ends in net_config_finish also when it fails. 0, or -errno with a message that names the
 * key and the value.
 */
int net_parse(struct net_config *out, const char *text);
void net_config_finish(struct net_config *n);

/* The same of one that is malloc'd, *out: NULL on failure. The second: NULL is fine. */
int net_config_create(struct net_config **out, const char *text);
void net_config_free(struct net_config *n);

/* -EINVAL where one of them makes no sense without another. */
int net_check_limits(const struct net_limits *l);

/*
 * The table of keys. Its first rows are the id and the limits, each before its burst: they are also
 * of the command whose bit is the first, where the id is mandatory.
 */
#define NET_LIMIT_ROWS 9u
extern const struct field net_keys[];

/* Adds ports, in the words of publish=, to a NIC in user mode. 0 or -errno. */
int net_publish(struct net_config *n, const char *ports);

/* The name of the NIC of that number, where none was given. 0 or -ENOMEM. */
int net_set_defaults(struct net_config *n, unsigned index);

/* The same of its address: locally administered, the same whenever that VM has that NIC. */
void net_set_mac(struct net_config *n, const char *vm, unsigned index);

const char *net_kind_name(enum net_kind kind);

/* The kinds, and one line a key, as --help shows them. */
void net_print_help(FILE *out);

#endif
