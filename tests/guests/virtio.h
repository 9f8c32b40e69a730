// SPDX-License-Identifier: MIT
// A driver for virtio that polls (virtio 1.2, 2.7 and 4): as honest as the guest that uses it.
//
// On PCI where there is a bus, else on virtio-mmio, whose names registers have on either.
#ifndef TESTS_GUESTS_VIRTIO_H
#define TESTS_GUESTS_VIRTIO_H

#include "tests/guests/guest.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#define VIRTIO_SIZE_MAX 1024u

#define STATUS_LIVE                                                                                \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
		VIRTIO_CONFIG_S_DRIVER_OK)

/* Features of the ring, for virtio_start. */
#define RING_INDIRECT (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define RING_EVENT (1ull << VIRTIO_RING_F_EVENT_IDX)

struct virtio {
	uint64_t base; /* of its registers */
	unsigned gsi;
	/* On PCI, where base is the BAR's. */
	bool pci, routed;
	unsigned slot, msix; /* the second is a capability's offset */
	uint64_t common, notify, isr, config;
	uint32_t notify_stride;
};

/* Memory for the largest ring is taken once; the size may differ each time the device starts. */
struct ring {
	const struct virtio *v;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	unsigned index, size;
	uint16_t offered, reaped; /* free-running, as the indices in the rings */
};

/* The first device of that kind; there must be one. */
void virtio_find(struct virtio *v, unsigned id);

uint32_t virtio_get(const struct virtio *v, unsigned reg);
void virtio_set(const struct virtio *v, unsigned reg, uint32_t value);

/* All features that it offers, and where its configuration begins. */
uint64_t virtio_offered(const struct virtio *v);
uint64_t virtio_config(const struct virtio *v);

/* Its interrupts arrive as this vector, from the next virtio_start on. */
void virtio_route(struct virtio *v, unsigned vector);

/* What is to be done after one that was for a queue, which is checked. */
void virtio_acknowledge(const struct virtio *v);

/* In this order: reset and features, each queue, live. */
void virtio_start(const struct virtio *v, uint64_t features);
void virtio_queue(const struct virtio *v, struct ring *r, unsigned index, unsigned size);
void virtio_live(const struct virtio *v);

void virtio_reset(const struct virtio *v);

/* True when the device has given up on its driver. */
bool virtio_broken(const struct virtio *v);

void ring_desc(struct ring *r, unsigned i, const void *addr, uint32_t len, unsigned flags);

/* Makes the chain at `head` available; ring_kick tells the device if it wants to know. */
void ring_offer(struct ring *r, unsigned head);
void ring_kick(struct ring *r);

/* The next used entry; false where there is none. ring_wait looks until there is one. */
bool ring_reap(struct ring *r, uint32_t *head, uint32_t *len);
uint32_t ring_wait(struct ring *r, uint32_t *head);

#endif
