// SPDX-License-Identifier: MIT
// What kvick-net keeps of root's powers.
#ifndef NET_BRIDGE_CAPS_H
#define NET_BRIDGE_CAPS_H

#include <stdbool.h>

/* Keeps what setting up takes, dnsmasq's start included. 0, or -EPERM with a message where there is
 * not even CAP_NET_ADMIN. */
int caps_for_setup(void);

/*
 * Keeps CAP_NET_ADMIN alone, `kill` CAP_KILL too (dnsmasq runs as a user of its own and is to be
 * told and ended), out of reach of anything that it may run, and with no way to more. 0, or -errno
 * with a message.
 */
int caps_for_guard(bool kill);

#endif
