// SPDX-License-Identifier: MIT
// PCI: a host bridge, its root bus, and what a device on it is made of (PCI 3.0, 6).
//
// Where there are more devices than the root bus has slots, one slot has root ports for functions,
// each of which leads to a bus with one device (PCI-to-PCI Bridge 1.2, 3; PCI Express 4.0, 7.5).
//
// A function's configuration space is bytes with a mask of those bits that the guest may change:
// nothing else that it writes has any effect. It is reached by memory (PCI Express 4.0, 7.2.2) and
// by ports (PCI 3.0, 3.2.2.3.2). Of the 4 KiB each function has there, what is past the first 256
// bytes reads as zeroes: no extended capabilities.
//
// The guest places BARs as it likes. One answers while memory decoding is enabled and it lies
// wholly within the window, and within that of the port it is behind, and off every other BAR that
// answers and comes before it in the order of places and numbers; else it is silent, and what the
// guest does there is read as all ones and dropped. Nothing is added to or taken from the bus for
// that: the window is one range on it.
//
// There is no INTx and no port space: interrupts are MSI-X (hw/pci_msix.h), registers memory.
#ifndef HW_PCI_H
#define HW_PCI_H

#include "hw/bus.h"

#include <stdatomic.h>
#include <stdint.h>

struct pci;
struct stream_in;
struct stream_out;

#define PCI_SPACE 256u /* bytes of a configuration space that are kept */
#define PCI_SLOTS 32u  /* of the root bus; the first is the host bridge's */
#define PCI_PORTS 8u   /* as many as a slot has functions */
/* Where a device may be: a slot of the root bus, or from PCI_SLOTS up behind a root port. */
#define PCI_PLACES (PCI_SLOTS + PCI_PORTS)
#define PCI_BARS 6u

/* Slots whose devices come and go while the guest runs, as hw/acpi_dsdt.c tells it; an event
 * register has a byte for what comes and one for what is wanted back. */
#define PCI_HOT_FIRST 3u
#define PCI_HOT_SLOTS 8u

/* Each is optional, and called with the bus's lock held, which no thread of a device may want. */
struct pci_function_ops {
	/* The guest is about to read, or has written, `len` bytes of configuration space at `off`.
	 */
	void (*config_read)(void *dev, unsigned off, unsigned len);
	void (*config_written)(void *dev, unsigned off, unsigned len);
	/* A BAR answers at this address from now on; 0: it does not answer. */
	void (*bar_moved)(void *dev, unsigned bar, uint64_t base);
};

/* Size 0: none. Else a power of two from 16 up; `ops` as on a bus, relative to the BAR's base. */
struct pci_bar {
	uint64_t size;
	bool wide; /* of 64 bits: takes the next number as well */
	const struct bus_ops *ops;
};

struct pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint8_t revision;
	uint32_t class; /* base class, subclass and interface, 24 bits */
};

/* One function of a device, embedded in it. Filled by the calls below, before it is attached. */
struct pci_function {
	const struct pci_function_ops *ops;
	void *dev; /* for all ops, those of the BARs included */
	const char *name;
	struct pci_bar bar[PCI_BARS];
	unsigned place;
	/* Under the bus's lock once it is attached. */
	uint8_t space[PCI_SPACE], writable[PCI_SPACE];
	unsigned last_capability, end;   /* in `space`: of the list's tail, of what is used */
	struct pci *pci;                 /* NULL while not attached */
	_Atomic uint64_t base[PCI_BARS]; /* where each BAR answers; 0: it does not */
};

/* A function without BARs and capabilities, zeroes before. ops, dev and name are the caller's,
 * borrowed. */
void pci_function_init(struct pci_function *f, const struct pci_id *id);
void pci_function_set_bar(struct pci_function *f, unsigned n, const struct pci_bar *bar);

/* Appends a capability whose `len` bytes after id and next pointer are `body`. Its offset. */
unsigned pci_function_add_capability(
	struct pci_function *f, uint8_t id, const void *body, unsigned len);

/* The guest may change the bits of `mask` in the 4 bytes at `off`. */
void pci_function_let_write(struct pci_function *f, unsigned off, uint32_t mask);

struct pci_config {
	struct bus *pio, *mmio; /* borrowed */
	unsigned ports;         /* root ports, PCI_PORTS at most; 0: no slot is taken by them */
	unsigned port_slot;     /* which one is */
};

/* No vCPU runs yet, as with bus_add. 0 or -errno. */
int pci_create(struct pci **out, const struct pci_config *cfg);

/* No function is attached any more. NULL is fine. */
void pci_destroy(struct pci *p);

/* How many buses a guest may find. */
unsigned pci_buses(const struct pci *p);

bool pci_is_free(struct pci *p, unsigned place);

/*
 * Puts a function into a place: -EBUSY where it is not free. Also while vCPUs run. Taking it away
 * is for when they are parked, as they are in its registers without a lock; it is then gone without
 * a notice to the guest. No-op where it is not attached.
 */
int pci_attach(struct pci *p, struct pci_function *f, unsigned place);
void pci_detach(struct pci_function *f);

/* While vCPUs are parked: bridge and ports; each other function's state is saved by its device. */
void pci_reset(struct pci *p);
void pci_save(struct pci *p, struct stream_out *s);
int pci_load(struct pci *p, struct stream_in *s);

/* Every bit that the guest may have changed goes back to zero; no BAR answers. */
void pci_function_reset(struct pci_function *f);
void pci_function_save(struct pci_function *f, struct stream_out *s);
/* The function must be of the same make, in the same place. Its ops are told of where BARs are, and
 * not of what has been written. 0 or -errno. */
int pci_function_load(struct pci_function *f, struct stream_in *s);

#endif
