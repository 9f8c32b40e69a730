// SPDX-License-Identifier: MIT
// A session from end to end without a guest: cli/session.c on a loop against guest/agent.c in a
// child process, and against peers that break the protocol.
#include "test.h"

#include "base/fd.h"
#include "base/loop.h"
#include "base/util.h"
#include "cli/session.h"
#include "guest/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* One session, and what came of it. */
struct run {
	struct loop *loop;
	struct session *session;
	int peer;  /* our end of a scripted guest; -1: the agent is the guest */
	pid_t pid; /* of the agent's process */
	int in, out, err;
	struct session_result result;
	bool started, ended;
	int signal; /* to be sent once started */
	uint64_t start_timeout_ns, run_timeout_ns;
	const char *cwd, *hostname;
};

static struct agent agent;

static _Noreturn void be_the_agent(int socket)
{
	struct proto_hello hello = {.version = PROTO_VERSION, .stage_ns = {1, 2, 3}};
	struct proto_request q;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int rc = agent_init(&agent, socket, null);

	agent_hello(&agent, &hello);
	if (!rc)
		rc = agent_request(&agent, &q);
	if (!rc)
		rc = agent_run(&agent, &q);
	agent_finish(&agent);
	_exit(rc ? 1 : 0);
}

static void on_started(void *arg, const struct session_times *t)
{
	struct run *r = arg;

	r->started = true;
	if (r->pid)
		assert_true(t->stage_ns[PROTO_STAGE_CONNECTED] == 3 && t->started_ns > 3);
	if (r->signal)
		session_signal(r->session, r->signal);
}

static void on_ended(void *arg, const struct session_result *result)
{
	struct run *r = arg;

	assert_false(r->ended);
	r->ended = true;
	r->result = *result;
	session_destroy(r->session);
	loop_stop(r->loop);
}

static int memory_file(void)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void prepare(struct run *r)
{
	*r = (struct run){.peer = -1, .in = -1, .out = memory_file(), .err = memory_file()};
	assert_int_equal(loop_create(&r->loop, "test"), 0);
}

/* Creates the session and connects it; `agent_too`: to an agent, else to r->peer. */
static void start(struct run *r, char **argv, bool agent_too)
{
	static char variable[] = "KVICK_TEST=a b";
	char *envp[] = {variable, NULL};
	struct proto_request q = {
		.argv = argv, .envp = envp, .cwd = r->cwd, .hostname = r->hostname};
	struct session_options o = {.loop = r->loop,
		.stdin_fd = r->in,
		.stdout_fd = r->out,
		.stderr_fd = r->err,
		.request = &q,
		.start_timeout_ns = r->start_timeout_ns,
		.run_timeout_ns = r->run_timeout_ns,
		.started = on_started,
		.ended = on_ended,
		.arg = r};
	int pair[2];

	assert_int_equal(session_create(&r->session, &o), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	if (agent_too) {
		r->pid = fork();
		assert_true(r->pid >= 0);
		if (!r->pid) {
			close(pair[0]);
			be_the_agent(pair[1]);
		}
		close(pair[1]);
	} else {
		r->peer = pair[1];
	}
	assert_int_equal(session_attach(r->session, pair[0]), 0);
}

static void finish(struct run *r)
{
	int status = 0;

	assert_int_equal(loop_run(r->loop), 0);
	assert_true(r->ended);
	if (r->pid) {
		assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
		/* The agent saw a clean end wherever the host did. */
		if (r->result.exited || r->result.status == 127)
			assert_int_equal(status, 0);
	}
	if (r->peer >= 0)
		close(r->peer);
	loop_destroy(r->loop);
}

static void put_away(struct run *r)
{
	close(r->out);
	close(r->err);
	if (r->in >= 0)
		close(r->in);
}

static void run_argv(struct run *r, char **argv)
{
	start(r, argv, true);
	finish(r);
}

static void run_shell(struct run *r, const char *script)
{
	char sh[] = "/bin/sh", c[] = "-c", *copy = strdup(script);
	char *argv[] = {sh, c, copy, NULL};

	run_argv(r, argv);
	free(copy);
}

static void run_one(struct run *r, const char *name)
{
	char *copy = strdup(name), *argv[] = {copy, NULL};

	run_argv(r, argv);
	free(copy);
}

static void expect_content(int fd, const char *text)
{
	char have[256] = "";

	assert_true(pread(fd, have, sizeof(have) - 1, 0) >= 0);
	assert_string_equal(have, text);
}

static void status_is_the_commands(void **state)
{
	struct run r;

	prepare(&r);
	run_shell(&r, "echo out; echo err >&2; echo $KVICK_TEST $HOME; exit 7");
	assert_int_equal(r.result.status, 7);
	assert_true(r.result.exited && r.started);
	assert_int_equal(r.result.exit.code, 7);
	assert_true(r.result.exit.maxrss_kib > 0 && r.result.exit.at_ns > 0);
	assert_string_equal(r.result.text, "");
	expect_content(r.out, "out\na b /root\n");
	expect_content(r.err, "err\n");
	put_away(&r);
}

static void killed_by_a_signal(void **state)
{
	struct run r;

	prepare(&r);
	run_shell(&r, "kill -9 $$");
	assert_int_equal(r.result.status, 137);
	assert_int_equal(r.result.exit.signal, 9);
	put_away(&r);
}

static void signals_reach_the_whole_group(void **state)
{
	struct run r;

	prepare(&r);
	r.signal = SIGTERM;
	run_shell(&r, "cat /dev/zero > /dev/null | sleep 1000");
	assert_int_equal(r.result.status, 128 + SIGTERM);
	put_away(&r);
}

static void commands_that_cannot_run(void **state)
{
	static const struct {
		const char *name, *text;
		int status;
	} cases[] = {
		{"/nonexistent", "command /nonexistent: not found in the guest", 127},
		{"no-such-command", "command no-such-command: not found in the guest", 127},
		{"/etc/passwd/x", "command /etc/passwd/x: Not a directory", 127},
		{"/etc/passwd", "command /etc/passwd: Permission denied", 126},
		{"/usr", "command /usr: Permission denied", 126},
		{"", "command : not found in the guest", 127},
	};
	struct run r;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		prepare(&r);
		run_one(&r, cases[i].name);
		assert_int_equal(r.result.status, cases[i].status);
		assert_string_equal(r.result.text, cases[i].text);
		assert_false(r.result.exited);
		put_away(&r);
	}
}

static void run_file(struct run *r, const char *content, char path[32])
{
	int fd;

	strcpy(path, "/tmp/kvick-test-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, content, strlen(content)), 0);
	assert_int_equal(fchmod(fd, 0755), 0);
	close(fd);
	prepare(r);
	run_one(r, path);
	unlink(path);
}

static void scripts_run_as_in_a_shell(void **state)
{
	struct run r;
	char path[32];

	run_file(&r, "echo plain $0; exit 3\n", path);
	assert_int_equal(r.result.status, 3);
	put_away(&r);
	run_file(&r, "#!/no/such/interpreter\n", path);
	assert_int_equal(r.result.status, 127);
	assert_non_null(
		strstr(r.result.text, "its interpreter or dynamic loader is not in the guest"));
	put_away(&r);
}

static void working_directory(void **state)
{
	struct run r;

	prepare(&r);
	r.cwd = "/usr/bin";
	run_one(&r, "pwd");
	assert_int_equal(r.result.status, 0);
	expect_content(r.out, "/usr/bin\n");
	put_away(&r);
	prepare(&r);
	r.cwd = "/no/such";
	run_one(&r, "pwd");
	assert_int_equal(r.result.status, 125);
	assert_string_equal(r.result.text, "working directory /no/such: No such file or directory");
	put_away(&r);
}

/* Pseudo-random, so that no block equals another. */
static void fill(uint8_t *p, size_t n)
{
	uint64_t x = 88172645463325252ull;

	for (size_t i = 0; i + 8 <= n; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, &x, 8);
	}
}

#define BIG (10u << 20)

static void expect_big(int fd)
{
	uint8_t *want = malloc(BIG), *have = malloc(BIG + 1);

	fill(want, BIG);
	assert_int_equal(fd_pread_full(fd, have, BIG + 1, 0), BIG);
	assert_memory_equal(want, have, BIG);
	free(want);
	free(have);
}

static int big_file(void)
{
	uint8_t *bytes = malloc(BIG);
	int fd = memory_file();

	fill(bytes, BIG);
	assert_int_equal(fd_write_full(fd, bytes, BIG), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	free(bytes);
	return fd;
}

static void binary_data_both_ways_through_files(void **state)
{
	struct run r;

	prepare(&r);
	r.in = big_file();
	run_one(&r, "cat");
	assert_int_equal(r.result.status, 0);
	expect_big(r.out);
	put_away(&r);
}

static pid_t fork_cat(int from, int to, int other)
{
	pid_t pid = fork();
	char buffer[5000]; /* odd, and slow */
	ssize_t n;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	close(other);
	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		if (fd_write_full(to, buffer, (size_t)n))
			_exit(1);
	_exit(0);
}

static void binary_data_both_ways_through_pipes(void **state)
{
	int file = big_file(), in[2], out[2], copy = memory_file(), status;
	pid_t feeder, reader;
	struct run r;

	prepare(&r);
	assert_int_equal(pipe2(in, O_CLOEXEC) + pipe2(out, O_CLOEXEC), 0);
	feeder = fork_cat(file, in[1], out[1]);
	close(in[1]); /* before the next fork: its copy would keep the pipe open */
	reader = fork_cat(out[0], copy, out[1]);
	close(out[0]);
	close(r.out);
	r.in = in[0];
	r.out = out[1];
	run_one(&r, "cat");
	assert_int_equal(r.result.status, 0);
	/* What the pipes are shared with must not find them non-blocking. */
	assert_false(fcntl(r.in, F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(r.out, F_GETFL) & O_NONBLOCK);
	put_away(&r);
	assert_int_equal(waitpid(feeder, &status, 0), feeder);
	assert_int_equal(status, 0);
	assert_int_equal(waitpid(reader, &status, 0), reader);
	assert_int_equal(status, 0);
	expect_big(copy);
	close(copy);
	close(file);
}

static void stdin_is_empty_where_not_forwarded(void **state)
{
	struct run r;

	prepare(&r);
	run_shell(&r, "cat; echo end");
	expect_content(r.out, "end\n");
	put_away(&r);
}

static void stdin_that_nobody_reads(void **state)
{
	struct run r;

	prepare(&r);
	r.in = big_file();
	run_shell(&r, "exec <&-; exec sh -c 'exit 4'");
	assert_int_equal(r.result.status, 4);
	put_away(&r);
	prepare(&r);
	r.in = big_file();
	run_shell(&r, "head -c 1000 | wc -c; exit 5");
	assert_int_equal(r.result.status, 5);
	expect_content(r.out, "1000\n");
	put_away(&r);
}

static void stdout_may_be_a_socket(void **state)
{
	int out[2], copy = memory_file(), status;
	pid_t reader;
	struct run r;

	prepare(&r);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out), 0);
	reader = fork_cat(out[0], copy, out[1]);
	close(out[0]);
	close(r.out);
	r.out = out[1];
	r.in = big_file();
	run_one(&r, "cat");
	assert_int_equal(r.result.status, 0);
	assert_false(fcntl(r.out, F_GETFL) & O_NONBLOCK);
	put_away(&r);
	assert_int_equal(waitpid(reader, &status, 0), reader);
	expect_big(copy);
	close(copy);
}

/* As where stdout is another user's pipe: written in small pieces, as poll allows. */
static void stdout_that_cannot_be_opened_again(void **state)
{
	int out[2], copy = memory_file(), status;
	pid_t reader;
	struct run r;

	if (geteuid())
		skip(); /* needs another user */
	prepare(&r);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(fchmod(out[1], 0), 0);
	reader = fork_cat(out[0], copy, out[1]);
	close(out[0]);
	close(r.out);
	r.out = out[1];
	r.in = big_file();
	assert_int_equal(seteuid(65534), 0);
	run_one(&r, "cat");
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(r.result.status, 0);
	put_away(&r);
	assert_int_equal(waitpid(reader, &status, 0), reader);
	expect_big(copy);
	close(copy);
}

static void closed_stdout_ends_the_command(void **state)
{
	struct run r;
	int out[2];

	prepare(&r);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	close(out[0]);
	close(r.out);
	r.out = out[1];
	run_one(&r, "yes");
	assert_int_equal(r.result.status, 128 + SIGPIPE);
	put_away(&r);
}

static void full_disk_ends_the_command(void **state)
{
	struct run r;

	prepare(&r);
	close(r.out);
	r.out = open("/dev/full", O_WRONLY | O_CLOEXEC);
	run_one(&r, "yes");
	assert_int_equal(r.result.status, 128 + SIGPIPE);
	put_away(&r);
}

/* What a guest's end would end: the process whose number the command has written. */
static void kill_left_behind(const struct run *r)
{
	char text[32] = "";

	assert_true(pread(r->out, text, sizeof(text) - 1, 0) > 0);
	assert_int_equal(kill(atoi(text), SIGKILL), 0);
}

static void a_process_left_behind_does_not_hold_the_end(void **state)
{
	struct run r;

	prepare(&r);
	run_shell(&r, "sleep 1000 & echo $!; exit 6");
	assert_int_equal(r.result.status, 6);
	kill_left_behind(&r);
	put_away(&r);
}

/* stdout is read only when all of stderr is there: it must not be behind stdout's bytes. */
struct late_reader {
	struct loop *loop;
	struct watch err, out;
	int out_fd;
	size_t err_bytes, out_bytes;
};

#define LATE_ERR 300000
#define LATE_OUT 3000000

static void late_out(void *arg, uint32_t events)
{
	struct late_reader *l = arg;
	char buffer[999];
	ssize_t n = read(l->out.fd, buffer, sizeof(buffer));

	assert_int_equal(l->err_bytes, LATE_ERR);
	l->out_bytes += n > 0 ? (size_t)n : 0;
	if (l->out_bytes == LATE_OUT)
		loop_del(l->loop, &l->out);
}

static void late_err(void *arg, uint32_t events)
{
	struct late_reader *l = arg;
	char buffer[8192];
	ssize_t n = read(l->err.fd, buffer, sizeof(buffer));

	l->err_bytes += n > 0 ? (size_t)n : 0;
	if (l->err_bytes < LATE_ERR)
		return;
	loop_del(l->loop, &l->err);
	assert_int_equal(loop_add(l->loop, &l->out, l->out_fd, EPOLLIN), 0);
}

static void slow_stdout_does_not_hold_stderr(void **state)
{
	struct late_reader l = {0};
	int out[2], err[2];
	struct run r;

	prepare(&r);
	assert_int_equal(pipe2(out, O_CLOEXEC) + pipe2(err, O_CLOEXEC), 0);
	put_away(&r);
	r.out = out[1];
	r.err = err[1];
	l = (struct late_reader){.loop = r.loop, .out_fd = out[0]};
	l.err = WATCH_INIT(late_err, &l);
	l.out = WATCH_INIT(late_out, &l);
	assert_int_equal(loop_add(r.loop, &l.err, err[0], EPOLLIN), 0);
	run_shell(&r, "head -c 3000000 /dev/zero & head -c 300000 /dev/zero >&2; wait");
	assert_int_equal(r.result.status, 0);
	assert_int_equal(l.err_bytes, LATE_ERR);
	/* What the session wrote and the reader has not yet read is in the pipe. */
	close(out[1]);
	r.out = -1;
	for (char b[4096]; l.out_bytes < LATE_OUT;) {
		ssize_t n = read(out[0], b, sizeof(b));

		assert_true(n > 0);
		l.out_bytes += (size_t)n;
	}
	close(out[0]);
	close(err[0]);
	put_away(&r);
}

static void a_request_of_many_frames(void **state)
{
	char *argv[42], echo[] = "/bin/echo", n[] = "-n", *big = malloc(50001);
	struct run r;
	struct stat st;

	memset(big, 'q', 50000);
	big[50000] = 0;
	argv[0] = echo;
	argv[1] = n;
	for (int i = 2; i < 41; i++)
		argv[i] = big;
	argv[41] = NULL;
	prepare(&r);
	run_argv(&r, argv);
	assert_int_equal(r.result.status, 0);
	assert_int_equal(fstat(r.out, &st), 0);
	assert_int_equal(st.st_size, 39 * 50001 - 1);
	put_away(&r);
	free(big);
}

static void a_request_too_long(void **state)
{
	size_t length = PROTO_REQUEST_MAX;
	char *big = malloc(length + 1), *argv[] = {big, NULL}, *envp[] = {NULL};
	struct proto_request q = {.argv = argv, .envp = envp};
	struct session_options o = {
		.stdin_fd = -1, .stdout_fd = 1, .stderr_fd = 2, .request = &q, .ended = on_ended};
	struct session *s;

	memset(big, 'q', length);
	big[length] = 0;
	assert_int_equal(loop_create(&o.loop, "test"), 0);
	assert_int_equal(session_create(&s, &o), -E2BIG);
	loop_destroy(o.loop);
	free(big);
}

static void time_out(void **state)
{
	struct run r;

	prepare(&r);
	r.run_timeout_ns = 200000000;
	run_shell(&r, "echo $$; exec sleep 1000");
	assert_int_equal(r.result.status, 124);
	kill_left_behind(&r);
	assert_string_equal(r.result.text, "the command did not end within 0.2 s");
	put_away(&r);
}

/* What follows plays the guest. */

static void say(struct run *r, uint16_t type, uint8_t stream, const void *payload, uint32_t length)
{
	uint8_t *frame = malloc(PROTO_FRAME_MAX);
	struct proto_frame f = {
		.type = type, .stream = stream, .length = length, .payload = payload};
	struct proto_writer w;

	proto_writer_init(&w, frame, PROTO_FRAME_MAX);
	assert_true(proto_writer_put(&w, &f));
	assert_int_equal(fd_write_full(r->peer, frame, PROTO_HEADER + length), 0);
	free(frame);
}

static void say_hello(struct run *r)
{
	struct proto_hello h = {.version = PROTO_VERSION};
	uint8_t p[PROTO_HELLO_SIZE];

	say(r, PROTO_HELLO, 0, p, (uint32_t)proto_put_hello(p, &h));
}

static void say_started(struct run *r)
{
	struct proto_started s = {.pid = 2};
	uint8_t p[PROTO_STARTED_SIZE];

	say_hello(r);
	say(r, PROTO_STARTED, 0, p, (uint32_t)proto_put_started(p, &s));
}

static void say_exit(struct run *r, uint32_t code, uint32_t number)
{
	struct proto_exit e = {.code = code, .signal = number};
	uint8_t p[PROTO_EXIT_SIZE];

	say(r, PROTO_EXIT, 0, p, (uint32_t)proto_put_exit(p, &e));
}

static void say_number(struct run *r, uint16_t type, uint8_t stream, uint32_t number)
{
	uint8_t p[PROTO_U32_SIZE];

	proto_put_u32(p, number);
	say(r, type, stream, p, sizeof(p));
}

static void hang_up(struct run *r)
{
	shutdown(r->peer, SHUT_RDWR);
}

static void silent(struct run *r)
{
}

static void half_a_frame(struct run *r)
{
	say_hello(r);
	assert_int_equal(fd_write_full(r->peer, "\x10\0\0\0\x11", 5), 0);
	hang_up(r);
}

static void gone_before_start(struct run *r)
{
	say_hello(r);
	hang_up(r);
}

static void gone_before_end(struct run *r)
{
	say_started(r);
	hang_up(r);
}

static void garbage(struct run *r)
{
	assert_int_equal(fd_write_full(r->peer, "GET / HTTP/1.1\r\n\r\n", 18), 0);
}

static void unknown_type(struct run *r)
{
	say_hello(r);
	say(r, 77, 0, NULL, 0);
}

static void no_such_stream(struct run *r)
{
	say_hello(r);
	say(r, PROTO_DATA, 9, "x", 1);
}

static void started_first(struct run *r)
{
	say(r, PROTO_STARTED, 0, "0123456789abcdef", 16);
}

static void other_version(struct run *r)
{
	struct proto_hello h = {.version = 1000};
	uint8_t p[PROTO_HELLO_SIZE];

	say(r, PROTO_HELLO, 0, p, (uint32_t)proto_put_hello(p, &h));
}

static void data_too_early(struct run *r)
{
	say_hello(r);
	say(r, PROTO_DATA, PROTO_STDOUT, "x", 1);
}

static void flood(struct run *r)
{
	static const uint8_t bytes[60000];
	int size = 1 << 20;

	setsockopt(r->peer, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	say_started(r);
	/* Nobody reads r->out, so that no credit is given back. */
	for (int i = 0; i < 7; i++)
		say(r, PROTO_DATA, PROTO_STDOUT, bytes, sizeof(bytes));
}

static void data_for_stdin(struct run *r)
{
	say_started(r);
	say(r, PROTO_DATA, PROTO_STDIN, "x", 1);
}

static void eof_twice(struct run *r)
{
	say_started(r);
	say(r, PROTO_EOF, PROTO_STDERR, NULL, 0);
	say(r, PROTO_EOF, PROTO_STDERR, NULL, 0);
}

static void exit_too_early(struct run *r)
{
	say_started(r);
	say(r, PROTO_EOF, PROTO_STDOUT, NULL, 0);
	say_exit(r, 0, 0);
}

static void impossible_exit(struct run *r)
{
	say_started(r);
	say(r, PROTO_EOF, PROTO_STDOUT, NULL, 0);
	say(r, PROTO_EOF, PROTO_STDERR, NULL, 0);
	say_exit(r, 256, 0);
}

static void cut_exit(struct run *r)
{
	say_started(r);
	say(r, PROTO_EXIT, 0, "1234", 4);
}

static void too_much_credit(struct run *r)
{
	say_started(r);
	say_number(r, PROTO_CREDIT, PROTO_STDIN, PROTO_CREDIT_MAX);
	say_number(r, PROTO_CREDIT, PROTO_STDIN, 1);
}

static void half_closed(struct run *r)
{
	r->signal = SIGTERM; /* something to be sent */
	say_started(r);
	shutdown(r->peer, SHUT_RD);
}

static void frame_too_long(struct run *r)
{
	say_hello(r);
	assert_int_equal(fd_write_full(r->peer, "\xff\xff\xff\x7f\x20\0\x01\0", 8), 0);
}

static void bad_guests(void **state)
{
	static const struct {
		void (*play)(struct run *r);
		const char *text;
	} cases[] = {
		{silent, "guest's init connected and said nothing within 0.1 s"},
		{hang_up, "guest's init closed the connection without a word"},
		{gone_before_start,
			"guest's init closed the connection before the command was started"},
		{gone_before_end, "guest's init closed the connection before the command ended"},
		{half_a_frame, "guest's init closed the connection 5 bytes into a frame"},
		{half_closed, "guest's init shut down its half of the connection"},
		{garbage, "guest's init sent a frame of 542393671 bytes, type 8239; 65528 are "
			  "allowed"},
		{frame_too_long, "guest's init sent a frame of 2147483647 bytes, type 32; 65528 "
				 "are allowed"},
		{unknown_type, "guest's init sent a frame of unknown type 77"},
		{no_such_stream, "guest's init sent a frame for stream 9, which does not exist"},
		{started_first, "guest's init sent STARTED before its HELLO"},
		{data_too_early, "guest's init sent DATA before the command was started"},
		{other_version,
			"guest's init speaks version 1000 of the protocol, this program 1; use the "
			"init that came with it"},
		{flood, "guest's init sent 60000 bytes of stdout where 22144 were allowed"},
		{data_for_stdin, "guest's init sent a broken DATA frame of 1 bytes for stdin"},
		{eof_twice, "guest's init sent a broken EOF frame of 0 bytes for stderr"},
		{exit_too_early,
			"guest's init reported the command's end before that of its stderr"},
		{impossible_exit, "guest's init sent an impossible end: status 256, signal 0"},
		{cut_exit, "guest's init sent a broken EXIT frame of 4 bytes for stdin"},
		{too_much_credit, "guest's init gave 1 bytes of credit for stdin beyond 16777216"},
	};
	char name[] = "x", *argv[] = {name, NULL};
	int out[2];
	struct run r;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		prepare(&r);
		assert_int_equal(pipe2(out, O_CLOEXEC), 0);
		close(r.out);
		r.out = out[1];
		r.start_timeout_ns = 100000000;
		start(&r, argv, false);
		cases[i].play(&r);
		finish(&r);
		assert_int_equal(r.result.status, 125);
		assert_false(r.result.exited);
		assert_string_equal(r.result.text, cases[i].text);
		close(out[0]);
		put_away(&r);
	}
}

static void a_guest_that_never_connects(void **state)
{
	char name[] = "x", *argv[] = {name, NULL}, *envp[] = {NULL};
	struct proto_request q = {.argv = argv, .envp = envp};
	struct run r;
	struct session_options o = {.stdin_fd = -1,
		.request = &q,
		.start_timeout_ns = 50000000,
		.ended = on_ended,
		.arg = &r};

	prepare(&r);
	o.loop = r.loop;
	o.stdout_fd = r.out;
	o.stderr_fd = r.err;
	assert_int_equal(session_create(&r.session, &o), 0);
	finish(&r);
	assert_int_equal(r.result.status, 125);
	assert_string_equal(r.result.text, "guest's init did not connect within 0.05 s");
	put_away(&r);
}

/* A guest that has said all and is gone when we write to it: its word counts. */
static void last_words_count(void **state)
{
	char name[] = "x", *argv[] = {name, NULL};
	struct run r;

	prepare(&r);
	start(&r, argv, false);
	say_started(&r);
	say(&r, PROTO_DATA, PROTO_STDOUT, "bye\n", 4);
	say(&r, 5000 /* unknown */, 0, NULL, 0);
	hang_up(&r);
	finish(&r);
	assert_string_equal(r.result.text, "guest's init sent a frame of unknown type 5000");
	put_away(&r);
	prepare(&r);
	start(&r, argv, false);
	say_started(&r);
	say(&r, PROTO_DATA, PROTO_STDOUT, "bye\n", 4);
	say(&r, PROTO_EOF, PROTO_STDOUT, NULL, 0);
	say(&r, PROTO_EOF, PROTO_STDERR, NULL, 0);
	say_exit(&r, 0, 6);
	hang_up(&r);
	finish(&r);
	assert_int_equal(r.result.status, 134);
	expect_content(r.out, "bye\n");
	put_away(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_is_the_commands),
		cmocka_unit_test(killed_by_a_signal),
		cmocka_unit_test(signals_reach_the_whole_group),
		cmocka_unit_test(commands_that_cannot_run),
		cmocka_unit_test(scripts_run_as_in_a_shell),
		cmocka_unit_test(working_directory),
		cmocka_unit_test(binary_data_both_ways_through_files),
		cmocka_unit_test(binary_data_both_ways_through_pipes),
		cmocka_unit_test(stdin_is_empty_where_not_forwarded),
		cmocka_unit_test(stdin_that_nobody_reads),
		cmocka_unit_test(stdout_may_be_a_socket),
		cmocka_unit_test(stdout_that_cannot_be_opened_again),
		cmocka_unit_test(closed_stdout_ends_the_command),
		cmocka_unit_test(full_disk_ends_the_command),
		cmocka_unit_test(a_process_left_behind_does_not_hold_the_end),
		cmocka_unit_test(slow_stdout_does_not_hold_stderr),
		cmocka_unit_test(a_request_of_many_frames),
		cmocka_unit_test(a_request_too_long),
		cmocka_unit_test(time_out),
		cmocka_unit_test(bad_guests),
		cmocka_unit_test(a_guest_that_never_connects),
		cmocka_unit_test(last_words_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
