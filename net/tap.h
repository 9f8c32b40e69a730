// SPDX-License-Identifier: MIT
// Taps: interfaces of the host whose other end is a descriptor.
#ifndef NET_TAP_H
#define NET_TAP_H

#include "net/port.h"

struct field_list;

/*
 * Opens `pairs` queues of the tap of that name, which there is, or of a new one that goes when they
 * are closed and is up (NULL). Its mtu becomes that, if it is not 0. 0, or -errno with a message
 * that says what to do.
 */
int tap_open(struct net_end *out, const char *name, unsigned pairs, uint32_t mtu);

/* Takes queues that are open in this process, given in decimal. 0, or -errno and they are closed.
 */
int tap_adopt(struct net_end *out, const struct field_list *fds);

/*
 * Takes `count` queues of a tap, 1 to NET_PAIRS_MAX, that do not block and were opened with
 * IFF_NO_PI and IFF_VNET_HDR. 0, or -errno and they are closed.
 */
int tap_take(struct net_end *out, const int *fds, unsigned count);

/* What its interface has becomes end->mtu: tap_take, which asks for nothing that takes more than
 * the descriptors, leaves it 0. */
void tap_learn_mtu(struct net_end *end);

/* As port_set_offloads, of one of its queues; and whether one of several gets its share. */
int tap_set_offloads(int fd, uint64_t guest);
int tap_set_queue(int fd, bool attached);

/* As port_set_filter; at most TAP_FILTER_MAX addresses. */
#define TAP_FILTER_MAX 255u
int tap_set_filter(int fd, const uint8_t (*macs)[6], unsigned count, bool groups);

#endif
