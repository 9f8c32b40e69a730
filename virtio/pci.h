// SPDX-License-Identifier: MIT
// The virtio-pci transport, modern only (virtio 1.2, 4.1): a device as a function on a PCI bus.
#ifndef VIRTIO_PCI_H
#define VIRTIO_PCI_H

struct kvm;
struct loop;
struct mem;
struct pci;
struct stream_in;
struct stream_out;
struct virtio_device;
struct virtio_pci;

/* All borrowed; they outlive the transport. */
struct virtio_pci_config {
	struct virtio_device *dev;
	struct mem *mem;
	struct kvm *kvm; /* NULL: doorbells come through the bus, interrupts get lost (tests) */
	struct pci *pci; /* the bus it is put on */
	unsigned place;  /* there; 0: any */
	struct loop *io; /* owns the queues. Not a loop that ever waits for a vCPU. */
};

/* Puts the device on the PCI bus, as pci_attach does. 0 or -errno. */
int virtio_pci_create(struct virtio_pci **out, const struct virtio_pci_config *cfg);

/* Its place on the bus, as hw/pci.h has them. */
unsigned virtio_pci_place(const struct virtio_pci *v);

/* Takes it off the bus, and all else remains. No vCPU runs. */
void virtio_pci_unplug(struct virtio_pci *v);

/* No vCPU runs, unless it is off the bus. NULL is fine. The device remains the caller's. */
void virtio_pci_destroy(struct virtio_pci *v);

/*
 * The machine's events, from any thread but the io loop's own, while no vCPU runs. Pause and resume
 * are unknown to the driver; each is a no-op where it is already so. After a load, which leaves the
 * device paused, a resume is due. A load that fails leaves the device reset. Load: 0 or -errno.
 */
void virtio_pci_reset(struct virtio_pci *v);
void virtio_pci_pause(struct virtio_pci *v);
void virtio_pci_resume(struct virtio_pci *v);
void virtio_pci_save(struct virtio_pci *v, struct stream_out *s); /* paused */
int virtio_pci_load(struct virtio_pci *v, struct stream_in *s);

#endif
