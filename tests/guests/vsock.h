// SPDX-License-Identifier: MIT
// A driver for virtio-vsock that polls (virtio 1.2, 5.10): packets, and nothing about streams.
#ifndef TESTS_GUESTS_VSOCK_H
#define TESTS_GUESTS_VSOCK_H

#include "tests/guests/virtio.h"

#include <linux/virtio_vsock.h>

#define VSOCK_PAYLOAD 4052u /* so that a packet is a page */
#define VSOCK_HOST 2u
#define VSOCK_WINDOW (32u << 10) /* what the host may send ahead, a stream */

struct vsock_packet {
	struct virtio_vsock_hdr hdr;
	uint8_t data[VSOCK_PAYLOAD];
} __attribute__((packed));

struct vsock {
	struct virtio v;
	struct ring rx, tx, event;
	struct vsock_packet *rx_packet, *tx_packet; /* a descriptor each */
	uint32_t *event_buffer;
	uint32_t held; /* the received packet that is being looked at */
	uint64_t sent; /* packets */
	uint64_t cid;
};

/* One ring each of `size`. */
void vsock_start(struct vsock *s, uint64_t features, unsigned size);

/* The next packet for us, valid until vsock_release, or NULL. */
struct vsock_packet *vsock_receive(struct vsock *s);
void vsock_release(struct vsock *s);

/* Whether streams have been reset since the last call (virtio 1.2, 5.10.6.7). */
bool vsock_was_reset(struct vsock *s);

/* Sends a packet once there is room for it; src_cid, dst_cid, type and len are filled in. */
void vsock_send(
	struct vsock *s, const struct virtio_vsock_hdr *hdr, const void *data, uint32_t len);

/* A packet of that kind, in answer to one of the same stream. */
void vsock_answer(struct vsock *s, const struct virtio_vsock_hdr *to, uint16_t op, uint32_t flags);

#endif
