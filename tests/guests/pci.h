// SPDX-License-Identifier: MIT
// Configuration space by the ports, and virtio's registers in it (PCI 3.0, 6; virtio 1.2, 4.1).
#ifndef TESTS_GUESTS_PCI_H
#define TESTS_GUESTS_PCI_H

#include "tests/guests/guest.h"

#include <linux/pci_regs.h>

#define PCI_SLOTS 32u
#define PCI_VIRTIO 0x1040u /* and a kind of virtio: the device's number */

struct virtio;

/* All ones where nobody is. `off` is a multiple of 4. */
uint32_t pci_get(unsigned slot, unsigned off);
void pci_set(unsigned slot, unsigned off, uint32_t v);

bool pci_present(void);

/* The first virtio device of that kind, its BAR put into its place; false where there is none. */
bool pci_find_virtio(struct virtio *v, unsigned id);

/* The same of the one in that slot. */
bool pci_take_virtio(struct virtio *v, unsigned slot, unsigned id);

/* Registers by their names in virtio-mmio, which the guests use. */
uint32_t pci_virtio_get(const struct virtio *v, unsigned reg);
void pci_virtio_set(const struct virtio *v, unsigned reg, uint32_t value);

/* All of the device's vectors become this one; the queues use them from their next start. */
void pci_virtio_route(struct virtio *v, unsigned vector);
void pci_virtio_queue_vector(const struct virtio *v, unsigned queue);

#endif
