// SPDX-License-Identifier: MIT
// The terminal's input: read raw, searched for the escape key, passed on through a pipe.
//
// The pipe keeps the serial port ignorant of keys. While it is full nothing more is read, so that
// what is typed stays in the kernel's buffer, where it belongs. The saved mode is the one piece of
// state kept in a global: exit handlers and signal handlers have nothing else to find it by, and a
// process has one controlling terminal.
#include "cli/terminal.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/thread.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE 0x01 /* Ctrl-a */

struct terminal {
	struct loop *loop;
	struct watch keys, room;
	int in, out; /* the pipe's ends: `in` is the guest's */
	bool escaped;
	char held[512]; /* filtered and not yet in the pipe */
	size_t held_at, held_len;
	void (*quit)(void *arg);
	void *arg;
};

static struct termios saved;
static volatile sig_atomic_t is_raw;

static void restore(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	is_raw = 0;
}

static void restore_and_die(int signo)
{
	restore();
	raise(signo); /* SA_RESETHAND: now with its default action */
}

static void catch_fatal(void)
{
	static const int fatal[] = THREAD_FAULTS;
	struct sigaction sa = {
		.sa_handler = restore_and_die, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};

	for (unsigned i = 0; i < ARRAY_SIZE(fatal); i++)
		sigaction(fatal[i], &sa, NULL);
}

/* Output stays cooked, so that the monitor's own messages are readable lines. */
static int make_raw(void)
{
	static bool hooked;
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &saved) < 0)
		return failno(errno, "terminal");
	raw = saved;
	cfmakeraw(&raw);
	raw.c_oflag = saved.c_oflag;
	if (!hooked) {
		atexit(restore);
		catch_fatal();
		hooked = true;
	}
	is_raw = 1;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
		return failno(errno, "terminal");
	return 0;
}

bool terminal_usable(void)
{
	return isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
}

/* Takes escape sequences out of buf[0..len) in place. The new length; sets *quit. */
static size_t filter(struct terminal *t, const char *buf, size_t len, char *out, bool *quit)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		bool escaped = t->escaped;

		t->escaped = !escaped && buf[i] == ESCAPE;
		if (t->escaped)
			continue;
		if (escaped && (buf[i] == 'x' || buf[i] == 'X')) {
			*quit = true;
			break;
		}
		if (escaped && buf[i] != ESCAPE)
			out[n++] = ESCAPE;
		out[n++] = buf[i];
	}
	return n;
}

/* Moves what is held into the pipe, and reads keys again when all of it fitted. */
static void pass_on(struct terminal *t)
{
	ssize_t n = write(t->out, t->held + t->held_at, t->held_len - t->held_at);

	if (n > 0)
		t->held_at += (size_t)n;
	if (n < 0 && errno != EAGAIN)
		t->held_at = t->held_len; /* the guest's end is gone: what is typed goes nowhere */
	loop_mod(t->loop, &t->keys, t->held_at == t->held_len ? EPOLLIN : 0);
	loop_mod(t->loop, &t->room, t->held_at == t->held_len ? 0 : EPOLLOUT);
}

static void room_ready(void *arg, uint32_t events)
{
	pass_on(arg);
}

static void keys_ready(void *arg, uint32_t events)
{
	struct terminal *t = arg;
	char buf[sizeof(t->held) / 2]; /* filtering may double a byte */
	bool quit = false;
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 ||
		t->held_at < t->held_len) { /* gone; while something is held, only that is told */
		loop_del(t->loop, &t->keys);
		return;
	}
	t->held_at = 0;
	t->held_len = filter(t, buf, (size_t)n, t->held, &quit);
	if (t->held_len)
		pass_on(t);
	if (quit)
		t->quit(t->arg);
}

int terminal_open(struct terminal **out, struct loop *loop, void (*quit)(void *arg), void *arg)
{
	struct terminal *t = calloc(1, sizeof(*t));
	int ends[2], rc;

	if (!t || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(t);
		return failno(errno, "terminal");
	}
	*t = (struct terminal){
		.loop = loop, .in = ends[0], .out = ends[1], .quit = quit, .arg = arg};
	t->keys = WATCH_INIT(keys_ready, t);
	t->room = WATCH_INIT(room_ready, t);
	rc = loop_add(loop, &t->keys, STDIN_FILENO, EPOLLIN);
	if (!rc)
		rc = loop_add(loop, &t->room, t->out, 0);
	rc = rc < 0 ? failno(-rc, "terminal") : make_raw();
	if (rc < 0)
		terminal_close(t);
	else
		*out = t;
	return rc;
}

int terminal_input(const struct terminal *t)
{
	return t->in;
}

void terminal_close(struct terminal *t)
{
	if (!t)
		return;
	restore();
	loop_del(t->loop, &t->keys);
	loop_del(t->loop, &t->room);
	close(t->in);
	close(t->out);
	free(t);
}
