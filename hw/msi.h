// SPDX-License-Identifier: MIT
// Message-signalled interrupts: a write of `data` to an address of the local APICs (Intel SDM 3,
// 11.11).
#ifndef HW_MSI_H
#define HW_MSI_H

#include <stdbool.h>
#include <stdint.h>

/* Whether it is an address of the local APICs. Any other only a guest can have made up. */
bool msi_is_valid(uint64_t address);

/*
 * Delivers one; from any thread, never waits. `kvm` is a struct kvm, or NULL (tests: nothing
 * happens). An address that is no local APIC's is ignored.
 */
void msi_send(void *kvm, uint64_t address, uint32_t data);

#endif
