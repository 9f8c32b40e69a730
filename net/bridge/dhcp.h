// SPDX-License-Identifier: MIT
// DHCP and DNS for the guests of a bridge: a dnsmasq(8) of the bridge's own.
//
// Each NIC has its address by its MAC, and its VM's name answers in the DNS. Its files are in the
// bridge's directory. It belongs to the bridge, not to who started it.
#ifndef NET_BRIDGE_DHCP_H
#define NET_BRIDGE_DHCP_H

#include "net/bridge/state.h"

/* Starts it, or tells the one that runs who is on the bridge now. 0, or -errno with a message. */
int dhcp_update(const struct state *s, const struct bridge_state *b);

/* The second alone, for those who have left. Fine where it does not run. */
void dhcp_tell(const struct state *s, const struct bridge_state *b);

/* Fine where it does not run. -EPERM, without a message: it does, and ending it takes CAP_KILL. */
int dhcp_stop(const struct state *s, const char *bridge);

/* Its process, 0: there is none. */
int dhcp_pid(const struct state *s, const char *bridge);

/*
 * The resolvers of the host that a guest may be told of, at most BRIDGE_RESOLVERS_MAX, zero after
 * the last: not those that answer on the host's loopback alone.
 */
void dhcp_host_resolvers(struct in_addr out[BRIDGE_RESOLVERS_MAX]);

#endif
