// SPDX-License-Identifier: MIT
// Puts a thread behind the filter that was made for it at build time.
#include "base/jail.h"

#include "base/log.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail_bpf.h"

#define PROGRAM(array)                                                                             \
	{                                                                                          \
		ARRAY_SIZE(array), array                                                           \
	}

static const struct jail_filter programs[JAIL_ROLES] = {
	[JAIL_VCPU] = PROGRAM(vcpu),
	[JAIL_IO] = PROGRAM(io),
	[JAIL_CONTROL] = PROGRAM(control),
	[JAIL_UNPACK] = PROGRAM(unpack),
};

/* The same program with another verdict on what is not in the table, or NULL. */
static struct sock_filter *make_lenient(const struct sock_filter *strict, unsigned short len)
{
	struct sock_filter *f = malloc(len * sizeof(*f));

	for (unsigned i = 0; f && i < len; i++) {
		f[i] = strict[i];
		if (f[i].code == (BPF_RET | BPF_K) && f[i].k == SECCOMP_RET_KILL_PROCESS)
			f[i].k = SECCOMP_RET_LOG;
	}
	return f;
}

static int install(const struct sock_fprog *prog)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failno(errno, "jail: no_new_privs");
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, prog) < 0)
		return failno(errno, "jail: seccomp filter");
	return 0;
}

int jail_enter_filter(const struct jail_filter *f, enum jail_mode mode)
{
	struct sock_fprog prog = {.len = f->len};
	int rc;

	if (mode == JAIL_OFF)
		return 0;
	if (mode != JAIL_LOG) {
		/* The kernel's own interface lacks the const. */
		memcpy(&prog.filter, &f->code, sizeof(prog.filter));
		return install(&prog);
	}
	prog.filter = make_lenient(f->code, prog.len);
	rc = prog.filter ? install(&prog) : fail(ENOMEM, "jail: out of memory");
	free(prog.filter);
	return rc;
}

int jail_enter(enum jail_role role, enum jail_mode mode)
{
	return jail_enter_filter(&programs[role], mode);
}
