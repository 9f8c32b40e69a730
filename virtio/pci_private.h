// SPDX-License-Identifier: MIT
// What the files of the virtio-pci transport share.
#ifndef VIRTIO_PCI_PRIVATE_H
#define VIRTIO_PCI_PRIVATE_H

#include "hw/pci.h"
#include "hw/pci_msix.h"
#include "virtio/pci.h"
#include "virtio/transport.h"

/* The one BAR: a page for each kind of register, so that a driver may map each by itself. */
#define BAR_NUMBER 0u
#define BAR_SIZE 0x8000u
#define PAGE 0x1000u
#define AT_COMMON 0x0000u
#define AT_ISR 0x1000u
#define AT_DEVICE 0x2000u
#define AT_NOTIFY 0x3000u
#define AT_TABLE 0x4000u
#define AT_PENDING 0x5000u

/* A doorbell each queue. */
#define NOTIFY_STRIDE 4u

/* Offsets within VIRTIO_PCI_CAP_PCI_CFG, which has its four bytes of data after the structure. */
#define WINDOW_DATA 16u

struct virtio_pci {
	struct virtio_pci_config cfg;
	struct pci_function function;
	struct msix msix;
	struct transport t;
	unsigned window; /* offset of VIRTIO_PCI_CAP_PCI_CFG */
	atomic_uint isr;
	_Atomic uint16_t config_vector;
	_Atomic uint16_t *vectors; /* each queue's */
	uint64_t base; /* where the BAR answers, or 0; under the transport's bell_lock */
	/* Under the transport's lock. */
	uint32_t offered_sel, accept_sel;
	uint16_t queue_sel;
};

/* A mistake of the driver's, with the transport's lock held. */
#define mistake(v, ...) guest_error(&(v)->t.log, (v)->cfg.dev->name, __VA_ARGS__)

/* ---- pci_common.c ---- */

/* Registers have one width each; another reads as zeroes and changes nothing. */
void virtio_pci_common_read(struct virtio_pci *v, uint64_t off, void *data, unsigned len);
void virtio_pci_common_write(struct virtio_pci *v, uint64_t off, const void *data, unsigned len);

/* `vector` is config_vector or one of vectors; NULL is a mistake, with the transport's lock held.
 */
void virtio_pci_set_vector(struct virtio_pci *v, _Atomic uint16_t *vector, uint32_t value);

/* ---- pci_function.c ---- */

/* Fills v->function and v->msix, with `bar` for the registers. 0 or -errno. */
int virtio_pci_make_function(struct virtio_pci *v, const struct bus_ops *bar);

/* ---- pci.c ---- */

/* The guest's accesses to the BAR. */
void virtio_pci_bar_read(void *dev, uint64_t off, void *data, unsigned len);
void virtio_pci_bar_write(void *dev, uint64_t off, const void *data, unsigned len);

/* The BAR has moved: what is bound to where it was is let go. */
void virtio_pci_bar_moved(void *dev, unsigned bar, uint64_t base);

#endif
