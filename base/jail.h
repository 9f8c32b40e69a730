// SPDX-License-Identifier: MIT
// The jail: what each kind of thread, and each helper, may still ask of the kernel.
#ifndef BASE_JAIL_H
#define BASE_JAIL_H

struct sock_filter;

enum jail_role {
	JAIL_VCPU,    /* runs guest code, answers port and register accesses */
	JAIL_IO,      /* owns queues and the descriptors behind them */
	JAIL_CONTROL, /* signals, timers, console, control socket; pauses, saves, resets, ends */
	JAIL_UNPACK,  /* the process that unpacks kernels and modules */
	JAIL_ROLES,
};

enum jail_mode {
	JAIL_KILL, /* a call that is not in the table ends the process at once, by SIGSYS */
	JAIL_LOG,  /* it is let through and shows in the kernel's audit log */
	JAIL_OFF,
};

/* Exit status of a process whose thread could not be put behind its filter. */
#define EXIT_JAIL 125

/*
 * Puts the calling thread behind the filter of its role, for good; threads that it makes afterwards
 * inherit it. The filters are made at build time from the table in base/jail_rules.h. 0 or -errno.
 */
int jail_enter(enum jail_role role, enum jail_mode mode);

/* A filter that is not one of the roles': jail_gen makes it of the table of a program beside the
 * monitor, so that the monitor does not carry it. */
struct jail_filter {
	unsigned short len;
	const struct sock_filter *code;
};

/* As jail_enter. */
int jail_enter_filter(const struct jail_filter *f, enum jail_mode mode);

#endif
