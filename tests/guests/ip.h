// SPDX-License-Identifier: MIT
// IPv4 of a guest in user mode, over the driver that polls: packets have a virtio_net_hdr_v1 before
// them.
#ifndef TESTS_GUESTS_IP_H
#define TESTS_GUESTS_IP_H

#include "tests/guests/net.h"

#define IP_TYPE 0x0800u
#define IP_AT (NET_HEADER + 14u) /* without options, as all are that are sent here */
#define IP_DATA (IP_AT + 20u)
#define IP_ICMP 1u
#define IP_UDP 17u

extern const uint8_t ip_self[4], ip_gateway[4];

/* Puts the headers for `len` bytes from IP_DATA on, which are there. The packet's bytes. */
uint32_t ip_wrap(
	const struct net *n, uint8_t *packet, const uint8_t dst[4], uint8_t protocol, uint32_t len);

/* The same of an echo request, or a datagram, of `len` bytes from IP_DATA + 8 on. */
uint32_t ip_wrap_echo(const struct net *n, uint8_t *packet, const uint8_t dst[4], uint32_t len);
uint32_t ip_wrap_udp(const struct net *n, uint8_t *packet, const uint16_t ports[2], uint32_t len);

/* Whether it is of that protocol, and for us. */
bool ip_is(const uint8_t *packet, uint32_t len, uint8_t protocol);

/* Sends it back to where it came from: its sums stay right, as the same words stand elsewhere. */
void ip_return_udp(struct net *n, uint8_t *packet, uint32_t len);

/* Whether it asks for our hardware address, which is answered then. */
bool ip_answer_arp(struct net *n, uint8_t *packet, uint32_t len);

#endif
