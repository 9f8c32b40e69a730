// SPDX-License-Identifier: MIT
// Which place on the PCI bus each device of a machine has at its start.
#include "vmm/places.h"

#include "base/log.h"
#include "hw/pci.h"

#include <errno.h>

#define ALL UINT32_MAX /* slots: as many as PCI_SLOTS */

void places_init(struct places *p)
{
	*p = (struct places){.taken = 1}; /* by the host bridge */
}

void places_ask(struct places *p, unsigned slot)
{
	p->count++;
	if (slot)
		p->taken |= 1u << slot;
}

int places_settle(struct places *p)
{
	const unsigned slots = PCI_SLOTS - 1;

	if (p->count <= slots)
		return 0;
	if (p->taken == ALL)
		return fail(ENOSPC, "no slot of the PCI bus is left for the root ports that more "
				    "devices than slots need");
	p->ports = p->count - (slots - 1);
	p->port_slot = 31 - (unsigned)__builtin_clz(~p->taken);
	p->taken |= 1u << p->port_slot;
	return 0;
}

unsigned places_take(struct places *p, unsigned slot)
{
	if (slot)
		return slot;
	if (p->taken == ALL)
		return PCI_SLOTS + p->behind++;
	slot = (unsigned)__builtin_ctz(~p->taken);
	p->taken |= 1u << slot;
	return slot;
}
