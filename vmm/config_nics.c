// SPDX-License-Identifier: MIT
// The NICs of a configuration beside each other, and what all devices are on because of them.
#include "vmm/config_private.h"

#include "base/log.h"
#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/net_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* vhost has no way to tell virtio-mmio what an interrupt is for. */
static bool wants_pci(const struct config *c)
{
	bool pci = false;

	for (unsigned i = 0; i < c->nic_count; i++)
		pci |= c->nics[i].kind == NET_TAP || c->nics[i].kind == NET_BRIDGE;
	return pci;
}

/*
 * On PCI an interrupt costs the guest no exits, where virtio-mmio has two; but to look for its
 * devices costs Linux a thousand more at the start. docs/speed.md has both, measured.
 */
static void choose_transport(struct config *c)
{
	if (c->transport == TRANSPORT_AUTO)
		c->transport = c->disk.count || wants_pci(c) ? TRANSPORT_PCI : TRANSPORT_MMIO;
}

static int check_nic_with(const struct net_config *n, const struct net_config *other)
{
	if (!strcmp(n->id, other->id))
		return fail(
			EINVAL, "two NICs are called %s; id=NAME gives one another name", n->id);
	if (n->slot && n->slot == other->slot)
		return fail(
			EINVAL, "NIC %s: addr %u is taken by NIC %s", n->id, n->slot, other->id);
	return 0;
}

static int add_nic(struct config *c, const char *text)
{
	struct net_config *n = &c->nics[c->nic_count];
	unsigned index = c->nic_count++;
	int rc = net_parse(n, text);

	if (!rc)
		rc = net_set_defaults(n, index);
	for (unsigned i = 0; i < index && !rc; i++)
		rc = check_nic_with(n, &c->nics[i]);
	if (!rc && n->kind == NET_NONE && c->net.count > 1)
		rc = fail(EINVAL, "none: is to be the only one");
	return rc;
}

/* What can be said of them once it is known what they are on. */
static int check_places(const struct config *c)
{
	for (unsigned i = 0; i < c->nic_count; i++)
		if (c->nics[i].slot && c->transport == TRANSPORT_MMIO)
			return fail(EINVAL, "NIC %s: addr needs --transport pci", c->nics[i].id);
	if (c->transport == TRANSPORT_MMIO && c->nic_count > MACHINE_DISKS_MMIO)
		return fail(EINVAL, "at most %u, or %u with --transport pci", MACHINE_DISKS_MMIO,
			MACHINE_NICS_MAX);
	return 0;
}

/* They are the first NIC's that can have them. */
static int share_ports(struct config *c)
{
	struct net_config *n = c->nics;
	int rc = 0;

	while (n < c->nics + c->nic_count && n->kind != NET_USER)
		n++;
	if (c->publish.count && n == c->nics + c->nic_count)
		return fail(EINVAL, "--publish %s: needs --net user", c->publish.items[0]);
	for (unsigned i = 0; i < c->publish.count && !rc; i++)
		rc = net_publish(n, c->publish.items[i]);
	return rc;
}

/* "none" is no NIC, where there might be one without it. */
static void drop_none(struct config *c)
{
	if (c->nic_count && c->nics[0].kind == NET_NONE)
		net_config_finish(&c->nics[--c->nic_count]);
}

int config_nics_check(struct config *c)
{
	int rc = 0;

	if (c->net.count > MACHINE_NICS_MAX)
		return fail(EINVAL, "--net: at most %u NICs", MACHINE_NICS_MAX);
	c->nics = calloc(MAX(c->net.count, 1), sizeof(*c->nics));
	if (!c->nics)
		return fail(ENOMEM, "out of memory");
	for (unsigned i = 0; i < c->net.count && !rc; i++)
		rc = add_nic(c, c->net.items[i]);
	if (!rc && !c->net.count && c->fields.command & CONFIG_RUN)
		rc = add_nic(c, "user");
	if (!rc) {
		drop_none(c);
		choose_transport(c);
		rc = check_places(c);
	}
	return rc ? fail_context(rc, "--net") : share_ports(c);
}
