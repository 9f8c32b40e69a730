// SPDX-License-Identifier: MIT
// virtio-vsock in user space: streams between the guest and UNIX sockets of the host
// (virtio 1.2, 5.10).
//
// The host's side follows Firecracker's convention. To reach port P of the guest, connect to the
// listening socket, send "CONNECT P\n", read "OK N\n"; what follows is the stream. When the guest
// connects to port P of the host (CID 2), the monitor connects to the socket named SOCKET_P.
//
// Streams do not survive a snapshot: after a load the guest is told to reset them (5.10.6.7).
#ifndef VIRTIO_VSOCK_H
#define VIRTIO_VSOCK_H

#include <stdint.h>

struct virtio_device;

/* The descriptors are taken, also where creation fails. */
struct vsock_config {
	const char *name; /* for messages; borrowed */
	uint32_t cid;     /* the guest's; 3 and up, not 0xffffffff */
	int dir; /* directory with the host's sockets, O_PATH; -1: the guest reaches none */
	const char *socket; /* what their names begin with; borrowed */
	int listen; /* listening UNIX stream socket; -1: the host reaches no port of the guest */
};

/* 0 or -errno. */
int vsock_create(struct virtio_device **out, const struct vsock_config *cfg);

/* Closes all streams. Its transport must be gone. NULL is fine. */
void vsock_destroy(struct virtio_device *dev);

#endif
