// SPDX-License-Identifier: MIT
// The host's end of a session with a guest's init.
//
// The session goes through the states below. Each frame from the guest is allowed in some of them
// (`handlers`); another, and any that breaks the credit given, ends the session with a text that
// names it. What is to be said to the guest is kept as state and becomes frames when the queue has
// room (queue_state), so that a guest that reads nothing makes nothing grow.
//
// Every callback from the loop does its work and ends with settle(), which sends, asks for the
// events now of interest, and reports the end; the session may be gone when it returns.
//
// What a jail forbids later (opening, fstat, signal) is done by session_create; from then on only
// read, write, poll, recv, send, epoll_ctl, close and malloc's mmap are needed.
#include "base/fd.h"
#include "base/log.h"
#include "cli/session_state.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

static int closed_early(const struct session *s)
{
	size_t cut = proto_reader_partial(&s->reader);

	if (cut)
		return fail(
			EPROTO, "guest's init closed the connection %zu bytes into a frame", cut);
	return fail(ECONNRESET, "guest's init closed the connection %s",
		s->state == GREETING   ? "without a word"
		: s->state == STARTING ? "before the command was started"
				       : "before the command ended");
}

/* Takes what has arrived. -EAGAIN: nothing. */
static int receive(struct session *s)
{
	size_t room;
	uint8_t *space = proto_reader_space(&s->reader, &room);
	ssize_t n = recv(s->connection, space, room, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n < 0 && errno != ECONNRESET)
		return failno(errno, "connection to the guest's init");
	if (n <= 0)
		return closed_early(s);
	proto_reader_filled(&s->reader, (size_t)n);
	return session_take_frames(s);
}

static bool queue(struct session *s, uint16_t type, int stream, const uint32_t *number)
{
	uint8_t payload[PROTO_U32_SIZE];
	struct proto_frame f = {.type = type, .stream = (uint8_t)stream, .payload = payload};

	if (number) {
		proto_put_u32(payload, *number);
		f.length = sizeof(payload);
	}
	return proto_writer_put(&s->writer, &f);
}

/* Queues the request's next piece. True when all of it is queued. */
static bool queue_request(struct session *s)
{
	struct proto_frame f = {.type = PROTO_EXEC};
	int room = proto_writer_room(&s->writer);
	size_t left = s->request_length - s->request_queued;

	if (!s->request)
		return true;
	if (room <= 0)
		return false;
	f.length = (uint32_t)MIN(left, (size_t)room);
	f.flags = f.length < left ? PROTO_MORE : 0;
	f.payload = s->request + s->request_queued;
	proto_writer_put(&s->writer, &f);
	s->request_queued += f.length;
	if (f.flags & PROTO_MORE)
		return false;
	free(steal_ptr(&s->request));
	return true;
}

static void queue_output_state(struct session *s, int i)
{
	struct session_output *o = &s->outputs[i];

	if (o->close_due && queue(s, PROTO_CLOSE, PROTO_STDOUT + i, NULL))
		o->close_due = false;
	if (o->eof || o->closed || o->sink.written < PROTO_WINDOW / 2)
		return;
	if (!queue(s, PROTO_CREDIT, PROTO_STDOUT + i, &o->sink.written))
		return;
	o->window += o->sink.written;
	o->sink.written = 0;
}

static void queue_signals(struct session *s)
{
	while (s->signals && s->state == RUNNING) {
		uint32_t number = (uint32_t)__builtin_ctzll(s->signals) + 1;

		if (!queue(s, PROTO_SIGNAL, 0, &number))
			return;
		s->signals &= s->signals - 1;
	}
}

/* Turns what the guest must be told into frames, as far as there is room. */
static void queue_state(struct session *s)
{
	if (!queue_request(s))
		return;
	queue_output_state(s, 0);
	queue_output_state(s, 1);
	queue_signals(s);
	if (s->eof_due && queue(s, PROTO_EOF, PROTO_STDIN, NULL))
		s->eof_due = false;
}

static size_t input_room(const struct session *s)
{
	int room = s->request ? 0 : proto_writer_room(&s->writer);

	if (s->input.fd < 0 || s->state != RUNNING || room < PIPE_BUF)
		return 0;
	return MIN((size_t)room, s->credit);
}

/* Makes a frame of one read of stdin. False when there is no more to be had now. */
static bool read_input(struct session *s, size_t room)
{
	struct proto_frame f = {.type = PROTO_DATA, .stream = PROTO_STDIN};
	ssize_t n = source_read(&s->input, proto_writer_payload(&s->writer), room);

	if (n == -EAGAIN)
		return false;
	if (n < 0)
		log_error("stdin: %s", strerror((int)-n));
	if (n <= 0) {
		source_close(&s->input);
		s->eof_due = true;
		return false;
	}
	f.length = (uint32_t)n;
	proto_writer_commit(&s->writer, &f);
	s->credit -= (uint32_t)n;
	return true;
}

static int flush(struct session *s)
{
	const uint8_t *bytes;
	size_t length;
	ssize_t n;

	for (;;) {
		bytes = proto_writer_pending(&s->writer, &length);
		if (!length)
			return 0;
		n = send(s->connection, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return 0;
		s->deaf = n < 0 && (errno == EPIPE || errno == ECONNRESET);
		if (s->deaf)
			return 0;
		if (n < 0 && errno != EINTR)
			return failno(errno, "connection to the guest's init");
		if (n > 0)
			proto_writer_sent(&s->writer, (size_t)n);
	}
}

/* A file is never waited for: read while the guest takes it and the connection does. */
static int pump(struct session *s)
{
	size_t room, pending;
	int rc;

	do {
		queue_state(s);
		room = source_is_file(&s->input) ? input_room(s) : 0;
		if (room && !read_input(s, room))
			queue_state(s);
		rc = flush(s);
		proto_writer_pending(&s->writer, &pending);
	} while (!rc && !pending && (s->request || (room && s->input.fd >= 0) || s->eof_due));
	return rc;
}

static int ask_events(struct session *s)
{
	uint32_t events = EPOLLIN;
	size_t pending;

	source_want(&s->input, input_room(s) > 0);
	proto_writer_pending(&s->writer, &pending);
	if (pending)
		events |= EPOLLOUT;
	if (events == s->events)
		return 0;
	s->events = events;
	return loop_mod(s->o.loop, &s->watch, events);
}

/* A guest that hears no more may still have told the command's end, or has gone. */
static int last_words(struct session *s)
{
	int rc = 0;

	while (!rc && s->state < DRAINING)
		rc = receive(s);
	if (rc == -EAGAIN)
		return fail(EPROTO, "guest's init shut down its half of the connection");
	return rc;
}

/* Calls `ended`; nothing of the session is touched after it. */
static void end(struct session *s)
{
	s->state = OVER;
	loop_disarm(s->o.loop, &s->timer);
	loop_del(s->o.loop, &s->watch);
	source_close(&s->input);
	sink_close(&s->outputs[0].sink);
	sink_close(&s->outputs[1].sink);
	s->o.ended(s->o.arg, &s->result);
}

static void end_with(struct session *s, int status, const char *text)
{
	s->result.status = status;
	s->result.exited = false;
	snprintf(s->result.text, sizeof(s->result.text), "%s", text);
	end(s);
}

/* The command has ended: the guest has no more to say, only our own readers can keep us. */
static void drain(struct session *s)
{
	loop_disarm(s->o.loop, &s->timer);
	loop_del(s->o.loop, &s->watch);
	source_close(&s->input);
	if (sink_idle(&s->outputs[0].sink) && sink_idle(&s->outputs[1].sink))
		end(s);
}

/* The last thing every callback does. */
static void settle(struct session *s, int rc)
{
	if (s->state == BOOTING)
		return;
	if (!rc && s->state < DRAINING)
		rc = pump(s);
	if (!rc && s->deaf)
		rc = last_words(s);
	if (!rc && s->state < DRAINING)
		rc = ask_events(s);
	if (rc)
		end_with(s, 125, last_error());
	else if (s->state == DRAINING)
		drain(s);
}

static void connection_ready(void *arg, uint32_t events)
{
	struct session *s = arg;

	int rc = events & ~(uint32_t)EPOLLOUT ? receive(s) : 0;

	settle(s, rc == -EAGAIN ? 0 : rc);
}

static void output_changed(struct session *s, struct session_output *o, int error)
{
	if (error)
		session_close_output(o, error);
	settle(s, 0);
}

static void stdout_changed(void *arg, int error)
{
	struct session *s = arg;

	output_changed(s, &s->outputs[0], error);
}

static void stderr_changed(void *arg, int error)
{
	struct session *s = arg;

	output_changed(s, &s->outputs[1], error);
}

static void input_ready(void *arg)
{
	struct session *s = arg;
	size_t room = input_room(s);

	if (room)
		read_input(s, room);
	settle(s, 0);
}

static void timed_out(void *arg)
{
	struct session *s = arg;
	uint64_t ns = s->state == RUNNING ? s->o.run_timeout_ns : s->o.start_timeout_ns;
	char text[128];

	snprintf(text, sizeof(text), "%s within %.3g s",
		s->state == RUNNING    ? "the command did not end"
		: s->state == BOOTING  ? "guest's init did not connect"
		: s->state == STARTING ? "guest's init did not start the command"
				       : "guest's init connected and said nothing",
		(double)ns / 1e9);
	end_with(s, s->state == RUNNING ? 124 : 125, text);
}

static int encode_request(struct session *s)
{
	struct proto_request q = *s->o.request;

	if (s->o.stdin_fd >= 0)
		q.flags |= PROTO_EXEC_STDIN;
	s->request_length = proto_request_size(&q);
	if (s->request_length > PROTO_REQUEST_MAX)
		return fail(E2BIG,
			"command, arguments and environment are %zu bytes; %u are allowed",
			s->request_length, PROTO_REQUEST_MAX);
	s->request = malloc(s->request_length);
	if (!s->request)
		return failno(ENOMEM, "request to the guest's init");
	proto_request_put(s->request, &q);
	return 0;
}

static int open_output(struct session *s, int i, int fd)
{
	struct session_output *o = &s->outputs[i];

	o->name = i ? "stderr" : "stdout";
	o->sink.loop = s->o.loop;
	o->sink.limit = PROTO_WINDOW;
	o->sink.written = PROTO_WINDOW; /* the first credit */
	o->sink.changed = i ? stderr_changed : stdout_changed;
	o->sink.arg = s;
	return sink_open(&o->sink, fd);
}

static int open_all(struct session *s)
{
	int rc = encode_request(s);

	s->input = (struct source){.loop = s->o.loop, .fd = -1, .ready = input_ready, .arg = s};
	if (!rc && s->o.stdin_fd >= 0)
		rc = source_open(&s->input, s->o.stdin_fd);
	if (!rc)
		rc = open_output(s, 0, s->o.stdout_fd);
	if (!rc)
		rc = open_output(s, 1, s->o.stderr_fd);
	return rc;
}

int session_create(struct session **out, const struct session_options *o)
{
	struct session *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return failno(ENOMEM, "session with the guest's init");
	s->o = *o;
	s->state = BOOTING;
	s->connection = -1;
	s->watch = WATCH_INIT(connection_ready, s);
	s->timer = TIMER_INIT(timed_out, s);
	s->input.fd = s->outputs[0].sink.fd = s->outputs[1].sink.fd = -1;
	proto_reader_init(&s->reader, s->in, sizeof(s->in));
	proto_writer_init(&s->writer, s->out, sizeof(s->out));
	signal(SIGPIPE, SIG_IGN);
	rc = open_all(s);
	if (rc) {
		session_destroy(s);
		return rc;
	}
	if (o->start_timeout_ns)
		loop_arm(o->loop, &s->timer, o->start_timeout_ns);
	*out = s;
	return 0;
}

int session_attach(struct session *s, int connection)
{
	int rc;

	if (s->state != BOOTING) {
		close(connection);
		return fail(EBUSY, "guest's init has connected twice");
	}
	s->events = EPOLLIN;
	rc = loop_add(s->o.loop, &s->watch, connection, s->events);
	if (rc) {
		close(connection);
		return rc;
	}
	s->connection = connection;
	s->state = GREETING;
	rc = pump(s); /* the request goes out now; a guest that has gone is found by the loop */
	return rc ? rc : ask_events(s);
}

void session_signal(struct session *s, int number)
{
	if (number < 1 || number > 64 || s->state >= DRAINING)
		return;
	s->signals |= 1ull << (number - 1);
	if (s->state != RUNNING)
		return;
	/* Not sent from here: this may be a callback of ours, and sending may find the session's
	 * end. */
	s->events = EPOLLIN | EPOLLOUT;
	loop_mod(s->o.loop, &s->watch, s->events);
}

void session_destroy(struct session *s)
{
	if (!s)
		return;
	loop_disarm(s->o.loop, &s->timer);
	loop_del(s->o.loop, &s->watch);
	source_close(&s->input);
	sink_close(&s->outputs[0].sink);
	sink_close(&s->outputs[1].sink);
	if (s->connection >= 0)
		close(s->connection);
	free(s->request);
	free(s);
}
