// SPDX-License-Identifier: MIT
// What a vCPU says of itself.
#ifndef HW_CPUID_H
#define HW_CPUID_H

#include <stdint.h>

struct kvm;
struct kvm_cpuid2;

#define CPUID_ADDED 4 /* entries at most: three of topology, one of timing */

/*
 * Copies what the host supports (kvm->cpuid) into `out`, room for CPUID_ADDED entries more, and
 * applies the table of changes for the vCPU with APIC id `id` of `count`. `tsc_khz` 0: unknown.
 */
void cpuid_build(struct kvm_cpuid2 *out, const struct kvm *kvm, uint32_t id, uint32_t count,
	uint32_t tsc_khz);

#endif
