// SPDX-License-Identifier: MIT
// The kernel as the owner of a NIC's queues (linux/vhost.h).
//
// An open /dev/vhost-net serves one pair of queues, ring 0 to the guest and ring 1 from it, between
// guest memory and a tap: kicks wake a thread of the kernel, which moves the packets and signals an
// eventfd. It takes the rings as they are and gives them back as it leaves them: for a pause, a
// snapshot or a reset it is stopped, and says from where whoever has them next goes on.
//
// Dirty pages: what the kernel writes is not marked in hw/mem. That does for who looks at memory
// while it is stopped and takes all of it. To copy memory of a guest that runs, as a migration
// does, takes VHOST_F_LOG_ALL among the features, VHOST_SET_LOG_BASE with a bit for each 4 KiB from
// guest address 0 on, and VHOST_VRING_F_LOG with the used ring's guest address in
// VHOST_SET_VRING_ADDR, each of which may be set while it runs; or that it is stopped meanwhile.
#ifndef NET_VHOST_H
#define NET_VHOST_H

#include <stdbool.h>
#include <stdint.h>

struct vhost_memory_region;

struct vhost {
	int fd;    /* -1: there is none */
	int error; /* eventfd: the kernel could not go on with a ring; owned */
	bool running;
};

#define VHOST_NONE ((struct vhost){.fd = -1, .error = -1})

struct vhost_ring {
	uint16_t size, next;       /* next: where the kernel goes on in the available ring */
	void *desc, *avail, *used; /* within the memory given to vhost_start */
	int kick, call;            /* eventfds, borrowed */
};

/* Opens /dev/vhost-net. The descriptor, or -errno with a message that says what to do. */
int vhost_open(void);

/*
 * Makes this process, whose memory it will be, the owner. Takes `fd`, also on failure. -ENOTSUP
 * where the kernel has not all that is offered to drivers. 0 or -errno with a message.
 */
int vhost_init(struct vhost *v, int fd);

/* Stops it where it runs; fine on VHOST_NONE. */
void vhost_finish(struct vhost *v);

/*
 * From now on the two rings are the kernel's. `features` are those negotiated, `memory` is where
 * guest memory is in this process, `tap` a tap's queue or -1: then no packet moves until
 * vhost_attach. 0, or -errno with a message and the rings are the caller's as before.
 */
int vhost_start(struct vhost *v, uint64_t features, const struct vhost_memory_region *memory,
	unsigned regions, const struct vhost_ring rings[2], int tap);

/* Another tap's queue, or -1, while it runs. 0 or -errno with a message. */
int vhost_attach(struct vhost *v, int tap);

/*
 * Takes the rings back: when it returns the kernel touches neither them nor guest memory. next[i]
 * is where to go on in the available ring; how far it has used the ring says the ring itself. A
 * no-op where it does not run.
 */
void vhost_stop(struct vhost *v, uint16_t next[2]);

#endif
