// SPDX-License-Identifier: MIT
// A NIC from its other end up to what the guest has.
#ifndef VMM_NIC_H
#define VMM_NIC_H

#include "net/port.h"
#include "vmm/net_bridge.h"
#include "vmm/net_config.h"
#include "vmm/net_user.h"

struct virtio_device;

/* A NIC that a machine has. */
struct nic {
	const struct net_config *cfg; /* borrowed */
	struct virtio_device *dev;
	unsigned place;
	struct net_config *owned;  /* cfg, of one that came while the machine ran; else NULL */
	struct nic_helper *helper; /* the same */
	char tap[IFNAMSIZ];        /* at its other end; "": none */
	uint32_t mtu;              /* as the guest is told; 0: not */
	struct net_limits limits;  /* as they are now */
	const volatile uint64_t *counts; /* as of its end */
};

/* The process beside the monitor that a NIC has: one of these or none. All zeroes: none. */
struct nic_helper {
	struct net_user user;
	struct net_bridge bridge;
};

/*
 * Opens the other end, and says what the guest is to have; nic_await and nic_finish of *h are the
 * caller's to call. 0, or -errno with a message that names the NIC.
 */
int nic_open(struct nic_helper *h, const struct net_config *n, const struct net_host *host,
	struct net_end *end, struct net_guest *guest);

/*
 * Parts of it and of nic_create: /dev/vhost-net is opened, where it is wanted and can be, and
 * becomes this process's, whose memory the guest's is. `pci`: that is what the NIC will be on. 0,
 * or -errno with a message where vhost=on and it cannot.
 */
int nic_open_vhost(const struct net_config *n, struct net_end *end, bool pci);
int nic_own_vhost(const struct net_config *n, struct net_end *end);

/* Waits until its process serves. 0 or -errno. */
int nic_await(struct nic_helper *h);

/* Who hears, by a loop of its thread, what befalls a NIC at its other end, and that there is none
 * any more. */
struct nic_listener {
	struct loop *loop;
	void (*told)(void *arg, const char *id, const char *what);
	void (*lost)(void *arg, const char *id, const char *why);
	void *arg;
};
int nic_watch(struct nic_helper *h, const struct nic_listener *listener); /* 0 or -errno */

/*
 * Before the end of this process, which ends the rest: has what there is on the host for a NIC
 * taken away. nic_finish waits for that, and ends the process whichever it is.
 */
void nic_leave(struct nic_helper *h);
void nic_finish(struct nic_helper *h);
void nic_helper_free(struct nic_helper *h); /* one that is malloc'd, or NULL: finished and freed */

/*
 * The descriptors of an open end in the order in which they are passed to another process,
 * NIC_FILES_MAX at most: how many. And back: they are taken, -1 left in their place, `n` is
 * borrowed by *h; 0, or -errno with a message where they are not such a NIC's, and there is nothing
 * to finish. nic_hand_over ends what this process has of one that another has taken.
 */
#define NIC_HELPER_FILES_MAX 2u
/* Taps or the like; a pcap file, or their vhosts; those of its process. */
#define NIC_FILES_MAX (2 * NET_PAIRS_MAX + NIC_HELPER_FILES_MAX)
unsigned nic_files_list(
	const struct net_end *end, const struct nic_helper *h, int fds[NIC_FILES_MAX]);
int nic_files_take(const struct net_config *n, int *fds, unsigned count, struct net_end *end,
	struct nic_helper *h);
void nic_hand_over(struct nic_helper *h);

/* Who hears of what befalls a NIC, on its loop; never waits. */
struct nic_host {
	void (*event)(void *arg, const char *name, const char *what); /* of virtio_net_args */
	void *arg;
};

/* A device for an open end, which is taken. On the loop that is to own it. 0 or -errno. */
int nic_create(struct virtio_device **out, const struct net_config *n, const struct net_end *end,
	const struct nic_host *host);

#endif
