// SPDX-License-Identifier: MIT
// kvick stop, pause, resume, ...: verbs sent to running VMs by name.
#include "api/client.h"
#include "api/verbs.h"
#include "base/fd.h"
#include "base/field.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "cli/cli.h"
#include "vmm/rundir.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define ANSWER_NS (10 * NSEC_PER_SEC)
#define KILL_NS (2 * NSEC_PER_SEC) /* that long the process is asked before the kernel is */
#define END_NS (10 * NSEC_PER_SEC) /* what a VM that was killed may take to be gone */

struct options {
	bool kill, help;
	uint64_t timeout_ns;
	struct field_list names;
};

enum { STOP = 1, VERB = 2 };

static const struct field table[] = {
	{"kill", NULL, "end it at once, without asking the guest",
		.offset = offsetof(struct options, kill), .type = FIELD_FLAG, .commands = STOP},
	{"timeout", "SECONDS", "how long the guest may take before it is ended by force",
		.offset = offsetof(struct options, timeout_ns), .type = FIELD_SECONDS,
		.fallback = "30", .max = 1000000 * NSEC_PER_SEC, .commands = STOP, .letter = 't'},
	{"help", NULL, "this text", .offset = offsetof(struct options, help), .type = FIELD_FLAG,
		.commands = STOP | VERB, .letter = 'h'},
	{"name", "NAME", "which VM", .offset = offsetof(struct options, names), .type = FIELD_LIST,
		.commands = STOP | VERB | FIELD_NO_ARGS},
};

/* Options and names in any order. 0 or -errno. */
static int parse(struct fields *f, int argc, char **argv)
{
	int i = 1, rc = fields_init(f);
	bool only_names = false;

	while (!rc && i < argc) {
		if (!only_names) {
			rc = fields_parse_args(f, argc - i, argv + i);
			if (rc < 0)
				return rc;
			i += rc;
			only_names = rc > 0 && !strcmp(argv[i - 1], "--");
		}
		rc = i < argc ? field_set(f, field_find(f, "name"), argv[i++], "") : 0;
	}
	return rc;
}

/*
 * The VM's process, which poll() says the end of; -1 where it cannot be had (another process
 * namespace), and then the end of the connection has to do.
 */
static int open_process(int fd)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0)
		return -1;
	return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

/* Waits until the process or else the connection has ended. Whether it has. */
static bool wait_for_end(int process, int fd, uint64_t ns)
{
	struct pollfd p = {.fd = process >= 0 ? process : fd, .events = POLLIN};
	uint64_t now = now_ns(), deadline = now + ns;
	int rc;

	do {
		struct timespec left = {.tv_sec = (time_t)((deadline - now) / NSEC_PER_SEC),
			.tv_nsec = (long)((deadline - now) % NSEC_PER_SEC)};

		rc = ppoll(&p, 1, &left, NULL);
		now = now_ns();
	} while (rc < 0 && errno == EINTR && now < deadline);
	return rc > 0;
}

/* A process that does not even answer is ended by the kernel; its directory is swept away by the
 * next. */
static int end_by_force(int process, int fd)
{
	int rc = api_client_call(fd, "kill", KILL_NS, NULL);

	if (rc == -EPIPE || (!rc && wait_for_end(process, fd, END_NS)))
		return 0;
	if (process < 0)
		return rc < 0 ? rc : fail(ETIMEDOUT, "it does not end");
	if (syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return failno(errno, "kill");
	return wait_for_end(process, fd, END_NS) ? 0 : fail(ETIMEDOUT, "it does not end");
}

static int stop_connected(const struct options *o, int fd)
{
	CLEANUP_FD int process = open_process(fd);
	int rc = o->kill ? -EBUSY : api_client_call(fd, "power-button", KILL_NS, NULL);

	if (rc == -EPIPE || (!rc && wait_for_end(process, fd, o->timeout_ns)))
		return 0;
	return end_by_force(process, fd);
}

static int connect_to(const char *name)
{
	struct rundir d;
	int fd, rc = rundir_open(&d, name);

	if (rc < 0)
		return rc;
	fd = rundir_connect(&d, "control");
	rundir_close(&d);
	return fd;
}

static int sweep(void *arg, const struct rundir *d)
{
	return 0;
}

static int stop(const struct options *o, const char *name)
{
	CLEANUP_FD int fd = connect_to(name);
	int rc = fd < 0 ? fd : stop_connected(o, fd);

	if (rc < 0 && fd >= 0)
		return fail_context(rc, "%s", name);
	return rc;
}

static int usage_stop(const struct fields *f)
{
	puts("usage: kvick stop [OPTIONS] NAME...\n\n"
	     "Presses the power button of each VM (a command's VM: sends it SIGTERM), waits for "
	     "its "
	     "end,\nand ends it by force when it takes too long.\n");
	fields_print_help(f, stdout);
	return STATUS_OK;
}

/* What must hold before anything is done; the first word of argv is the command. */
static int prepare(struct fields *f, const struct options *o, int argc, char **argv)
{
	int rc = parse(f, argc, argv);

	if (!rc && !o->help && !o->names.count)
		rc = fail(EINVAL, "%s: which VM? see kvick ps", argv[0]);
	return rc;
}

int cmd_stop(int argc, char **argv)
{
	struct options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = STOP, .values = &o};
	int status = STATUS_OK;

	if (prepare(&f, &o, argc, argv) < 0)
		status = cli_failed();
	else if (o.help)
		usage_stop(&f);
	for (unsigned i = 0; !status && !o.help && i < o.names.count; i++) {
		if (stop(&o, o.names.items[i]) < 0)
			status = cli_failed();
	}
	if (!o.help)
		rundir_list(sweep, NULL); /* what a killed process has left */
	fields_finish(&f);
	return status;
}

static int call(const char *verb, const char *name)
{
	CLEANUP_FD int fd = connect_to(name);
	json_t *result = NULL;
	int rc = fd < 0 ? fd : api_client_call(fd, verb, ANSWER_NS, &result);

	if (rc < 0)
		return fd < 0 ? rc : fail_context(rc, "%s", name);
	if (json_object_size(result)) {
		json_dumpf(result, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(result);
	return 0;
}

int cmd_control(int argc, char **argv)
{
	struct options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = VERB, .values = &o};
	int status = STATUS_OK;

	if (prepare(&f, &o, argc, argv) < 0) {
		status = cli_failed();
	} else if (o.help) {
		printf("usage: kvick %s NAME...\n\nTo %s, for each.\n\n", argv[0],
			api_find(argv[0])->help);
		fields_print_help(&f, stdout);
	}
	for (unsigned i = 0; !status && !o.help && i < o.names.count; i++) {
		if (call(argv[0], o.names.items[i]) < 0)
			status = cli_failed();
	}
	fields_finish(&f);
	return status;
}
