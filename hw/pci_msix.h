// SPDX-License-Identifier: MIT
// MSI-X: a table of interrupt messages in a BAR, masked by vector and by function (PCI 3.0,
// 6.8.2).
//
// Table and pending bits are words that any thread may touch: no lock is taken to raise a vector.
// A guest that changes a message without masking its vector may see one made of old and new halves,
// as on hardware.
#ifndef HW_PCI_MSIX_H
#define HW_PCI_MSIX_H

#include "hw/pci.h"

#define MSIX_VECTORS_MAX 128u

struct msix_config {
	struct pci_function *function; /* not attached yet */
	unsigned vectors;
	unsigned bar;
	uint32_t table, pending; /* offsets in the BAR, multiples of 8 */
	/* Delivers a message; from any thread. */
	void (*send)(void *arg, uint64_t address, uint32_t data);
	void *arg;
};

struct msix_entry {
	_Atomic uint32_t word[4]; /* address, its upper half, data, control */
};

struct msix {
	struct msix_config cfg;
	unsigned at;              /* of the capability */
	_Atomic uint32_t control; /* its message control */
	struct msix_entry *entries;
	_Atomic uint64_t pending[MSIX_VECTORS_MAX / 64];
};

/* Adds the capability. 0 or -errno. */
int msix_init(struct msix *x, const struct msix_config *cfg);
void msix_finish(struct msix *x);

/*
 * The guest's accesses to table and pending bits, `off` from where each begins. Double words and
 * quad words, aligned; others read as all ones and are dropped. What is past the end reads as
 * zeroes.
 */
void msix_table_read(struct msix *x, uint64_t off, void *data, unsigned len);
void msix_table_write(struct msix *x, uint64_t off, const void *data, unsigned len);
void msix_pending_read(struct msix *x, uint64_t off, void *data, unsigned len);

/* The function's configuration space has been written to, or loaded; with the bus's lock held, or
 * while vCPUs are parked. */
void msix_config_written(struct msix *x);

/*
 * Sends the vector's message; where it is masked, once it is not. Nothing happens while MSI-X is
 * disabled, and for a vector that there is not.
 */
void msix_raise(struct msix *x, unsigned vector);

/* What is pending is void. From any thread. */
void msix_forget(struct msix *x);

/* As after power-on. The function's own reset is the caller's. */
void msix_reset(struct msix *x);

/* While vCPUs are parked. Load follows that of the function: 0 or -errno. */
void msix_save(struct msix *x, struct stream_out *s);
int msix_load(struct msix *x, struct stream_in *s);

#endif
