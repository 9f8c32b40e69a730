// SPDX-License-Identifier: MIT
// Signals through a signalfd.
#include "cli/signals.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void ready(void *arg, uint32_t events)
{
	struct signals *s = arg;
	struct signalfd_siginfo info;

	if (read(s->fd, &info, sizeof(info)) == sizeof(info))
		s->got(s->arg, (int)info.ssi_signo);
}

int signals_start(
	struct signals *s, struct loop *loop, void (*got)(void *arg, int signo), void *arg)
{
	sigset_t set;
	int rc;

	*s = (struct signals){.loop = loop, .fd = -1, .got = got, .arg = arg};
	s->watch = WATCH_INIT(ready, s);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return failno(errno, "signals");
	s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->fd < 0)
		return failno(errno, "signals");
	rc = loop_add(loop, &s->watch, s->fd, EPOLLIN);
	return rc < 0 ? failno(-rc, "signals") : 0;
}

void signals_finish(struct signals *s)
{
	if (!s->loop)
		return;
	loop_del(s->loop, &s->watch);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct signals){0};
}
