// SPDX-License-Identifier: MIT
// What the files of PCI share.
#ifndef HW_PCI_PRIVATE_H
#define HW_PCI_PRIVATE_H

#include "hw/pci.h"

#include <pthread.h>

struct pci {
	struct bus *pio, *mmio;
	pthread_mutex_t lock; /* guards configuration space; taken before any lock of a device */
	uint32_t address;     /* of the next access by port */
	_Atomic(struct pci_function *) at[PCI_PLACES];
	struct pci_function bridge;
	struct pci_function *port; /* `ports` of them, the functions of port_slot */
	unsigned ports, port_slot;
};

/* With the bus's lock held; off + len is within the 4 KiB of the function. */
void pci_function_read(struct pci_function *f, unsigned off, void *data, unsigned len);
void pci_function_write(struct pci_function *f, unsigned off, const void *data, unsigned len);

/* Where the guest wants a BAR to answer, or 0: decoding is off, or there is no such BAR. */
uint64_t pci_function_wanted(const struct pci_function *f, unsigned bar);

/* ---- pci_port.c ---- */

/* A root port, the function of that number in its slot. */
void pci_port_init(struct pci_function *port, unsigned number);

/* The bus that it leads to; 0: the guest has not said. */
unsigned pci_port_bus(const struct pci_function *port);

/* Whether it hands on what is for these addresses. */
bool pci_port_passes(const struct pci_function *port, uint64_t base, uint64_t size);

/* ---- pci.c ---- */

/* Has every BAR on the bus answer where it may, after one was moved. With the bus's lock held. */
void pci_map(struct pci *p);

#endif
