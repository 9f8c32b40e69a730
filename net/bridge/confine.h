// SPDX-License-Identifier: MIT
// What kvick-net keeps of root's powers.
#ifndef NET_BRIDGE_CONFINE_H
#define NET_BRIDGE_CONFINE_H

#include "base/jail.h"

#include <stdbool.h>

/* Keeps what setting up takes, dnsmasq's start included. 0, or -EPERM with a message where there is
 * not even CAP_NET_ADMIN. */
int confine_for_setup(void);

/*
 * For standing guard. Keeps CAP_NET_ADMIN alone, `kill` CAP_KILL too (dnsmasq runs as a user of its
 * own and is to be told and ended), with no way to more, and the system calls of
 * net/bridge/jail_rules.h. 0, or -errno with a message.
 */
int confine_for_guard(bool kill, enum jail_mode jail);

#endif
