// SPDX-License-Identifier: MIT
// Interrupt lines by irqfd.
#include "hw/irq.h"

#include "base/log.h"
#include "hw/kvm.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int bind_irqfd(const struct irq *irq, const struct kvm *kvm, uint32_t flags)
{
	struct kvm_irqfd arg = {.fd = (uint32_t)irq->fd, .gsi = irq->gsi, .flags = flags};

	return ioctl(kvm->vm, KVM_IRQFD, &arg) < 0 ? failno(errno, "irqfd for line %u", irq->gsi)
						   : 0;
}

int irq_init(struct irq *irq, const struct kvm *kvm, uint32_t gsi)
{
	struct irq made = {.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .gsi = gsi};
	int rc;

	if (made.fd < 0)
		return failno(errno, "eventfd for line %u", gsi);
	rc = kvm ? bind_irqfd(&made, kvm, 0) : 0;
	if (rc) {
		close(made.fd);
		return rc;
	}
	*irq = made;
	return 0;
}

void irq_finish(struct irq *irq, const struct kvm *kvm)
{
	if (irq->fd < 0)
		return;
	if (kvm && bind_irqfd(irq, kvm, KVM_IRQFD_FLAG_DEASSIGN))
		log_warn("%s", last_error());
	close(irq->fd);
	*irq = IRQ_NONE;
}

void irq_raise(const struct irq *irq)
{
	uint64_t one = 1;

	/* EAGAIN means that 2^64 - 2 edges are pending already: one more changes nothing. */
	if (irq->fd >= 0 && write(irq->fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("interrupt line %u: %s", irq->gsi, strerror(errno));
}
