// SPDX-License-Identifier: MIT
// Where a stream's bytes come from: this process's stdin.
#include "cli/source.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void source_ready(void *arg, uint32_t events)
{
	struct source *s = arg;

	/* A hang-up is reported whether wanted or not, and again and again: it waits in the kernel.
	 */
	if (s->wanted)
		s->ready(s->arg);
	else
		loop_del(s->loop, &s->watch);
}

int source_open(struct source *s, int fd)
{
	s->wanted = false;
	s->fd = stdfd_open(fd, O_RDONLY, &s->kind);
	if (s->fd < 0)
		return s->fd;
	s->watch = WATCH_INIT(source_ready, s);
	return stdfd_watch(s->loop, &s->watch, &s->fd, &s->kind);
}

bool source_is_file(const struct source *s)
{
	return s->kind == STDFD_FILE;
}

void source_want(struct source *s, bool wanted)
{
	if (s->fd < 0 || s->kind == STDFD_FILE || wanted == s->wanted)
		return;
	s->wanted = wanted;
	if (s->watch.fd >= 0)
		loop_mod(s->loop, &s->watch, wanted ? EPOLLIN : 0);
	else if (wanted)
		loop_add(s->loop, &s->watch, s->fd, EPOLLIN);
}

ssize_t source_read(struct source *s, void *buffer, size_t length)
{
	ssize_t n = read(s->fd, buffer, length);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return n;
}

void source_close(struct source *s)
{
	if (s->fd < 0)
		return;
	loop_del(s->loop, &s->watch);
	stdfd_close(&s->fd, s->kind);
}
