// SPDX-License-Identifier: MIT
// A driver for virtio-net that polls (virtio 1.2, 5.1), with one pair of queues.
#ifndef TESTS_GUESTS_NET_H
#define TESTS_GUESTS_NET_H

#include "tests/guests/virtio.h"

#include <linux/virtio_net.h>

#define NET_RING 256u
#define NET_HEADER ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define NET_BUFFER 2048u
#define NET_FRAME_MAX 65553u
#define NET_TEST 0x88b5u /* Ethernet's type for experiments */
#define NET_END 0x88b6u  /* the other: the guest is to end */

#define NET_F(name) (1ull << VIRTIO_NET_F_##name)

struct net {
	struct virtio v;
	uint64_t features;
	uint8_t mac[6];
	struct ring rx, tx, ctrl;
	uint8_t *rx_buffers, *tx_buffer;
	uint8_t *ctrl_data;
};

/* The first that there is, or what is in this slot of the PCI bus, which must be one. */
void net_find(struct net *n);
void net_take(struct net *n, unsigned slot);

/* Resets it, and makes it live with these features, as far as it offers them, and all receive
 * buffers. */
void net_start(struct net *n, uint64_t features);

/* Copies out the next frame, header before it, and gives the buffers back; 0 where there is none.
 * `to` has room for the largest. */
uint32_t net_receive(struct net *n, void *to);

/* Sends `len` bytes, a header and a frame, and waits until they are gone. */
void net_send(struct net *n, const void *from, uint32_t len);

/* The device's answer to a command. */
uint8_t net_command(struct net *n, uint8_t class, uint8_t command, const void *data, uint32_t len);

bool net_link_up(const struct net *n);

static inline unsigned net_type(const uint8_t *frame)
{
	return (unsigned)frame[12] << 8 | frame[13];
}

#endif
