// SPDX-License-Identifier: MIT
// A NIC from its other end up to what the guest has.
#include "vmm/nic.h"

#include "base/log.h"
#include "net/tap.h"
#include "virtio/net.h"

#include <string.h>

static int open_tap(const struct net_config *n, struct net_end *end, struct net_guest *guest)
{
	int rc = n->fd.count ? tap_adopt(end, &n->fd) : tap_open(end, n->name, n->pairs, n->mtu);

	if (rc)
		return rc;
	if (n->mtu)
		end->mtu = n->mtu;
	*guest = (struct net_guest){.mtu = end->mtu};
	memcpy(guest->mac, n->mac, sizeof(guest->mac));
	log_info("%s: tap %s", n->id, end->name);
	return 0;
}

int nic_open(struct net_user *user, const struct net_config *n, const struct net_host *host,
	struct net_end *end, struct net_guest *guest)
{
	int rc = n->kind == NET_USER ? net_user_open(user, n, host, end, guest)
				     : open_tap(n, end, guest);

	return rc ? fail_context(rc, "--net %s: %s", net_kind_name(n->kind), n->id) : 0;
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
