// SPDX-License-Identifier: MIT
// The addresses of a guest on a tap: the words of ip=, gw= and dns=.
#ifndef VMM_NET_ADDRESS_H
#define VMM_NET_ADDRESS_H

#include "vmm/net_config.h"

/*
 * "192.168.70.2/24" or "fd70::2/64", one of each family at most, and as many ways out, in the same
 * network; and who answers for names, NET_RESOLVERS_MAX of each at most: into *g, which has none.
 * 0, or -EINVAL with a message that names the key.
 */
int net_address_parse(struct net_guest *g, const struct field_list *ip,
	const struct field_list *gateway, const struct field_list *dns);

#endif
