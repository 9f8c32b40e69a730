// SPDX-License-Identifier: MIT
// What kvick-slirp gives up before it has anything of a guest's.
#ifndef NET_SLIRP_SANDBOX_H
#define NET_SLIRP_SANDBOX_H

#include "base/jail.h"

#define SANDBOX_DESCRIPTORS 4096u /* each connection has one, and up to 256 KiB of memory */

/* Closes every descriptor from `first` on, and bounds what may be opened and allocated. 0 or
 * -errno. */
int sandbox_begin(unsigned first);

/*
 * No capabilities, and of root's user nobody; no file but those beside /etc/resolv.conf, where the
 * kernel can do that; no system call but those of net/slirp/jail_rules.h. For good. 0 or -errno.
 */
int sandbox_enter(enum jail_mode mode);

#endif
