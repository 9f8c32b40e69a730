// SPDX-License-Identifier: MIT
// A NIC from its other end up to what the guest has.
#ifndef VMM_NIC_H
#define VMM_NIC_H

#include "net/port.h"
#include "vmm/net_config.h"
#include "vmm/net_user.h"

struct virtio_device;

/* A NIC that a machine has. */
struct nic {
	const struct net_config *cfg; /* borrowed */
	struct virtio_device *dev;
	unsigned place;
};

/*
 * Opens the other end, and says what the guest is to have; *user is the process of one in user
 * mode, whose net_user_await and net_user_finish are the caller's to call. 0, or -errno with a
 * message that names the NIC.
 */
int nic_open(struct net_user *user, const struct net_config *n, const struct net_host *host,
	struct net_end *end, struct net_guest *guest);

/* A device for an open end, which is taken. On the loop that is to own it. 0 or -errno. */
int nic_create(struct virtio_device **out, const struct net_config *n, const struct net_end *end);

#endif
