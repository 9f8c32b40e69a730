// SPDX-License-Identifier: MIT
// An interrupt line: an eventfd, bound to a pin of the in-kernel IOAPIC by irqfd.
#ifndef HW_IRQ_H
#define HW_IRQ_H

#include <stdint.h>

struct kvm;

/* An edge-triggered line. `fd` is -1 while there is none; any thread may raise it. */
struct irq {
	int fd;
	uint32_t gsi;
};

#define IRQ_NONE ((struct irq){.fd = -1})

/* Makes the eventfd and, unless `kvm` is NULL (tests), binds it to `gsi`. 0 or -errno. */
int irq_init(struct irq *irq, const struct kvm *kvm, uint32_t gsi);

/*
 * Unbinds and closes; fine on IRQ_NONE. With `kvm` NULL it only closes: for a VM that is about to
 * be closed itself, as each unbinding waits for the kernel.
 */
void irq_finish(struct irq *irq, const struct kvm *kvm);

/* Raises one edge. Never blocks. */
void irq_raise(const struct irq *irq);

#endif
