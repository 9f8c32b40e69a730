// SPDX-License-Identifier: MIT
// The 8254 timer, made when a guest first asks for it.
//
// KVM's timer costs a kernel thread and a quarter of a VM's start, and a Linux guest of a
// hardware-reduced machine never touches it. Others calibrate by it (memtest86+). So its ports are
// ours until the first access, which makes KVM's timer, applies that one access to it, and never
// sees another: KVM looks at its own devices first.
#ifndef HW_PIT_H
#define HW_PIT_H

struct bus;
struct kvm;
struct pit;
struct stream_in;
struct stream_out;

/* Puts the ports on the bus. `kvm` and `pio` outlive it. 0 or -errno. */
int pit_create(struct pit **out, const struct kvm *kvm, struct bus *pio);

/* KVM's timer goes with the VM. NULL is fine. */
void pit_destroy(struct pit *p);

/* vCPUs are parked for these. A reset stops the timer if there is one. */
void pit_reset(struct pit *p);
void pit_save(struct pit *p, struct stream_out *s);
int pit_load(struct pit *p, struct stream_in *s);

#endif
