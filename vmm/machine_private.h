// SPDX-License-Identifier: MIT
// The machine from inside: for machine*.c only.
#ifndef VMM_MACHINE_PRIVATE_H
#define VMM_MACHINE_PRIVATE_H

#include "base/loop.h"
#include "base/stream.h"
#include "hw/kvm.h"
#include "vmm/devices.h"
#include "vmm/machine.h"

struct vcpu;

struct machine_phase {
	const char *name;
	uint64_t at_ns;
};

struct machine {
	struct machine_config cfg;
	struct loop *control;
	enum machine_state state;
	enum machine_end end;
	char end_text[PANIC_TEXT_MAX + 1];
	bool panicked;
	bool attach_failed; /* written before the first vCPU is parked, read after */

	struct mem *mem;
	struct kvm kvm;
	struct devices devices;
	struct vcpu **cpu;
	uint32_t cpus;

	pthread_mutex_t note_lock; /* guards stop_noted and events */
	char stop_noted[192];      /* the first words of a disk that stops the machine */
	char events[1024];         /* lines that are to be told */
	char why_stopped[192];     /* those it was paused for; "" where it was not */

	struct watch asked_watch; /* an eventfd */
	unsigned asked;           /* atomic; see machine.c */

	struct machine_phase phase[12];
	unsigned phases;
};

/*
 * A disk that wants the machine paused: what it says is noted on its loop, and taken on the control
 * loop's thread. NULL there: all of its requests are gone meanwhile, or it was taken already.
 * Forgotten when they are about to be tried again, or dropped.
 */
void machine_note_stop(struct machine *m, const char *why);
const char *machine_take_stop(struct machine *m);
void machine_forget_stop(struct machine *m);

/* Notes when a phase of the machine's life was reached; past the last place, nothing. */
void machine_mark(struct machine *m, const char *phase);

void machine_tell(struct machine *m, const char *what);

/* Has the control loop look at m->events, from any thread, and what it does then. */
void machine_ring_events(struct machine *m);
void machine_tell_events(struct machine *m);

/* As devices_host.nic_event has it. */
void machine_nic_event(void *arg, const char *nic, const char *what);

/* Returns once no vCPU runs guest code, or lets them all go on: at once, or where one has asked for
 * what it parked them for, once that has been done. */
void machine_park_all(struct machine *m);
void machine_resume_all(struct machine *m);

/* Takes away the disks that the guest has let go of, or all that it was asked to. Where the machine
 * runs, vCPUs run afterwards. */
void machine_finish_ejects(struct machine *m, bool all);

/* A vCPU of `kvm` that is this machine's number `id`. 0 or -errno. */
int machine_new_vcpu(struct machine *m, const struct kvm *kvm, uint32_t id, struct vcpu **out);

/* Puts KVM and the vCPUs into the state of a machine that has just been made. 0 or -errno. */
int machine_load_fresh(struct machine *m);

#endif
