// SPDX-License-Identifier: MIT
// The guest's end of the wire: packets in and out of a socket, many at a time.
//
// What goes out is gathered until link_flush: to copy it costs less than to wake the monitor for
// each packet. A guest that does not read has what is for it held, up to a bound, and then dropped;
// who makes it looks at link_backlog, and stops for as long.
#ifndef NET_SLIRP_LINK_H
#define NET_SLIRP_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct link;

/* `fd` is borrowed and becomes non-blocking; what is dropped is counted in *dropped. `got` has each
 * packet of the guest: its virtio_net_hdr_v1, and the frame, which it may change. 0 or -errno. */
int link_create(struct link **out, int fd, uint64_t *dropped,
	void (*got)(void *arg, const void *vnet_header, uint8_t *frame, size_t len), void *arg);
void link_destroy(struct link *l);

/* Takes in what is there, up to a bound. False at the end of the wire. */
bool link_receive(struct link *l);

/* Sends a frame, its checksums right. */
void link_send(struct link *l, const void *frame, size_t len);

/* Sends what was gathered, as far as the socket takes it. */
void link_flush(struct link *l);

/* Bytes that wait for the guest. */
size_t link_backlog(const struct link *l);

#endif
