// SPDX-License-Identifier: MIT
// The packet descriptors of one NIC: what its frames go through.
//
// One read or write moves one packet, which begins with a struct virtio_net_hdr_v1 of 12 bytes and
// goes on with an Ethernet frame. The descriptor is a tap's queue, or one end of a socket pair
// (AF_UNIX, SOCK_SEQPACKET) with a helper at the other. They do not block.
//
// Directions are in the words of the guest: it sends (tx) and receives (rx). All is for the thread
// of the loop that watches the descriptors.
#ifndef NET_PORT_H
#define NET_PORT_H

#include "net/vhost.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NET_PAIRS_MAX 8u
#define NET_HEADER 12u
#define NET_FRAME_MIN 14u            /* the Ethernet header */
#define NET_FRAME_MAX (65535u + 18u) /* with a VLAN tag */

/* What kernels after the headers of some distributions have. */
#define NET_F_GUEST_USO4 54
#define NET_F_GUEST_USO6 55
#define NET_F_HOST_USO 56
#define NET_HDR_GSO_UDP_L4 5

/* What is at the other end, opened. All zeroes but for `pairs`: nothing is open. */
struct net_end {
	int fd[NET_PAIRS_MAX]; /* one a pair of queues */
	unsigned pairs;        /* how many of them are open */
	bool tap;              /* they take a tap's ioctls */
	uint64_t offers;       /* VIRTIO_NET_F_*, a bit each: offloads that it can do */
	uint32_t mtu;          /* of a tap; 0: unknown */
	char name[IFNAMSIZ];   /* of a tap's interface; "" */
	/* The kernel's threads that can have the queues instead, one a pair. Only of a tap. */
	struct vhost vhost[NET_PAIRS_MAX];
	unsigned vhosts; /* how many of them there are: all, or 0 */
	int pcap;        /* what passes is recorded there (net/pcap.h); 0: nowhere */
	/* What a process at the other end counts, in its own order; borrowed; NULL: none. */
	const volatile uint64_t *counts;
};

/* Why a frame went nowhere. */
enum net_drop {
	NET_DROP_BAD,      /* sent with a header that lies, or too short or long for a frame */
	NET_DROP_REFUSED,  /* sent, and not taken by the other end */
	NET_DROP_LINK,     /* the link is down */
	NET_DROP_FILTERED, /* received; by the filters that the guest has set */
	NET_DROP_ROOM,     /* received, for more room than the guest has given, or will */
	NET_DROPS,
};

extern const char *const net_drop_names[NET_DROPS + 1]; /* NULL-terminated */

struct net_flow {
	uint64_t packets, bytes; /* bytes of frames, without our header */
};

struct net_counters {
	struct net_flow tx, rx;
	uint64_t drops[NET_DROPS];
};

/* Each is 0 where there is none. */
struct net_rate {
	uint64_t bandwidth, bandwidth_burst; /* bytes of frames a second, and at once */
	uint32_t packets, packets_burst;
};

struct net_limits {
	struct net_rate tx, rx;
};

struct net_port {
	struct net_end end;
	struct net_counters count;
};

/* Closes what is open. */
void port_close(struct net_end *end);

/*
 * Moves one packet, counted if it moved. Receive takes as much as there is room for: a result that
 * fills all of it was perhaps longer. The bytes of the packet, or -errno: -EAGAIN where there is
 * none, or no room for it at the other end; -EPIPE where there is no other end any more.
 */
ssize_t port_receive(struct net_port *p, unsigned pair, const struct iovec *iov, unsigned n);
ssize_t port_send(struct net_port *p, unsigned pair, const struct iovec *iov, unsigned n);

/* Records a frame as pcap_write does: that is over for good where it fails, with -errno. */
int port_record(struct net_port *p, struct iovec *iov, unsigned n, size_t frame);

/* The guest has got a frame of so many bytes, or one was dropped. */
void port_count_rx(struct net_port *p, size_t frame);
void port_count_drop(struct net_port *p, enum net_drop why);

/* Throws away what has come in and is not received. */
void port_drain(struct net_port *p, unsigned pair);

/*
 * What the guest can do with what it receives: VIRTIO_NET_F_GUEST_*, a bit each, of those offered.
 * And how many pairs are in use, from the first on. 0 or -errno with a message.
 */
int port_set_offloads(struct net_port *p, uint64_t guest);
int port_set_pairs(struct net_port *p, unsigned pairs);

/*
 * Only packets for these addresses, single ones first, are to come; `groups`: and all for groups.
 * Without addresses all come. A tap that is given too many single ones lets all come.
 */
void port_set_filter(struct net_port *p, const uint8_t (*macs)[6], unsigned count, bool groups);

#endif
