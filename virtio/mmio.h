// SPDX-License-Identifier: MIT
// The virtio-mmio transport, version 2 (virtio 1.2, 4.2.2): a device as a page of registers and a
// line.
#ifndef VIRTIO_MMIO_H
#define VIRTIO_MMIO_H

#include <stdint.h>

struct bus;
struct irq;
struct kvm;
struct loop;
struct mem;
struct stream_in;
struct stream_out;
struct virtio_device;
struct virtio_mmio;

#define VIRTIO_MMIO_SIZE 0x200u /* bytes of registers, config space included */

/* All borrowed; they outlive the transport. */
struct virtio_mmio_config {
	struct virtio_device *dev;
	struct mem *mem;
	const struct kvm *kvm; /* NULL: doorbells always come through the bus (tests) */
	struct bus *bus;       /* of memory addresses */
	uint64_t base;         /* guest address of the registers */
	const struct irq *irq; /* edge-triggered */
	struct loop *io;       /* owns the queues. Not a loop that ever waits for a vCPU. */
};

/* Puts the device on the bus. No vCPU runs yet, as with bus_add. 0 or -errno. */
int virtio_mmio_create(struct virtio_mmio **out, const struct virtio_mmio_config *cfg);

/* Takes it off the bus. No vCPU runs any more. NULL is fine. The device remains the caller's. */
void virtio_mmio_destroy(struct virtio_mmio *m);

/*
 * The machine's events, from any thread but the io loop's own, while no vCPU runs. Pause and resume
 * are unknown to the driver; each is a no-op where it is already so. After a load, which leaves the
 * device paused, a resume is due. A load that fails leaves the device reset. Load: 0 or -errno.
 */
void virtio_mmio_reset(struct virtio_mmio *m);
void virtio_mmio_pause(struct virtio_mmio *m);
void virtio_mmio_resume(struct virtio_mmio *m);
void virtio_mmio_save(struct virtio_mmio *m, struct stream_out *s); /* paused */
int virtio_mmio_load(struct virtio_mmio *m, struct stream_in *s);

#endif
