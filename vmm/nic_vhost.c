// SPDX-License-Identifier: MIT
// Whether the kernel moves a NIC's packets.
#include "vmm/nic.h"

#include "base/log.h"

#include <errno.h>

/* What stands against it, whatever the host has; NULL: nothing. */
static const char *obstacle(const struct net_end *end, bool pci)
{
	if (!end->tap)
		return "what is at its other end is no tap";
	return pci ? NULL
		   : "it takes --transport pci, as vhost can raise no interrupt of virtio-mmio";
}

static int open_threads(struct net_end *end)
{
	int rc = 0;

	while (!rc && end->vhosts < end->pairs) {
		int fd = vhost_open();

		rc = fd < 0 ? fd : vhost_init(&end->vhost[end->vhosts], fd);
		end->vhosts += !rc;
	}
	while (rc && end->vhosts)
		vhost_finish(&end->vhost[--end->vhosts]);
	return rc;
}

int nic_open_vhost(const struct net_config *n, struct net_end *end, bool pci)
{
	const char *why = obstacle(end, pci);
	int rc;

	if (n->vhost == NET_VHOST_OFF)
		return 0;
	rc = why ? fail(ENOTSUP, "%s", why) : open_threads(end);
	if (rc && n->vhost == NET_VHOST_ON)
		return fail_context(rc, "vhost=on");
	if (rc)
		log_info("%s: its packets go through the monitor, not vhost: %s", n->id,
			last_error());
	return 0;
}
