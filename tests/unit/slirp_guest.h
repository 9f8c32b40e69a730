// SPDX-License-Identifier: MIT
// A guest made of raw packets at one end of kvick-slirp's socket.
#ifndef TESTS_UNIT_SLIRP_GUEST_H
#define TESTS_UNIT_SLIRP_GUEST_H

#include "net/slirp/frame.h"
#include "net/slirp/slirp.h"

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <sys/types.h>

#define GUEST_WAIT_MS 5000
#define GUEST_QUIET_MS 100 /* to be sure that nothing comes */
#define GUEST_DATA_MAX 65483u

struct slirp_guest {
	pid_t pid;
	int control, packets;
	volatile uint64_t *counters;
	struct slirp_reply reply;
	uint8_t frame[FRAME_MAX + 1]; /* the last one received */
	size_t len;
};

struct guest_tcp {
	struct in6_addr peer;
	uint16_t port, peer_port;
	uint32_t seq, ack;
	uint8_t flags;       /* of the last segment received */
	const uint8_t *data; /* and its data, within the guest's frame */
	size_t len;
};

/* The addresses of both sides as frames have them. */
struct in6_addr address(const char *text);

/* Starts it with these options, NULL at the end, and waits for its answer. */
void guest_start(struct slirp_guest *g, const char *program, const char *const *options);

/* As guest_start, for what must serve. */
void guest_boot(struct slirp_guest *g, const char *program, const char *const *options);

/* Waits until so many have been counted, and no more. */
void guest_await_count(struct slirp_guest *g, enum slirp_count what, uint64_t count);

/* Closes the control socket, and waits for its end. Its exit status, or minus a signal. */
int guest_end(struct slirp_guest *g);

/* A frame as it is, behind the header, which may be NULL. */
void guest_send(
	struct slirp_guest *g, const struct virtio_net_hdr_v1 *h, const void *frame, size_t len);

/* The next frame for the guest, within that time: false where there is none. Who asks for the
 * guest's hardware address is told. */
bool guest_receive(struct slirp_guest *g, int ms);

/* Makes a frame of a packet from the guest, checksums and all; its length. */
size_t guest_packet(
	uint8_t *to, uint8_t protocol, const struct in6_addr *dst, const void *l4, size_t len);

void guest_udp(struct slirp_guest *g, uint16_t port, const struct in6_addr *dst, uint16_t dst_port,
	const void *data, size_t len);

/* The next datagram to that port: its data, NULL where none comes; *from may be NULL. */
const uint8_t *guest_udp_data(struct slirp_guest *g, uint16_t port, size_t *len, int ms,
	struct in6_addr *from, uint16_t *from_port);

/* Opens a connection: the flags of what answers, 0 where nothing does. */
uint8_t guest_connect(struct slirp_guest *g, struct guest_tcp *t, uint16_t port,
	const struct in6_addr *dst, uint16_t dst_port);

/* A segment of the connection; takes its sequence numbers on. */
void guest_segment(
	struct slirp_guest *g, struct guest_tcp *t, uint8_t flags, const void *data, size_t len);

/* As the large one that a driver leaves to be cut and summed. */
void guest_gso(struct slirp_guest *g, struct guest_tcp *t, const void *data, size_t len);

/* The next segment of it, in order: acknowledged where it has data. False where none comes. */
bool guest_next(struct slirp_guest *g, struct guest_tcp *t, int ms);

/* Waits for a connection that is opened to the guest's port. */
bool guest_accept(struct slirp_guest *g, struct guest_tcp *t, uint16_t port, int ms);

#endif
