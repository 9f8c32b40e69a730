// SPDX-License-Identifier: MIT
// An interface of which everything is told, as kvick-slirp would have it.
#ifndef TESTS_UNIT_EXAMPLE_NET_H
#define TESTS_UNIT_EXAMPLE_NET_H

#include "guest/proto.h"

static const struct proto_net example_net = {.mac = {2, 1, 2, 3, 4, 5},
	.mtu = 65520,
	.prefix4 = 24,
	.prefix6 = 64,
	.address4 = {10, 0, 2, 15},
	.gateway4 = {10, 0, 2, 2},
	.address6 = {0xfe, 0xc0, [15] = 0x15},
	.gateway6 = {0xfe, 0xc0, [15] = 2},
	.resolvers = {{[10] = 0xff, 0xff, 10, 0, 2, 3}, {0xfe, 0xc0, [15] = 3}}};

#endif
