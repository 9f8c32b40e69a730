// SPDX-License-Identifier: MIT
// Where a stream's bytes go: this process's stdout or stderr.
#include "cli/sink.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static bool has_room(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return poll(&p, 1, 0) > 0;
}

static ssize_t try_write(const struct sink *s, const uint8_t *bytes, size_t length)
{
	ssize_t n;

	if (s->kind == STDFD_SHARED) {
		if (!has_room(s->fd))
			return -EAGAIN;
		length = MIN(length, (size_t)PIPE_BUF);
	}
	if (s->kind == STDFD_SOCKET)
		n = send(s->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		n = write(s->fd, bytes, length);
	return n < 0 ? -errno : n;
}

/* Writes as much as goes now. Returns how much, or -errno when the sink has broken. */
static ssize_t write_some(struct sink *s, const uint8_t *bytes, size_t length)
{
	size_t done = 0;
	ssize_t n;

	while (done < length) {
		n = try_write(s, bytes + done, length - done);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			break;
		if (n < 0)
			return n;
		done += (size_t)n;
	}
	s->written += (uint32_t)done;
	return (ssize_t)done;
}

static int wait_for_room(struct sink *s)
{
	bool waiting = s->ring.used > 0;

	if (waiting == s->waiting)
		return 0;
	s->waiting = waiting;
	return loop_mod(s->loop, &s->watch, waiting ? EPOLLOUT : 0);
}

static int break_sink(struct sink *s, int error)
{
	sink_close(s);
	return error;
}

static int pump(struct sink *s)
{
	const uint8_t *bytes;
	size_t length;
	ssize_t n;

	while (s->ring.used) {
		bytes = ring_peek(&s->ring, &length);
		n = write_some(s, bytes, length);
		if (n < 0)
			return (int)n;
		if (!n)
			break;
		ring_drop(&s->ring, (size_t)n);
	}
	return wait_for_room(s);
}

static void sink_ready(void *arg, uint32_t events)
{
	struct sink *s = arg;
	int rc = 0;

	if (events & EPOLLOUT)
		rc = pump(s);
	else if (events & (EPOLLERR | EPOLLHUP))
		rc = -EPIPE; /* known before a write would find it */
	if (rc)
		break_sink(s, rc);
	s->changed(s->arg, rc); /* may destroy the sink */
}

int sink_open(struct sink *s, int fd)
{
	s->fd = stdfd_open(fd, O_WRONLY, &s->kind);
	if (s->fd < 0)
		return s->fd;
	s->watch = WATCH_INIT(sink_ready, s);
	return stdfd_watch(s->loop, &s->watch, &s->fd, &s->kind);
}

/* The memory comes with the first byte that has to wait. */
static int keep(struct sink *s, const uint8_t *bytes, size_t length)
{
	uint8_t *buffer;

	if (!s->ring.buffer) {
		buffer = malloc(s->limit);
		if (!buffer)
			return -ENOMEM;
		ring_init(&s->ring, buffer, s->limit);
	}
	ring_put(&s->ring, bytes, length);
	return wait_for_room(s);
}

int sink_write(struct sink *s, const uint8_t *bytes, size_t length)
{
	ssize_t n = 0;
	int rc = 0;

	if (!s->ring.used)
		n = write_some(s, bytes, length);
	if (n < 0)
		return break_sink(s, (int)n);
	if ((size_t)n < length)
		rc = keep(s, bytes + n, length - (size_t)n);
	return rc ? break_sink(s, rc) : 0;
}

bool sink_idle(const struct sink *s)
{
	return s->fd < 0 || !s->ring.used;
}

void sink_close(struct sink *s)
{
	if (s->fd < 0)
		return;
	loop_del(s->loop, &s->watch);
	stdfd_close(&s->fd, s->kind);
	free(s->ring.buffer);
	s->ring = (struct ring){0};
}
