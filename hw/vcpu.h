// SPDX-License-Identifier: MIT
// A virtual CPU: its thread, its exits, its state.
#ifndef HW_VCPU_H
#define HW_VCPU_H

#include "hw/boot.h"

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct kvm;
struct mem;
struct stream_in;
struct stream_out;
struct vcpu;

/* Why a vCPU cannot go on. */
enum vcpu_end {
	VCPU_END_TRIPLE_FAULT,
	VCPU_END_KVM_ERROR, /* KVM could not emulate or enter the guest; vcpu_end_text says why */
};

enum vcpu_exit { EXIT_IO, EXIT_MMIO, EXIT_INTR, EXIT_OTHER, EXIT_KINDS };

struct vcpu_config {
	const struct kvm *kvm;
	struct bus *pio, *mmio;
	uint32_t id, count; /* this one's APIC id; how many there are */

	/* Both on the vCPU's thread. `ended`: it has asked to be parked, see vcpu_ask_to_park. */
	void (*ended)(void *arg, struct vcpu *v, enum vcpu_end why);
	void (*enter)(
		void *arg, struct vcpu *v); /* first of all; the last step into its jail, too */
	void *arg;
};

/* Makes the vCPU and sets CPUID and MSRs; `cfg` is copied. 0 or -errno. */
int vcpu_create(struct vcpu **out, const struct vcpu_config *cfg);

/* The thread, if any, is ended and joined. NULL is fine. */
void vcpu_destroy(struct vcpu *v);

/* Registers of the first vCPU at its first instruction; others wait for the guest to start them. */
int vcpu_set_boot(struct vcpu *v, const struct boot_entry *b, struct mem *m);

/* Starts the thread, parked. vcpu_resume lets it run; vcpu_park returns once it runs no guest code.
 */
int vcpu_start(struct vcpu *v);
void vcpu_resume(struct vcpu *v);
void vcpu_park(struct vcpu *v);

/* As vcpu_park, without waiting: no guest instruction follows the one in progress. Any thread. */
void vcpu_ask_to_park(struct vcpu *v);

/* Only while parked. 0 or -errno. */
int vcpu_save(struct vcpu *v, struct stream_out *s);
int vcpu_load(struct vcpu *v, struct stream_in *s);

/* Halted with interrupts off: it will never run again by itself. Only while parked. */
bool vcpu_is_dead(struct vcpu *v);

/* Where it is, for messages: "rip 0x... cs 0x.. cr3 0x...". Only while parked; into `buf`,
 * returned. */
const char *vcpu_where(struct vcpu *v, char *buf, unsigned len);

/* What VCPU_END_KVM_ERROR was about. Borrowed, valid as long as the vCPU. */
const char *vcpu_end_text(const struct vcpu *v);

/* Exits to the monitor so far, by kind. */
uint64_t vcpu_exits(const struct vcpu *v, enum vcpu_exit kind);

#endif
