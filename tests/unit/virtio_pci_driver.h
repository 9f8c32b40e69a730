// SPDX-License-Identifier: MIT
// A driver of a virtio device on PCI that is in slot 1, its BAR at the start of the window.
#ifndef TESTS_UNIT_VIRTIO_PCI_DRIVER_H
#define TESTS_UNIT_VIRTIO_PCI_DRIVER_H

#include "tests/unit/driver.h"
#include "tests/unit/pci_guest.h"
#include "virtio/pci_private.h"

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#define SLOT 1u
#define BAR LAYOUT_PCI_WINDOW

#define S_ACK VIRTIO_CONFIG_S_ACKNOWLEDGE
#define S_DRIVER VIRTIO_CONFIG_S_DRIVER
#define S_FEATURES VIRTIO_CONFIG_S_FEATURES_OK
#define S_OK VIRTIO_CONFIG_S_DRIVER_OK
#define S_LIVE (S_ACK | S_DRIVER | S_FEATURES | S_OK)

static inline uint32_t reg_get(struct pci_rig *r, unsigned reg, unsigned len)
{
	return mem_get_len(r, BAR + reg, len);
}

static inline void reg_set(struct pci_rig *r, unsigned reg, unsigned len, uint32_t v)
{
	bus_write(&r->mmio, BAR + reg, &v, len);
}

static inline uint32_t get_status(struct pci_rig *r)
{
	return reg_get(r, VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void set_status(struct pci_rig *r, uint32_t v)
{
	reg_set(r, VIRTIO_PCI_COMMON_STATUS, 1, v);
}

static inline void accept_features(struct pci_rig *r, uint64_t features)
{
	for (unsigned sel = 0; sel < 2; sel++) {
		reg_set(r, VIRTIO_PCI_COMMON_GFSELECT, 4, sel);
		reg_set(r, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> (32 * sel)));
	}
}

static inline void negotiate(struct pci_rig *r, uint64_t features)
{
	set_status(r, S_ACK);
	set_status(r, S_ACK | S_DRIVER);
	accept_features(r, features | 1ull << VIRTIO_F_VERSION_1);
	set_status(r, S_ACK | S_DRIVER | S_FEATURES);
}

static inline void set_address(struct pci_rig *r, unsigned reg, uint64_t v)
{
	reg_set(r, reg, 4, (uint32_t)v);
	reg_set(r, reg + 4, 4, (uint32_t)(v >> 32));
}

static inline void describe_queue(struct pci_rig *r, unsigned i, const struct queue_setup *s)
{
	reg_set(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
	reg_set(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, s->size);
	set_address(r, VIRTIO_PCI_COMMON_Q_DESCLO, s->desc);
	set_address(r, VIRTIO_PCI_COMMON_Q_AVAILLO, s->avail);
	set_address(r, VIRTIO_PCI_COMMON_Q_USEDLO, s->used);
	reg_set(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

/* Vector 0 for the configuration, then one for each queue; each is its message's data. */
static inline void use_vectors(struct pci_rig *r, unsigned queues)
{
	unsigned at = find_capability(r, SLOT, PCI_CAP_ID_MSIX, 0);

	for (unsigned v = 0; v <= queues; v++) {
		reg_set(r, AT_TABLE + v * 16, 4, LAYOUT_LAPIC);
		reg_set(r, AT_TABLE + v * 16 + 8, 4, v);
		reg_set(r, AT_TABLE + v * 16 + 12, 4, 0);
	}
	config_set(r, SLOT, at + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	reg_set(r, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	for (unsigned i = 0; i < queues; i++) {
		reg_set(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		reg_set(r, VIRTIO_PCI_COMMON_Q_MSIX, 2, i + 1);
	}
}

#endif
