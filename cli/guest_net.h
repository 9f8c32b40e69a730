// SPDX-License-Identifier: MIT
// What a NIC's other end knows of the network, in the words of the guest's init.
#ifndef CLI_GUEST_NET_H
#define CLI_GUEST_NET_H

#include "guest/proto.h"

struct net_guest;

void guest_net_put(struct proto_net *out, const struct net_guest *g);

#endif
