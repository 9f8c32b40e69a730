// SPDX-License-Identifier: MIT
// A NIC from its other end up to what the guest has.
#include "vmm/nic.h"

#include "base/log.h"
#include "net/tap.h"
#include "virtio/net.h"

#include <string.h>

static int open_end(const struct net_config *n, struct net_end *end)
{
	if (n->fd.count)
		return tap_adopt(end, &n->fd);
	return tap_open(end, n->name, n->pairs, n->mtu);
}

int nic_open(const struct net_config *n, struct net_end *end, struct net_guest *guest)
{
	int rc = open_end(n, end);

	if (rc)
		return fail_context(rc, "--net %s: %s", net_kind_name(n->kind), n->id);
	if (n->mtu)
		end->mtu = n->mtu;
	*guest = (struct net_guest){.mtu = end->mtu};
	memcpy(guest->mac, n->mac, sizeof(guest->mac));
	if (*end->name)
		log_info("%s: tap %s", n->id, end->name);
	return 0;
}

int nic_create(struct virtio_device **out, const struct net_config *n, const struct net_end *end)
{
	struct virtio_net_args args = {
		.name = n->id,
		.end = *end,
		.mtu = end->mtu,
		.link_up = n->link == NET_LINK_UP,
	};

	memcpy(args.mac, n->mac, sizeof(args.mac));
	return virtio_net_create(out, &args);
}
