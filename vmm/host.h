// SPDX-License-Identifier: MIT
// What this host offers a monitor: a quick check before a guest starts, and the whole list for
// doctor.
#ifndef VMM_HOST_H
#define VMM_HOST_H

#include <stdbool.h>

enum host_status {
	HOST_OK,
	HOST_LIMITED,   /* there, and less than it could be */
	HOST_MISSING,   /* not there */
	HOST_FORBIDDEN, /* there, and not for this user */
	HOST_STATUSES,
};

const char *host_status_name(enum host_status s);

struct host_finding {
	const char *name; /* "kvm", "vhost-net": stable, for --json */
	enum host_status status;
	char detail[192]; /* what was found and what it means */
	char advice[192]; /* what to do about it; "" where nothing is to be done */
};

/* How many probes there are, and the finding of each. They take milliseconds, not microseconds. */
unsigned host_probes(void);
void host_probe(unsigned i, struct host_finding *out);

/* Whether KVM is there, permitted, and backed by hardware: stock guests run. */
bool host_runs_stock_guests(void);

/*
 * The check in front of a guest: opens /dev/kvm. The descriptor, or -errno with a message of two
 * lines, what is wrong and what to do. Software KVM passes when `allow_software`. Costs two system
 * calls.
 */
int host_open_kvm(bool allow_software);

#endif
