// SPDX-License-Identifier: MIT
// Which place on the PCI bus (hw/pci.h) each device of a machine has at its start.
//
// A device that asks for a slot has that one; the others have, in the order of their creation, the
// first that nobody asks for. Where there are more devices than slots, root ports are in the last
// slot that nobody asks for, and who finds no slot is behind one of those.
//
// First every device asks, then the places are settled, then every device takes its own. Whoever
// does this with the same devices in the same order has the same places.
#ifndef VMM_PLACES_H
#define VMM_PLACES_H

#include <stdint.h>

struct places {
	uint32_t taken;            /* a bit a slot */
	unsigned count;            /* of those who asked */
	unsigned ports, port_slot; /* as pci_create has them */
	unsigned behind;           /* how many have taken a place behind a port */
};

void places_init(struct places *p);

/* `slot` is 1 to PCI_SLOTS - 1, or 0: any. Two that ask for one slot both have it. */
void places_ask(struct places *p, unsigned slot);

/* -ENOSPC where no slot is left for ports that are needed. */
int places_settle(struct places *p);

/* In the order of creation; `slot` as it was asked for. */
unsigned places_take(struct places *p, unsigned slot);

#endif
