// SPDX-License-Identifier: MIT
// The VM as the kernel sees it: /dev/kvm, the VM descriptor, the in-kernel interrupt controllers.
#ifndef HW_KVM_H
#define HW_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvm_route;
struct stream_in;
struct stream_out;

struct kvm {
	int dev;         /* /dev/kvm, owned */
	int vm;          /* owned */
	size_t run_size; /* bytes of struct kvm_run and what follows it */
	uint32_t max_vcpus;
	bool tsc_deadline;        /* KVM_CAP_TSC_DEADLINE_TIMER */
	struct kvm_cpuid2 *cpuid; /* what the host supports; owned */
	/* The routes of hw/msi_route.c. */
	pthread_mutex_t route_lock; /* guards them */
	struct kvm_route *routes;   /* owned; NULL while there are none */
	unsigned route_count;
	bool routes_changed; /* since the kernel was told */
};

#define KVM_CPUID_MAX 256

/*
 * Checks API version and the capabilities without which no machine can be built (each missing one
 * is named), makes the VM and its interrupt controllers. Takes `dev`. 0 or -errno.
 */
int kvm_create(struct kvm *k, int dev);
void kvm_finish(struct kvm *k);

/* An eventfd is signalled by a guest's write of `value` (4 bytes) to `addr`, without an exit. */
int kvm_ioeventfd(const struct kvm *k, int fd, uint64_t addr, uint32_t value, bool add);

/* The same by a guest's write of any value and width to `addr`. */
int kvm_ioeventfd_any(const struct kvm *k, int fd, uint64_t addr, bool add);

/* Interrupt controllers and clock. The VM must be paused. 0 or -errno. */
int kvm_save(const struct kvm *k, struct stream_out *s);
int kvm_load(const struct kvm *k, struct stream_in *s);

#endif
