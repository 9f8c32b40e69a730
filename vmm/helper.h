// SPDX-License-Identifier: MIT
// Starting the programs of libexec/kvick: before the jail shuts, each with descriptors and no
// environment.
#ifndef VMM_HELPER_H
#define VMM_HELPER_H

#include <sys/types.h>

#define HELPER_MORE_MAX 3u /* descriptors beside its standard input */

/* A descriptor, borrowed, and its number in the process. */
struct helper_fd {
	int fd, as;
};

/* One that another process has started, and has handed over: it is not waited for. */
#define HELPER_ADOPTED (-1)

/* Before the start: {.socket = -1}. */
struct helper {
	pid_t pid;  /* 0: none, or waited for; or HELPER_ADOPTED */
	int socket; /* of SOCK_SEQPACKET; its other end is the process's standard input */
};

/*
 * Runs the program open as `program`, which is taken, with argv[0] for its name and `count` more
 * descriptors; its standard error is ours, and its output the same. It has a session of its own:
 * what a terminal sends is for the monitor to answer. 0, or -errno with a message. A negative
 * `program` is such an error of who was to open it, and is returned.
 */
int helper_start(struct helper *h, int program, char *const argv[], const struct helper_fd *more,
	unsigned count);

/* Waits for its end. The status of waitpid, -1 where there is none to be had; h->pid becomes 0. */
int helper_wait(struct helper *h);

/* Closes the socket, of which the process ends, and waits. Fine on one that was not started. */
void helper_finish(struct helper *h);

#endif
