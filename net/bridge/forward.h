// SPDX-License-Identifier: MIT
// The host's own switches: net.ipv4.ip_forward for NAT, and what a bridge of guests is not to do.
#ifndef NET_BRIDGE_FORWARD_H
#define NET_BRIDGE_FORWARD_H

#include "net/bridge/state.h"

/*
 * Sees to it that the host forwards. Where it did not, a line says that it does now, and a file
 * beside the bridges remembers it. 0, or -errno with a message.
 */
int forward_on(const struct state *s, const char *bridge);

/* Puts it back where it was changed and no bridge is left that has NAT. */
void forward_restore(const struct state *s);

/* The host believes no guest that it has a router, a route or another sender's address. Of what is
 * not there, IPv6 perhaps, nothing is said. */
void forward_harden(const char *bridge);

/*
 * A port's own interface takes nothing as the host: a bridge leaves to it the frames to its groups
 * (01:80:c2:00:00:0x), whatever is in them, and no rule of the bridge sees those.
 */
void forward_harden_tap(const char *tap);

#endif
