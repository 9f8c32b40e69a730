// SPDX-License-Identifier: MIT
// A vCPU's registers: at its first instruction, and saved and loaded whole. For vcpu.c.
#ifndef HW_VCPU_STATE_H
#define HW_VCPU_STATE_H

#include "hw/boot.h"

#include <stdint.h>

struct kvm;
struct mem;
struct stream_in;
struct stream_out;

/* MSRs as firmware would leave them. 0 or -errno. */
int vcpu_state_init_msrs(int fd, uint32_t id);

/* Registers at the first instruction; writes the GDT and page tables that they point to. */
int vcpu_state_boot(int fd, const struct boot_entry *b, struct mem *m);

int vcpu_state_save(int fd, const struct kvm *kvm, struct stream_out *s);
int vcpu_state_load(int fd, const struct kvm *kvm, struct stream_in *s);

#endif
