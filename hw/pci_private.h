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
	_Atomic(struct pci_function *) slot[PCI_SLOTS];
	struct pci_function bridge;
};

/* With the bus's lock held; off + len is within the 4 KiB of the function. */
void pci_function_read(struct pci_function *f, unsigned off, void *data, unsigned len);
void pci_function_write(struct pci_function *f, unsigned off, const void *data, unsigned len);

/* Where the guest wants a BAR to answer, or 0: decoding is off, or there is no such BAR. */
uint64_t pci_function_wanted(const struct pci_function *f, unsigned bar);

/* Has every BAR on the bus answer where it may, after one was moved. With the bus's lock held. */
void pci_map(struct pci *p);

#endif
