// SPDX-License-Identifier: MIT
// What the files of virtio-net share. All is for dev->io.
#ifndef VIRTIO_NET_PRIVATE_H
#define VIRTIO_NET_PRIVATE_H

#include "base/bucket.h"
#include "base/loop.h"
#include "virtio/device.h"
#include "virtio/net.h"

#include <linux/virtio_net.h>

#define VNET_QUEUE_SIZE 256u
#define VNET_QUEUES_MAX (2 * NET_PAIRS_MAX + 1)
#define VNET_BUDGET 64 /* packets of one queue before others on the loop have their turn */
#define VNET_MACS 64u  /* addresses in each table of the filter */
#define VNET_VLANS 4096u
#define VNET_CHAIN_MAX 256u /* buffers of one request */

#define VNET_BIT(f) (1ull << (f))
/* What makes received packets longer than the MTU; each is of use with GUEST_CSUM only. */
#define VNET_GUEST_GSO                                                                             \
	(VNET_BIT(VIRTIO_NET_F_GUEST_TSO4) | VNET_BIT(VIRTIO_NET_F_GUEST_TSO6) |                   \
		VNET_BIT(VIRTIO_NET_F_GUEST_UFO) | VNET_BIT(NET_F_GUEST_USO4) |                    \
		VNET_BIT(NET_F_GUEST_USO6))
#define VNET_GUEST_OFFLOADS                                                                        \
	(VNET_GUEST_GSO | VNET_BIT(VIRTIO_NET_F_GUEST_CSUM) | VNET_BIT(VIRTIO_NET_F_GUEST_ECN))

/* What a frame is judged by on its way to the guest. */
struct vnet_filter {
	uint8_t mode; /* a bit each of VIRTIO_NET_CTRL_RX_* */
	struct {
		uint32_t count;
		bool overflow; /* it has more: each of its kind is taken */
		uint8_t mac[VNET_MACS][6];
	} table[2]; /* single, then groups */
	uint8_t vlan[VNET_VLANS / 8];
};

/* Receive buffers that were taken and not used, in the order of the queue. */
struct vnet_buffers {
	struct iovec iov[2 * VNET_CHAIN_MAX + 1]; /* one more behind them */
	struct {
		uint32_t len;
		uint16_t head, pieces;
	} chain[VNET_QUEUE_SIZE];
	unsigned iov_first, iov_n, chain_first, chain_n;
	uint64_t room; /* bytes in all of them */
};

/* A receive and a send queue, and the descriptor behind both. */
struct vnet_pair {
	struct vnet *v;
	unsigned index;
	struct watch watch;
	uint32_t wants; /* the events watched for */
	struct vnet_buffers buffers;
	uint8_t *spill;           /* takes of a packet what the buffers do not */
	size_t held;              /* bytes of a packet that waits for more of them; 0: none */
	size_t held_off;          /* how many of those are in the buffers, and not in `spill` */
	struct watch vhost_error; /* while the kernel has its queues */
};

/* What may pass in a direction. */
struct vnet_gate {
	struct vnet *v;
	struct bucket bytes, packets;
	bool limited; /* by either */
	bool shut;    /* until the timer opens it */
	struct timer timer;
};

struct vnet {
	struct virtio_device dev;
	struct net_port port;
	uint8_t mac[6]; /* that it was made with */
	uint32_t mtu;   /* of frames without their header; never 0 */
	bool link_up;   /* as it was set */
	bool dead;      /* there is no other end any more */
	bool started;
	bool announce;   /* the guest is to make itself known, and has not yet */
	unsigned active; /* pairs in use */
	unsigned lent;   /* pairs whose queues the kernel has; all or none */
	struct queue_setup *setup[2 * NET_PAIRS_MAX]; /* of those */
	uint64_t offloads; /* VIRTIO_NET_F_GUEST_*: what of those negotiated the guest takes now */
	uint32_t most;     /* bytes of the largest packet, its header included */
	uint64_t quiet_until_ns; /* CLOCK_MONOTONIC before which the log has nothing of it */
	void (*event)(void *arg, const char *name, const char *what);
	void *arg;
	struct vnet_gate tx, rx;
	struct vnet_filter filter;
	struct vnet_pair *pair;
	struct queue queue[VNET_QUEUES_MAX];
	uint16_t queue_max[VNET_QUEUES_MAX];
};

static inline struct queue *virtio_net_rx_queue(struct vnet_pair *p)
{
	return &p->v->queue[2 * p->index];
}

static inline struct queue *virtio_net_tx_queue(struct vnet_pair *p)
{
	return &p->v->queue[2 * p->index + 1];
}

/* Watches the pair's descriptor for these events; errors are always. */
void virtio_net_watch(struct vnet_pair *p, uint32_t events);

/* Records a frame where that is wanted; `iov` as pcap_write has it. */
void virtio_net_record(struct vnet *v, struct iovec *iov, unsigned n, size_t frame);

/* The other end is gone. */
void virtio_net_is_dead(struct vnet *v);

/* The same, within none of the device's ops: the kernel gives back what it has of the queues. */
void virtio_net_end_gone(struct vnet *v);

/* The status in the config space: whether there is a link, and whether it is to announce itself. */
void virtio_net_tell_status(struct vnet *v);

/* What packets may be like follows from v->offloads. */
void virtio_net_apply_offloads(struct vnet *v);

/* So many pairs are in use from now on; 0 or -errno. */
int virtio_net_use_pairs(struct vnet *v, unsigned pairs);

/* Whether the log may have a line now of what a guest can repeat: one a second. */
bool virtio_net_may_say(struct vnet *v);

/* Receives and sends whatever there is. */
void virtio_net_serve(struct vnet *v);

/* ---- net_limit.c ---- */

void virtio_net_init_limits(struct vnet *v, const struct net_limits *limits);

/* Whether a packet may pass now; else both queues are served again once one may. */
bool virtio_net_look_at_gate(struct vnet_gate *g);
void virtio_net_pay(struct vnet_gate *g, size_t bytes);

static inline bool virtio_net_may_pass(struct vnet_gate *g)
{
	return !g->limited || virtio_net_look_at_gate(g);
}

/* ---- net_rx.c ---- */

/* Hands packets to the guest as long as there are any, buffers for them, and budget. */
void virtio_net_receive(struct vnet_pair *p);

/* Puts the buffers back into the queue, which is live; a packet that waits is dropped. */
void virtio_net_put_back(struct vnet_pair *p);

/* Whether the filter takes a frame; it is read up to its VLAN tag. */
#define VNET_PEEK 18u
bool virtio_net_takes(const struct vnet *v, const uint8_t frame[VNET_PEEK]);

/* ---- net_tx.c ---- */

void virtio_net_send(struct vnet_pair *p);

/* ---- net_vhost.c ---- */

/* Within start and stop: the queues go to the kernel where it can have them, and come back. */
void virtio_net_lend(struct vnet *v);
void virtio_net_take_back(struct vnet *v);

/*
 * The kernel, where it has the queues, moves no more packets of the pairs from `first` on; goes on
 * with those in use. 0 or -errno.
 */
void virtio_net_halt(struct vnet *v, unsigned first);
int virtio_net_go_on(struct vnet *v);

/* The filter, or the address, has changed: the tap is to know while the kernel has the queues. */
void virtio_net_hand_on_filter(struct vnet *v);

/* ---- net_ctrl.c ---- */

void virtio_net_control(struct vnet *v, struct queue *q);
void virtio_net_reset_filter(struct vnet_filter *f);

#endif
