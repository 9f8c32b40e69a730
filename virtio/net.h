// SPDX-License-Identifier: MIT
// virtio-net (virtio 1.2, 5.1): a NIC, over packet descriptors (net/port.h).
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include "net/port.h"

#include <stdbool.h>
#include <stdint.h>

struct virtio_device;

struct virtio_net_args {
	const char *name;   /* for messages; borrowed */
	struct net_end end; /* its descriptors are taken, also on failure */
	uint8_t mac[6];
	uint32_t mtu; /* told to the driver; 0: not, it is 1500 then */
	bool link_up; /* at first */
	struct net_limits limits;
	/* What befalls it, in words: a tap has gone, a recording has ended. On dev->io. Optional.
	 */
	void (*event)(void *arg, const char *name, const char *what);
	void *arg;
};

struct virtio_net_counters {
	struct net_counters port;
	uint64_t interrupts, spared; /* sent; those that the driver did without */
	bool vhost;                  /* the kernel moves the packets, which are not counted */
};

/* 0 or -errno. */
int virtio_net_create(struct virtio_device **out, const struct virtio_net_args *args);

/* The queues are stopped. NULL is fine. */
void virtio_net_destroy(struct virtio_device *dev);

enum virtio_net_link {
	VIRTIO_NET_DOWN,
	VIRTIO_NET_UP,
	VIRTIO_NET_LOST, /* down, whatever is set: there is no other end any more */
};

/* All on dev->io. What is lost stays so. */
void virtio_net_set_link(struct virtio_device *dev, bool up);
enum virtio_net_link virtio_net_link(struct virtio_device *dev);

/* Other limits from now on, for what waits too. */
void virtio_net_set_limits(struct virtio_device *dev, const struct net_limits *limits);

/* For who knows that the other end has gone, which is then no event. */
void virtio_net_lose(struct virtio_device *dev);

void virtio_net_count(struct virtio_device *dev, struct virtio_net_counters *out);

#endif
