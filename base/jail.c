// SPDX-License-Identifier: MIT
// Puts a thread behind the filter that was made for it at build time.
#include "base/jail.h"

#include "base/log.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail_bpf.h"

#define PROGRAM(array)                                                                             \
	{                                                                                          \
		ARRAY_SIZE(array), array                                                           \
	}

static const struct {
	unsigned short len;
	const struct sock_filter *filter;
} programs[JAIL_ROLES][2] = {
	[JAIL_VCPU] = {PROGRAM(vcpu_kill), PROGRAM(vcpu_log)},
	[JAIL_IO] = {PROGRAM(io_kill), PROGRAM(io_log)},
	[JAIL_CONTROL] = {PROGRAM(control_kill), PROGRAM(control_log)},
	[JAIL_UNPACK] = {PROGRAM(unpack_kill), PROGRAM(unpack_log)},
};

int jail_enter(enum jail_role role, enum jail_mode mode)
{
	struct sock_fprog prog;

	if (mode == JAIL_OFF)
		return 0;
	prog.len = programs[role][mode == JAIL_LOG].len;
	/* The kernel's own interface lacks the const. */
	memcpy(&prog.filter, &programs[role][mode == JAIL_LOG].filter, sizeof(prog.filter));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failno(errno, "jail: no_new_privs");
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return failno(errno, "jail: seccomp filter");
	return 0;
}
