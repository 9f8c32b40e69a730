// SPDX-License-Identifier: MIT
// The host's bridges: made, joined, and taken away by their last NIC.
#ifndef NET_BRIDGE_HOST_H
#define NET_BRIDGE_HOST_H

#include "net/bridge/rtnl.h"
#include "net/bridge/state.h"

/* Between host_open and host_close no one else changes any of it. */
struct host {
	struct state state;
	struct rtnl *rtnl;
};

/* Takes the lock, and takes away what those who were killed have left. 0, or -errno with a message.
 */
int host_open(struct host *h);
void host_close(struct host *h);

/*
 * Sees to it that the bridge is there, and as it is wished: made, for `maker`, or found. One that
 * no one of us made is used as it is. 0, or -errno with a message; then nothing is left of what was
 * made.
 */
int host_add_bridge(struct host *h, const struct bridge_wish *wish, const char *maker,
	struct bridge_state *out);

/* Takes away what dead NICs have left on it, and the bridge where it was made for NICs and has
 * none. */
void host_release_bridge(struct host *h, const char *bridge);

/*
 * Takes away all that there is of a bridge; of one that is not ours, all of it that is. What cannot
 * be is logged. 0, or -EPERM with a message, and all stays: its dnsmasq is not ours to end, and is
 * left to who may.
 */
int host_remove_bridge(struct host *h, const struct bridge_state *b);

/* The same, after a failure of which the message stays. */
void host_undo_bridge(struct host *h, const struct bridge_state *b);

/* The rules that isolation or NAT needs beyond the bridge itself. 0, or -errno with a message. */
int host_add_rules(struct host *h, struct bridge_state *b);

/* Puts its tap on the bridge that has that index. 0, or -errno without a message. */
int host_join(struct host *h, const struct nic_state *n, unsigned bridge);

/* What the NIC may send. The same. */
int host_add_guard(struct host *h, struct bridge_state *b, const struct nic_state *n);

#endif
