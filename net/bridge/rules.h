// SPDX-License-Identifier: MIT
// Rules of nftables: tables "kvick-BRIDGE" of ours alone, of the families inet and bridge.
#ifndef NET_BRIDGE_RULES_H
#define NET_BRIDGE_RULES_H

#include "net/bridge/state.h"

/*
 * What the bridge's packets may do beyond it, in the table of family inet. With NAT they leave with
 * the host's address and what answers them comes back, and nothing else from beyond gets to the
 * guests. With NAT or isolation none is routed back to the bridge, past the isolation. 0, or -errno
 * with a message.
 */
int rules_add_bridge(const struct bridge_state *b);

/* Takes both tables away. Fine where there are none; a failure is logged. */
void rules_remove_bridge(const char *bridge);

/*
 * What the NIC may send, in the table of family bridge: frames from its own MAC, of IPv4, ARP and
 * IPv6 alone, whose senders are its addresses, and none that a router or a DHCP server sends, nor
 * questions for another. Judged as a frame enters the bridge, before that learns from it.
 */
int rules_add_guard(const struct bridge_state *b, const struct nic_state *n);

/* Fine where there is none. */
void rules_remove_guard(const char *bridge, unsigned index);

#endif
