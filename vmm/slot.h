// SPDX-License-Identifier: MIT
// A virtio device in its place, on either transport.
#ifndef VMM_SLOT_H
#define VMM_SLOT_H

#include "hw/irq.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus;
struct kvm;
struct loop;
struct mem;
struct pci;
struct stream_in;
struct stream_out;
struct virtio_device;
struct virtio_mmio;
struct virtio_pci;

/* All zeroes: nothing is there. */
struct slot {
	struct virtio_device *dev;
	void (*destroy)(struct virtio_device *dev);
	struct loop *io;        /* the device's */
	struct virtio_pci *pci; /* one of the two */
	struct virtio_mmio *mmio;
	uint64_t base;  /* virtio-mmio: of its registers */
	struct irq irq; /* and its line */
	int told;       /* a socket that is to hear when the guest has let go of it; -1: none */
	bool gone;      /* it is off the bus, and to be taken away */
};

/* What a slot is made on; all borrowed. */
struct slot_host {
	struct kvm *kvm;
	struct mem *mem;
	struct loop *io;
	struct bus *mmio;
	struct pci *pci; /* NULL: the transport is virtio-mmio */
};

/*
 * Puts `dev` on the transport, at this place of the PCI bus (hw/pci.h) or with this number on
 * virtio-mmio. The device is the slot's from now on, also on failure: slot_finish is due. 0 or
 * -errno. With PCI vCPUs may run.
 */
int slot_init(struct slot *s, const struct slot_host *host, struct virtio_device *dev,
	void (*destroy)(struct virtio_device *dev), unsigned place);

/* With PCI only, while vCPUs are parked: the guest does not reach the device any more. */
void slot_unplug(struct slot *s);

/* No vCPU runs, unless it is unplugged. Waits for requests in flight; the device is destroyed on
 * its loop. */
void slot_finish(struct slot *s);

/* Where it is, in words. */
void slot_address(const struct slot *s, char *buf, size_t len);

/* As the transports' own; while vCPUs are parked. */
void slot_pause(struct slot *s);
void slot_resume(struct slot *s);
void slot_reset(struct slot *s);
void slot_save(struct slot *s, struct stream_out *out);
int slot_load(struct slot *s, struct stream_in *in);

#endif
