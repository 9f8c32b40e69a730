// SPDX-License-Identifier: MIT
// The signals that ask a VM to end, as events of the control loop.
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include "base/loop.h"

#include <signal.h>

struct signals {
	struct loop *loop;
	struct watch watch;
	int fd;
	sigset_t set;
	void (*got)(void *arg, int signo);
	void *arg;
};

/*
 * From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT call `got` on the loop's thread, but for those
 * that are ignored, which stay so; SIGPIPE is ignored. To be called before any other thread is
 * made, as they inherit the mask. 0 or -errno.
 */
int signals_start(
	struct signals *s, struct loop *loop, void (*got)(void *arg, int signo), void *arg);

/* Around what may wait for long before the loop runs: one of them ends the process at once. */
void signals_let_end(const struct signals *s, bool let);

/* Fine where signals_start failed or was not called on a zeroed struct. */
void signals_finish(struct signals *s);

#endif
