// SPDX-License-Identifier: MIT
// Signals through a signalfd.
#include "cli/signals.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void ready(void *arg, uint32_t events)
{
	struct signals *s = arg;
	struct signalfd_siginfo info;

	if (read(s->fd, &info, sizeof(info)) == sizeof(info))
		s->got(s->arg, (int)info.ssi_signo);
}

/*
 * Those that were not ignored when we were started, as nohup and a shell without job control have
 * it: a signalfd brings an ignored one, too.
 */
static void fill_set(sigset_t *set)
{
	static const int asking[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction old;

	sigemptyset(set);
	for (unsigned i = 0; i < ARRAY_SIZE(asking); i++)
		if (sigaction(asking[i], NULL, &old) < 0 || old.sa_handler != SIG_IGN)
			sigaddset(set, asking[i]);
}

int signals_start(
	struct signals *s, struct loop *loop, void (*got)(void *arg, int signo), void *arg)
{
	int rc;

	*s = (struct signals){.loop = loop, .fd = -1, .got = got, .arg = arg};
	s->watch = WATCH_INIT(ready, s);
	fill_set(&s->set);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &s->set, NULL) < 0)
		return failno(errno, "signals");
	s->fd = signalfd(-1, &s->set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->fd < 0)
		return failno(errno, "signals");
	rc = loop_add(loop, &s->watch, s->fd, EPOLLIN);
	return rc < 0 ? failno(-rc, "signals") : 0;
}

void signals_let_end(const struct signals *s, bool let)
{
	sigprocmask(let ? SIG_UNBLOCK : SIG_BLOCK, &s->set, NULL);
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
