// SPDX-License-Identifier: MIT
// Eventfds that the kernel turns into interrupt messages, for who owns a queue and is not the
// monitor (Documentation/virt/kvm/api.rst: KVM_SET_GSI_ROUTING, KVM_IRQFD).
//
// A VM has one table of routes, and each change of it waits for a grace period in the kernel. So
// changes are gathered, and msi_routes_commit hands them over at once. Any thread.
#ifndef HW_MSI_ROUTE_H
#define HW_MSI_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

struct kvm;

struct msi_line {
	int fd;         /* eventfd, owned; -1: there is none */
	unsigned route; /* of the VM's */
	bool bound;     /* the kernel listens to fd */
};

#define MSI_LINE_NONE ((struct msi_line){.fd = -1})

/*
 * Makes an eventfd that leads nowhere yet; with `kvm` NULL (tests) it never does. A line is touched
 * by one thread at a time. 0 or -errno.
 */
int msi_line_init(struct msi_line *l, struct kvm *kvm);

/* Unbinds and closes it; fine on MSI_LINE_NONE. */
void msi_line_finish(struct msi_line *l, struct kvm *kvm);

/* Which message it is to be, from the next commit on. */
void msi_line_aim(const struct msi_line *l, struct kvm *kvm, uint64_t address, uint32_t data);

/* Hands over what has changed, if anything has. 0 or -errno. */
int msi_routes_commit(struct kvm *kvm);

/*
 * Has the kernel listen to it, or no longer; a no-op where that is so already. What the eventfd
 * holds as it begins to is one message; before it ceases to, all that was signalled is delivered.
 * Each waits for the kernel. 0 or -errno.
 */
int msi_line_bind(struct msi_line *l, const struct kvm *kvm, bool on);

/* Takes what the eventfd of a line that is not bound holds. Whether it was anything. */
bool msi_line_take(const struct msi_line *l);

#endif
