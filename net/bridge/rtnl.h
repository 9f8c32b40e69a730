// SPDX-License-Identifier: MIT
// Interfaces, addresses and routes of the host, by rtnetlink(7).
#ifndef NET_BRIDGE_RTNL_H
#define NET_BRIDGE_RTNL_H

#include "net/bridge/subnet.h"

struct rtnl;

/* NULL with a message. */
struct rtnl *rtnl_open(void);
void rtnl_close(struct rtnl *r);

struct link {
	unsigned index;
	unsigned master; /* the bridge it is on; 0: none */
	uint32_t mtu;
	uint8_t mac[6]; /* none: zero */
	char kind[16];  /* "bridge", "tun"; "" of hardware */
};

/* All return 0 or -errno, and leave the message to the caller. -ENODEV: there is none. */
int link_find(struct rtnl *r, const char *name, struct link *out);
int link_add_bridge(struct rtnl *r, const char *name, const uint8_t mac[6]);
int link_delete(struct rtnl *r, unsigned index);
int link_set_up(struct rtnl *r, unsigned index);
int link_set_mac(struct rtnl *r, unsigned index, const uint8_t mac[6]);
int link_set_mtu(struct rtnl *r, unsigned index, uint32_t mtu);

/* No address of the host's own is on it from now on. */
int link_set_silent(struct rtnl *r, unsigned index);

/*
 * Puts the port on a bridge, which knows that MAC to be there. An isolated port and another reach
 * only ports that are not. Of a guarded one nothing else is learned, no other port takes it, and it
 * is shut if what is there speaks as a bridge (STP).
 */
enum link_port { LINK_ISOLATED = 1, LINK_GUARDED = 2 };
int link_join(struct rtnl *r, unsigned index, unsigned bridge, unsigned how, const uint8_t mac[6]);

int link_add_address(struct rtnl *r, unsigned index, const struct subnet *s);
int link_add_address6(struct rtnl *r, unsigned index, const struct in6_addr *a, unsigned prefix);

/*
 * Looks for a route to a part of that network, or to more than it, other than through interface
 * `index` (0: none) and other than the default one; an address of the host is one too. 0: there is
 * none; -EEXIST: "10.86.0.0/16 dev eth1" in `text`, without the interface where there is not one.
 */
int route_find(struct rtnl *r, const struct subnet *s, unsigned index, char *text, size_t len);

/* What happens to interfaces from now on. The descriptor to poll, or -errno. */
int link_watch(struct rtnl *r);

/* Calls `event` for each change of an interface that has come, or with NULL where some were lost. 0
 * or -errno. */
int link_events(struct rtnl *r, void (*event)(void *arg, const struct link *link), void *arg);

#endif
