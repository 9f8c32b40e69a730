// SPDX-License-Identifier: MIT
// A bare-metal guest that outlives its machines.
#include "tests/unit/test.h"

#include "tests/vm/life.h"

#include "base/log.h"
#include "base/util.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SECONDS_LIMIT 30u
#define BYTES 251u
#define END_BYTE 255u
#define ECHO_PORT 7000

/* A sanitizer makes calls of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HELPER_JAIL JAIL_OFF
#else
#define HELPER_JAIL JAIL_KILL
#endif

/* ---- The console ---- */

static void console_ready(void *arg, uint32_t events)
{
	struct life *l = arg;
	char part[4096];
	ssize_t n = read(l->console[0], part, sizeof(part));

	if (n <= 0)
		return;
	l->text = realloc(l->text, l->text_len + (size_t)n + 1);
	assert_non_null(l->text);
	memcpy(l->text + l->text_len, part, (size_t)n);
	l->text_len += (size_t)n;
	l->text[l->text_len] = '\0';
	if (memchr(part, '\n', (size_t)n))
		loop_stop(l->loop);
}

unsigned life_said(const struct life *l, const char *words)
{
	unsigned n = 0;

	for (const char *at = l->text; at && (at = strstr(at, words)); at += strlen(words))
		n++;
	return n;
}

void life_feed(struct life *l)
{
	uint8_t byte = (uint8_t)l->next_byte;

	while (write(l->input[1], &byte, 1) == 1) {
		l->next_byte = (l->next_byte + 1) % BYTES;
		byte = (uint8_t)l->next_byte;
	}
}

void life_send_end(struct life *l)
{
	const uint8_t byte = END_BYTE;

	while (write(l->input[1], &byte, 1) != 1)
		life_run(l, 1000000);
}

/* ---- The echo ---- */

struct echo {
	struct life *l;
	struct watch watch;
	struct echo *next;
};

static void close_echo(struct echo *e)
{
	int fd = e->watch.fd;

	loop_del(e->l->loop, &e->watch);
	if (fd >= 0)
		close(fd);
}

static void echo_ready(void *arg, uint32_t events)
{
	struct echo *e = arg;
	char part[256];
	ssize_t n = read(e->watch.fd, part, sizeof(part));

	/* The machine, with its end of this, may be gone by now. */
	if (n <= 0 || send(e->watch.fd, part, (size_t)n, MSG_NOSIGNAL) != n)
		close_echo(e);
}

static void listener_ready(void *arg, uint32_t events)
{
	struct life *l = arg;
	struct echo *e = calloc(1, sizeof(*e));
	int fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);

	assert_non_null(e);
	assert_true(fd >= 0);
	*e = (struct echo){.l = l, .watch = WATCH_INIT(echo_ready, e), .next = l->echoes};
	l->echoes = e;
	l->connections++;
	assert_int_equal(loop_add(l->loop, &e->watch, fd, EPOLLIN), 0);
}

static void listen_for_guest(struct life *l)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(l->dir, sizeof(l->dir), "/tmp/kvick-test-XXXXXX");
	assert_non_null(mkdtemp(l->dir));
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s_%d", l->dir, MACHINE_VSOCK_NAME, ECHO_PORT);
	l->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(l->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(l->listener, 16), 0);
	l->listener_watch = WATCH_INIT(listener_ready, l);
	assert_int_equal(loop_add(l->loop, &l->listener_watch, l->listener, EPOLLIN), 0);
}

static void finish_echo(struct life *l)
{
	char path[128];

	while (l->echoes) {
		struct echo *e = l->echoes;

		l->echoes = e->next;
		close_echo(e);
		free(e);
	}
	loop_del(l->loop, &l->listener_watch);
	close(l->listener);
	snprintf(path, sizeof(path), "%s/%s_%d", l->dir, MACHINE_VSOCK_NAME, ECHO_PORT);
	unlink(path);
	rmdir(l->dir);
}

/* ---- What outlasts the machines ---- */

void life_init(struct life *l)
{
	assert_int_equal(loop_create(&l->loop, "test"), 0);
	l->ram = calloc(1, LIFE_MEMORY);
	assert_non_null(l->ram);
	assert_int_equal(pipe2(l->console, O_CLOEXEC), 0);
	assert_int_equal(pipe2(l->input, O_CLOEXEC | O_NONBLOCK), 0);
	assert_true(fcntl(l->input[1], F_SETPIPE_SZ, 4096) > 0);
	l->console_watch = WATCH_INIT(console_ready, l);
	assert_int_equal(loop_add(l->loop, &l->console_watch, l->console[0], EPOLLIN), 0);
	listen_for_guest(l);
}

void life_finish(struct life *l)
{
	life_destroy(l);
	finish_echo(l);
	loop_del(l->loop, &l->console_watch);
	for (unsigned i = 0; i < 2; i++) {
		close(l->console[i]);
		close(l->input[i]);
	}
	stream_out_finish(&l->state);
	loop_destroy(l->loop);
	free(l->text);
	free(l->ram);
}

/* ---- A machine ---- */

static void ended(void *arg, enum machine_end why)
{
	struct life *l = arg;

	l->end = why;
	loop_stop(l->loop);
}

static int open_or_fail(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		fail_msg("%s cannot be opened", path);
	return fd;
}

static const char *helper_path;

static int open_helper(const char *name)
{
	return open_or_fail(helper_path, O_RDONLY);
}

static void helper_lost(void *arg, const char *id, const char *why)
{
	fail_msg("%s: %s", id, why);
}

/* The process at its other end, if any, is the machine's own, and gone with it. */
static void open_nic(struct life *l, struct machine_config *cfg)
{
	const struct net_host host = {.open_program = open_helper,
		.jail = HELPER_JAIL,
		.configured = true,
		.pci = l->transport == TRANSPORT_PCI};
	const struct nic_listener listener = {l->loop, helper_lost, helper_lost, NULL};
	struct net_guest guest;

	helper_path = l->slirp;
	if (net_parse(&l->net, l->nic) || net_set_defaults(&l->net, 0) ||
		nic_open(&l->helper, &l->net, &host, &cfg->nic_ends[0], &guest))
		fail_msg("%s", last_error());
	if (nic_await(&l->helper) || nic_watch(&l->helper, &listener))
		fail_msg("%s", last_error());
	cfg->nics = &l->net;
	cfg->nic_count = 1;
}

void life_make(struct life *l)
{
	struct machine_config cfg = {
		.name = "test",
		.memory = LIFE_MEMORY,
		.cpus = l->cpus,
		.kvm_fd = open_or_fail("/dev/kvm", O_RDWR),
		.kernel_fd = open_or_fail(l->kernel, O_RDONLY),
		.kernel_name = l->kernel,
		.cmdline = l->cmdline,
		.resettable = true,
		.restart = l->restart,
		.serial = true,
		.serial_in = l->input[0],
		.serial_out = l->console[1],
		.vsock = true,
		.vsock_cid = 3,
		.vsock_dir = open_or_fail(l->dir, O_PATH | O_DIRECTORY),
		.vsock_listen = -1,
		.rng = true,
		.transport = l->transport,
		.jail = JAIL_OFF,
		.disks = l->disk,
		.ended = ended,
		.event = l->event,
		.arg = l,
	};

	for (; l->disk_keys[l->disks]; l->disks++) {
		struct disk_config *d = &l->disk[l->disks];

		if (disk_parse(d, l->disk_keys[l->disks]) ||
			disk_open(d, &cfg.disk_files[l->disks]))
			fail_msg("%s", last_error());
	}
	cfg.disk_count = l->disks;
	if (l->nic)
		open_nic(l, &cfg);
	if (machine_create(&l->machine, l->loop, &cfg) < 0)
		fail_msg("%s", last_error());
}

int life_load(struct life *l)
{
	struct stream_in in;
	int rc;

	assert_int_equal(mem_write(machine_mem(l->machine), 0, l->ram, LIFE_MEMORY), 0);
	stream_in_init(&in, l->state.buf, l->state.len);
	rc = machine_load(l->machine, &in);
	if (rc)
		return rc;
	assert_int_equal(in.pos, in.len);
	return 0;
}

void life_create(struct life *l)
{
	life_make(l);
	if (l->state.len && life_load(l))
		fail_msg("%s", last_error());
}

void life_begin(struct life *l)
{
	life_create(l);
	if (machine_start(l->machine) < 0)
		fail_msg("%s", last_error());
}

void life_save(struct life *l)
{
	stream_out_finish(&l->state);
	stream_out_init(&l->state);
	if (machine_save(l->machine, &l->state) < 0)
		fail_msg("%s", last_error());
	assert_int_equal(mem_read(machine_mem(l->machine), 0, l->ram, LIFE_MEMORY), 0);
	life_destroy(l);
}

void life_cut(struct life *l)
{
	assert_int_equal(machine_pause(l->machine), 0);
	life_save(l);
}

void life_destroy(struct life *l)
{
	machine_destroy(l->machine);
	l->machine = NULL;
	while (l->disks)
		disk_config_finish(&l->disk[--l->disks]);
	nic_finish(&l->helper);
	net_config_finish(&l->net);
}

/* ---- Time ---- */

/* What the console has not been able to write yet it writes when it is taken away. */
static void take_last_words(struct life *l)
{
	struct pollfd p = {.fd = l->console[0], .events = POLLIN};

	life_destroy(l);
	while (poll(&p, 1, 0) == 1)
		console_ready(l, EPOLLIN);
}

#define LAST_WORDS 500u

static _Noreturn void give_up(struct life *l, const char *words)
{
	size_t from = l->text_len > LAST_WORDS ? l->text_len - LAST_WORDS : 0;

	fail_msg("no \"%s\" but:\n%s", words, l->text ? l->text + from : "nothing");
	abort();
}

static void stop_loop(void *arg)
{
	struct life *l = arg;

	loop_stop(l->loop);
}

void life_run(struct life *l, uint64_t ns)
{
	uint64_t until = now_ns() + ns;
	struct timer t = TIMER_INIT(stop_loop, l);

	while (!l->end && now_ns() < until) {
		loop_arm(l->loop, &t, until - now_ns() + 1);
		assert_int_equal(loop_run(l->loop), 0);
		loop_disarm(l->loop, &t);
	}
}

void life_await(struct life *l, const char *words, unsigned count)
{
	uint64_t until = now_ns() + SECONDS_LIMIT * NSEC_PER_SEC;

	while (life_said(l, words) < count) {
		if (l->end && l->machine)
			take_last_words(l);
		else if (l->end || now_ns() >= until)
			give_up(l, words);
		else
			life_run(l, 1000000);
	}
}

void life_check(struct life *l)
{
	if (!l->end)
		return;
	take_last_words(l);
	give_up(l, "end");
}
