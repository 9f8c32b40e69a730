// SPDX-License-Identifier: MIT
// Whether the kernel moves a NIC's packets.
#include "vmm/nic.h"

#include "base/log.h"

#include <errno.h>

/* Limits may be lifted while the VM runs: who leaves the choice to us then has it. */
static bool has_limits(const struct net_config *n)
{
	const struct net_limits *l = &n->limits;

	return l->tx.bandwidth || l->tx.packets || l->rx.bandwidth || l->rx.packets;
}

/* What stands against it, whatever the host has; NULL: nothing. */
static const char *obstacle(const struct net_config *n, const struct net_end *end, bool pci)
{
	if (n->vhost == NET_VHOST_ON && has_limits(n))
		return "it keeps to no limits";
	if (end->pcap)
		return "pcap= would not see them";
	if (!end->tap)
		return "what is at its other end is no tap";
	return pci ? NULL
		   : "it takes --transport pci, as vhost can raise no interrupt of virtio-mmio";
}

/* It is not, for the reason said last: an error where it was to be. */
static int go_without(const struct net_config *n, struct net_end *end, int rc)
{
	while (end->vhosts)
		vhost_finish(&end->vhost[--end->vhosts]);
	if (n->vhost == NET_VHOST_ON)
		return fail_context(rc, "vhost=on");
	log_info("%s: its packets go through the monitor, not vhost: %s", n->id, last_error());
	return 0;
}

int nic_open_vhost(const struct net_config *n, struct net_end *end, bool pci)
{
	const char *why = obstacle(n, end, pci);

	if (n->vhost == NET_VHOST_OFF)
		return 0;
	if (why)
		return go_without(n, end, fail(ENOTSUP, "%s", why));
	while (end->vhosts < end->pairs) {
		struct vhost *v = &end->vhost[end->vhosts];

		*v = VHOST_NONE;
		v->fd = vhost_open();
		if (v->fd < 0)
			return go_without(n, end, v->fd);
		end->vhosts++;
	}
	return 0;
}

int nic_own_vhost(const struct net_config *n, struct net_end *end)
{
	int rc = 0;

	for (unsigned i = 0; i < end->vhosts && !rc; i++)
		rc = vhost_init(&end->vhost[i], end->vhost[i].fd);
	return rc ? go_without(n, end, rc) : 0;
}
