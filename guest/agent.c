// SPDX-License-Identifier: MIT
// The guest's end of a session.
//
// One thread, one poll over at most six descriptors: the connection, the command's three pipes and
// SIGCHLD. poll and not epoll, since what is waited for changes with every bit of back-pressure and
// is cheaper to say anew than to keep registered.
//
// Everything that is to be said beside the streams' bytes (credit, ends, the result) is state that
// queue_state turns into frames whenever the queue has room. So the queue is bounded, no frame is
// ever lost for lack of room, and the order comes out right: the end of a stream is queued behind
// its bytes, the result behind the ends of both streams.
#include "guest/agent.h"

#include "guest/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int agent_init(struct agent *a, int socket, int null)
{
	sigset_t set;

	memset(a, 0, offsetof(struct agent, in));
	a->socket = socket;
	a->null = null;
	a->input.fd = a->output[0].fd = a->output[1].fd = -1;
	ring_init(&a->input.ring, a->pending, sizeof(a->pending));
	proto_reader_init(&a->reader, a->in, sizeof(a->in));
	proto_writer_init(&a->writer, a->out, sizeof(a->out));
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	a->children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return a->children < 0 ? -errno : 0;
}

void agent_finish(struct agent *a)
{
	close_fd(&a->children);
	close_fd(&a->input.fd);
	close_fd(&a->output[0].fd);
	close_fd(&a->output[1].fd);
	free(a->request);
	free(a->vectors);
}

void agent_hello(struct agent *a, const struct proto_hello *h)
{
	uint8_t payload[PROTO_HELLO_SIZE];
	struct proto_frame f = {.type = PROTO_HELLO, .payload = payload};

	f.length = (uint32_t)proto_put_hello(payload, h);
	proto_writer_put(&a->writer, &f);
}

void agent_trouble(struct agent *a, const struct proto_error *e)
{
	uint8_t payload[PROTO_ERROR_SIZE];
	struct proto_frame f = {.type = PROTO_ERROR, .flags = PROTO_OPTIONAL, .payload = payload};

	f.length = (uint32_t)proto_put_error(payload, e);
	proto_writer_put(&a->writer, &f);
}

/* Sends what is queued, as far as the connection takes it now. */
static int flush(struct agent *a)
{
	const uint8_t *bytes;
	size_t length;
	ssize_t n;

	for (;;) {
		bytes = proto_writer_pending(&a->writer, &length);
		if (!length)
			return 0;
		n = send(a->socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			proto_writer_sent(&a->writer, (size_t)n);
	}
}

/* Takes what has arrived. -EAGAIN: nothing; -ECONNRESET: the host has closed. */
static int receive(struct agent *a, int flags)
{
	size_t room;
	uint8_t *space = proto_reader_space(&a->reader, &room);
	ssize_t n = recv(a->socket, space, room, flags);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (!n)
		return -ECONNRESET;
	proto_reader_filled(&a->reader, (size_t)n);
	return 0;
}

/* The next frame, waited for. Only before the command runs, when there is nothing else to do. */
static int wait_frame(struct agent *a, struct proto_frame *f)
{
	int rc = flush(a);

	while (!rc) {
		rc = proto_reader_next(&a->reader, f);
		if (rc)
			return rc < 0 ? -EPROTO : 0;
		rc = receive(a, 0);
		if (rc == -EAGAIN)
			rc = 0;
	}
	return rc;
}

/* Joins the pieces of a request in a->request. Returns its length or -errno. */
static ssize_t collect_request(struct agent *a)
{
	struct proto_frame f;
	size_t length = 0;
	uint8_t *grown;
	int rc;

	do {
		rc = wait_frame(a, &f);
		if (rc)
			return rc;
		if (f.type != PROTO_EXEC || length + f.length > PROTO_REQUEST_MAX)
			return -EPROTO;
		grown = realloc(a->request, length + f.length + 1);
		if (!grown)
			return -ENOMEM;
		a->request = grown;
		memcpy(grown + length, f.payload, f.length);
		length += f.length;
	} while (f.flags & PROTO_MORE);
	return (ssize_t)length;
}

int agent_request(struct agent *a, struct proto_request *q)
{
	ssize_t length = collect_request(a);
	size_t pointers;
	int rc;

	if (length < 0)
		return (int)length;
	rc = proto_request_check(a->request, (size_t)length, &pointers);
	if (rc)
		return rc;
	a->vectors = calloc(pointers, sizeof(*a->vectors));
	if (!a->vectors)
		return -ENOMEM;
	proto_request_get(a->request, (size_t)length, a->vectors, q);
	return 0;
}

static bool queue(struct agent *a, uint16_t type, int stream, const uint8_t *payload, size_t length)
{
	struct proto_frame f = {.type = type,
		.stream = (uint8_t)stream,
		.length = (uint32_t)length,
		.payload = payload};

	return proto_writer_put(&a->writer, &f);
}

static bool queue_credit(struct agent *a)
{
	uint8_t payload[PROTO_U32_SIZE];

	proto_put_u32(payload, a->input.written);
	if (!queue(a, PROTO_CREDIT, PROTO_STDIN, payload, sizeof(payload)))
		return false;
	a->input.window += a->input.written;
	a->input.written = 0;
	return true;
}

static bool queue_exit(struct agent *a)
{
	uint8_t payload[PROTO_EXIT_SIZE];

	if (a->leave)
		a->leave();
	a->result.at_ns = clock_ns();
	return queue(a, PROTO_EXIT, 0, payload, proto_put_exit(payload, &a->result));
}

/* Turns what the host must be told into frames, as far as there is room. */
static void queue_state(struct agent *a)
{
	bool done = true;

	if (a->input.close_due && queue(a, PROTO_CLOSE, PROTO_STDIN, NULL, 0))
		a->input.close_due = false;
	if (a->input.fd >= 0 && a->input.written >= PROTO_WINDOW / 2)
		queue_credit(a);
	for (int i = 0; i < 2; i++) {
		struct output *o = &a->output[i];

		if (o->eof_due && queue(a, PROTO_EOF, PROTO_STDOUT + i, NULL, 0))
			o->eof_due = false;
		done = done && o->fd < 0 && !o->eof_due;
	}
	if (done && a->exit_due && queue_exit(a)) {
		a->exit_due = false;
		a->over = true;
	}
}

static int take_data(struct agent *a, const struct proto_frame *f)
{
	if (f->stream != PROTO_STDIN || a->input.eof || f->length > a->input.window)
		return -EPROTO;
	a->input.window -= f->length;
	input_take(&a->input, f->payload, f->length);
	return 0;
}

static int take_eof(struct agent *a, const struct proto_frame *f)
{
	if (f->stream != PROTO_STDIN || a->input.eof)
		return -EPROTO;
	a->input.eof = true;
	input_pump(&a->input);
	return 0;
}

/* The command's next write gets EPIPE, as in a pipe whose reader has gone. */
static int take_close(struct agent *a, const struct proto_frame *f)
{
	if (f->stream == PROTO_STDIN)
		return -EPROTO;
	close_fd(&a->output[f->stream - PROTO_STDOUT].fd);
	return 0;
}

static int take_credit(struct agent *a, const struct proto_frame *f)
{
	struct output *o;
	uint32_t credit;

	if (f->stream == PROTO_STDIN || proto_get_u32(f, &credit))
		return -EPROTO;
	o = &a->output[f->stream - PROTO_STDOUT];
	if (credit > PROTO_CREDIT_MAX - o->credit)
		return -EPROTO;
	o->credit += credit;
	return 0;
}

static int take_signal(struct agent *a, const struct proto_frame *f)
{
	uint32_t number;

	if (proto_get_u32(f, &number) || !number || number > 64)
		return -EPROTO;
	if (a->pid)
		kill(-a->pid, (int)number);
	return 0;
}

static int take_frame(struct agent *a, const struct proto_frame *f)
{
	switch (f->type) {
	case PROTO_DATA:
		return take_data(a, f);
	case PROTO_EOF:
		return take_eof(a, f);
	case PROTO_CLOSE:
		return take_close(a, f);
	case PROTO_CREDIT:
		return take_credit(a, f);
	case PROTO_SIGNAL:
		return take_signal(a, f);
	default:
		return f->flags & PROTO_OPTIONAL ? 0 : -EPROTO;
	}
}

static int take_frames(struct agent *a)
{
	struct proto_frame f;
	int rc;

	while ((rc = proto_reader_next(&a->reader, &f)) > 0) {
		rc = take_frame(a, &f);
		if (rc)
			return rc;
	}
	return rc ? -EPROTO : 0;
}

/*
 * The command has ended. What its pipes hold now is its output and is forwarded; a process that it
 * left behind may keep them open for ever and gets no further hearing.
 */
static void command_ended(struct agent *a, int status, const struct rusage *u)
{
	a->pid = 0;
	a->exit_due = true;
	a->result = (struct proto_exit){
		.code = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0,
		.signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0,
		.user_us = (uint64_t)u->ru_utime.tv_sec * 1000000u + (uint64_t)u->ru_utime.tv_usec,
		.system_us =
			(uint64_t)u->ru_stime.tv_sec * 1000000u + (uint64_t)u->ru_stime.tv_usec,
		.maxrss_kib = (uint64_t)u->ru_maxrss};
	input_end(&a->input, false);
	output_limit(&a->output[0]);
	output_limit(&a->output[1]);
}

/* Waits for every child that has ended: as process 1, orphans are ours too. */
static void reap(struct agent *a)
{
	struct signalfd_siginfo discarded;
	struct rusage usage;
	int status;
	pid_t pid;

	if (read(a->children, &discarded, sizeof(discarded)) < 0)
		return;
	while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0)
		if (pid == a->pid)
			command_ended(a, status, &usage);
}

enum { SLOT_SOCKET, SLOT_CHILDREN, SLOT_STDIN, SLOT_STDOUT, SLOT_STDERR, SLOTS };

static int output_fd(const struct agent *a, int stream)
{
	const struct output *o = &a->output[stream - PROTO_STDOUT];

	/* A pipe not listened to is left out: its hang-up would be reported again and again. */
	return o->credit && proto_writer_room(&a->writer) >= OUTPUT_MIN_ROOM ? o->fd : -1;
}

static int wait_events(struct agent *a, struct pollfd p[SLOTS])
{
	size_t queued;

	proto_writer_pending(&a->writer, &queued);
	p[SLOT_SOCKET] = (struct pollfd){a->socket, POLLIN, 0};
	if (queued)
		p[SLOT_SOCKET].events |= POLLOUT;
	p[SLOT_CHILDREN] = (struct pollfd){a->children, POLLIN, 0};
	p[SLOT_STDIN] = (struct pollfd){a->input.fd, a->input.ring.used ? POLLOUT : 0, 0};
	p[SLOT_STDOUT] = (struct pollfd){output_fd(a, PROTO_STDOUT), POLLIN, 0};
	p[SLOT_STDERR] = (struct pollfd){output_fd(a, PROTO_STDERR), POLLIN, 0};
	return poll(p, SLOTS, -1) < 0 && errno != EINTR ? -errno : 0;
}

static int handle_events(struct agent *a, const struct pollfd p[SLOTS])
{
	int rc = 0;

	if (p[SLOT_SOCKET].revents & ~POLLOUT)
		rc = receive(a, MSG_DONTWAIT);
	if (!rc)
		rc = take_frames(a);
	if (rc && rc != -EAGAIN)
		return rc;
	if (p[SLOT_STDIN].revents & POLLERR)
		input_end(&a->input, true);
	else if (p[SLOT_STDIN].revents)
		input_pump(&a->input);
	/* stderr first and little of it, so that neither starves the other. */
	if (p[SLOT_STDERR].revents && a->output[1].fd >= 0)
		output_pump(&a->output[1], PROTO_STDERR, &a->writer, 1);
	if (p[SLOT_STDOUT].revents && a->output[0].fd >= 0)
		output_pump(&a->output[0], PROTO_STDOUT, &a->writer, 3);
	if (p[SLOT_CHILDREN].revents)
		reap(a);
	return 0;
}

/* Until the host closes, or breaks the protocol. */
static int serve(struct agent *a)
{
	struct pollfd p[SLOTS];
	int rc = take_frames(a); /* what came behind the request */

	while (!rc) {
		queue_state(a);
		rc = flush(a);
		if (!rc)
			rc = wait_events(a, p);
		if (!rc)
			rc = handle_events(a, p);
	}
	if (rc == -EPIPE)
		rc = -ECONNRESET;
	return rc == -ECONNRESET && a->over ? 0 : rc;
}

/* A pipe of which `ours` (0: the reading end) does not block. */
static int make_pipe(int ours, int *our_fd, int *other)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	*our_fd = fds[ours];
	*other = fds[!ours];
	return fcntl(fds[ours], F_SETFL, O_NONBLOCK) ? -errno : 0;
}

static int make_pipes(struct agent *a, const struct proto_request *q, int others[PROTO_STREAMS])
{
	int rc = 0;

	others[PROTO_STDIN] = a->null;
	if (q->flags & PROTO_EXEC_STDIN)
		rc = make_pipe(1, &a->input.fd, &others[PROTO_STDIN]);
	for (int i = 0; i < 2 && !rc; i++) {
		a->output[i].left = OUTPUT_NO_LIMIT;
		rc = make_pipe(0, &a->output[i].fd, &others[PROTO_STDOUT + i]);
	}
	return rc;
}

static void report_start(struct agent *a)
{
	struct proto_started s = {.pid = (uint32_t)a->pid, .at_ns = clock_ns()};
	uint8_t payload[PROTO_STARTED_SIZE];

	queue(a, PROTO_STARTED, 0, payload, proto_put_started(payload, &s));
	if (a->input.fd < 0)
		return;
	a->input.written = PROTO_WINDOW;
	queue_credit(a);
}

static void report_failure(struct agent *a, const struct spawn *s)
{
	const char *what = s->step == PROTO_STEP_CWD ? s->request->cwd : s->request->argv[0];
	struct proto_error e = {.error = (uint16_t)s->error,
		.step = (uint16_t)s->step,
		.text = what,
		.length = strlen(what)};
	uint8_t payload[PROTO_ERROR_SIZE];

	queue(a, PROTO_SPAWN_FAILED, 0, payload, proto_put_error(payload, &e));
	close_fd(&a->input.fd);
	close_fd(&a->output[0].fd);
	close_fd(&a->output[1].fd);
	a->over = true;
}

int agent_run(struct agent *a, const struct proto_request *q)
{
	struct spawn s = {.request = q, .fds = {-1, -1, -1}};
	pid_t pid = -1;

	s.step = PROTO_STEP_RESOURCES;
	s.error = -make_pipes(a, q, s.fds);
	if (!s.error)
		pid = spawn_start(&s);
	for (int i = 0; i < PROTO_STREAMS; i++)
		if (s.fds[i] >= 0 && s.fds[i] != a->null)
			close(s.fds[i]);
	if (pid > 0) {
		a->pid = pid;
		report_start(a);
	} else {
		report_failure(a, &s);
	}
	return serve(a);
}
