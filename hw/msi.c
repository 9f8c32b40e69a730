// SPDX-License-Identifier: MIT
// Message-signalled interrupts by KVM_SIGNAL_MSI.
//
// An irqfd would need a route, and each change of the table of routes waits for a grace period in
// the kernel: milliseconds on some hosts, paid for each vector while the guest starts. A message
// costs the sender one system call, as ringing an eventfd does. Where the sender is not the monitor
// there is no other way (hw/msi_route.h).
#include "hw/msi.h"

#include "base/log.h"
#include "hw/kvm.h"
#include "hw/layout.h"

#include <errno.h>
#include <sys/ioctl.h>

/* Which processor is in the bits below. */
#define APIC_SPACE 0x100000u

bool msi_is_valid(uint64_t address)
{
	return address >= LAYOUT_LAPIC && address - LAYOUT_LAPIC < APIC_SPACE;
}

void msi_send(void *arg, uint64_t address, uint32_t data)
{
	const struct kvm *kvm = arg;
	struct kvm_msi msi = {.address_lo = (uint32_t)address, .data = data};

	if (!kvm || !msi_is_valid(address))
		return;
	/* What the guest has made up may name a vector or a processor that there is not: EINVAL or
	 * no receiver, which is its own affair. */
	if (ioctl(kvm->vm, KVM_SIGNAL_MSI, &msi) < 0 && errno != EINVAL)
		log_debug("an interrupt of 0x%x: %s", data, strerror(errno));
}
