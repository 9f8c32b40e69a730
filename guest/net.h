// SPDX-License-Identifier: MIT
// The guest's network interfaces get what the request says they are to have.
#ifndef GUEST_NET_H
#define GUEST_NET_H

#include "guest/boot.h"
#include "guest/proto.h"

#define NET_WAIT_MS 5000 /* for interfaces that are not there yet, all together */

/*
 * MTU, addresses, routes: each interface is up and can be used when this returns. `wait_ms` is how
 * long an interface may take to appear. What fails becomes a trouble of *b and the rest is done; an
 * interface that is to have IPv4 as well may lack IPv6 where the kernel does.
 */
void net_configure(struct boot *b, const struct proto_request *q, int wait_ms);
/* /etc/resolv.conf, if the request has resolvers. The file on a root that stays is not changed. */
void net_resolvers(struct boot *b, const struct proto_request *q);

#endif
