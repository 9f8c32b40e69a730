// SPDX-License-Identifier: MIT
// Starting the programs of libexec/kvick: before the jail shuts, each with descriptors and no
// environment.
#ifndef VMM_HELPER_H
#define VMM_HELPER_H

#include <sys/types.h>

#define HELPER_FDS_MAX 4u

/* A descriptor, borrowed, and its number in the process. */
struct helper_fd {
	int fd, as;
};

/*
 * Runs the program open as `program`, borrowed, with argv[0] for its name; its standard error is
 * ours. It inherits the blocked signals of this thread: what a terminal sends is for the monitor to
 * answer. 0 and *pid, or a positive errno.
 */
int helper_spawn(
	pid_t *pid, int program, char *const argv[], const struct helper_fd *fds, unsigned count);

/* Waits for its end. The status of waitpid, -1 where there is none; *pid becomes 0. No-op on 0. */
int helper_wait(pid_t *pid);

#endif
