// SPDX-License-Identifier: MIT
// A NIC on a bridge, from the monitor's side: kvick-net makes it and stands guard over it.
#ifndef VMM_NET_BRIDGE_H
#define VMM_NET_BRIDGE_H

#include "base/loop.h"
#include "net/port.h"
#include "vmm/helper.h"
#include "vmm/net_config.h"
#include "vmm/net_user.h"

/* All zeroes: none. */
struct net_bridge {
	struct helper guardian;
	int lock;        /* says that the NIC is there */
	const char *nic; /* borrowed */
	struct loop *loop;
	struct watch watch;
	void (*told)(void *arg, const char *id, const char *what); /* what happens to the NIC */
	void *arg;
};

/* Starts kvick-net and takes the NIC from it. 0, or -errno with kvick-net's message. */
int net_bridge_open(struct net_bridge *b, const struct net_config *n, const struct net_host *host,
	struct net_end *end, struct net_guest *guest);

/* From now on what happens to the NIC on the host is told to b->told, which is set before, by
 * `loop`, which is this thread's. 0 or -errno. */
int net_bridge_watch(struct net_bridge *b, struct loop *loop);

/* What another process needs in order to have it, NET_BRIDGE_FILES, which are borrowed; and there:
 * they are taken, -1 left in their place. */
#define NET_BRIDGE_FILES 2u
void net_bridge_files(const struct net_bridge *b, int files[NET_BRIDGE_FILES]);
void net_bridge_adopt(
	struct net_bridge *b, const struct net_config *n, int files[NET_BRIDGE_FILES]);

/* Has the NIC taken away. Fine on one that was not opened, as the next. */
void net_bridge_leave(struct net_bridge *b);

/* Lets another have it that has its files. */
void net_bridge_hand_over(struct net_bridge *b);

/* The same, and waits for it. */
void net_bridge_finish(struct net_bridge *b);

#endif
