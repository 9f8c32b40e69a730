// SPDX-License-Identifier: MIT
// MSI-X: a table of interrupt messages in a BAR, masked by vector and by function (PCI 3.0,
// 6.8.2).
//
// Table and pending bits are words that any thread may touch: no lock is taken to raise a vector.
// A guest that changes a message without masking its vector may see one made of old and new halves,
// as on hardware.
//
// Who owns a queue and is not the monitor (virtio/queue.h) interrupts by an eventfd, which the
// kernel turns into the vector's message. While the vector is masked the kernel does not listen to
// it, and what it holds is pending. Masks and messages of such a vector wait for the kernel, under
// a lock that raising does not take.
#ifndef HW_PCI_MSIX_H
#define HW_PCI_MSIX_H

#include "hw/msi_route.h"
#include "hw/pci.h"

#include <pthread.h>

#define MSIX_VECTORS_MAX 128u

struct msix_config {
	struct pci_function *function; /* not attached yet */
	unsigned vectors;
	unsigned bar;
	uint32_t table, pending; /* offsets in the BAR, multiples of 8 */
	/* Delivers a message; from any thread. */
	void (*send)(void *arg, uint64_t address, uint32_t data);
	void *arg;
	struct kvm *kvm; /* whose eventfds are; NULL: they lead nowhere (tests) */
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
	pthread_mutex_t call_lock; /* guards what follows; never taken on the way of an interrupt */
	struct msi_line *calls;    /* NULL while there are none */
	unsigned call_count;
	const _Atomic uint16_t *call_vectors; /* which vector each is */
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

/*
 * Makes eventfds, `count` of them, that each raise a vector: that of vectors[i], which is borrowed
 * and may change (msix_calls_moved); none where there is no such vector. `fds` are borrowed until
 * msix_disconnect, before which who signals them has ceased to: what is then pending is kept. No
 * other are connected meanwhile. 0 or -errno.
 */
int msix_connect(struct msix *x, const _Atomic uint16_t *vectors, unsigned count, int *fds);
void msix_disconnect(struct msix *x);
void msix_calls_moved(struct msix *x);

/* What is pending is void. From any thread. */
void msix_forget(struct msix *x);

/* As after power-on. The function's own reset is the caller's. */
void msix_reset(struct msix *x);

/* While vCPUs are parked. Load follows that of the function: 0 or -errno. */
void msix_save(struct msix *x, struct stream_out *s);
int msix_load(struct msix *x, struct stream_in *s);

#endif
