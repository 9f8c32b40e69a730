// SPDX-License-Identifier: MIT
// kvick stop, pause, resume, ...: verbs sent to running VMs by name.
#include "cli/control.h"
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
	return fd_await(process >= 0 ? process : fd, POLLIN, now_ns() + ns) == 0;
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

static bool is_paused(int fd)
{
	json_t *status = NULL;
	bool paused = !api_client_call(fd, "status", KILL_NS, &status) &&
		      !strcmp(control_text(status, "state"), "paused");

	json_decref(status);
	return paused;
}

static int stop_connected(const struct options *o, int fd)
{
	CLEANUP_FD int process = open_process(fd);
	int rc = o->kill ? -EBUSY : api_client_call(fd, "power-button", KILL_NS, NULL);

	if (rc == -EPROTO && is_paused(fd))
		return fail(EBUSY, "is paused, and its guest cannot be asked to end; kvick resume "
				   "it first, or kvick stop --kill");
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
	     "end,\nand ends it by force when it takes too long. One that is paused must be "
	     "resumed first.\n");
	fields_print_help(f, stdout);
	return STATUS_OK;
}

/* What must hold before anything is done; the first word of argv is the command. */
static int prepare(struct fields *f, const struct options *o, int argc, char **argv)
{
	int rc = fields_parse_words(f, "name", argc, argv);

	if (!rc && !o->help && !o->names.count)
		rc = fail(EINVAL, "%s: which VM? see kvick ps", argv[0]);
	return rc;
}

int cmd_stop(int argc, char **argv)
{
	struct options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = STOP, .values = &o};
	int rc = prepare(&f, &o, argc, argv);
	int status = rc < 0 ? cli_failed() : STATUS_OK;

	if (!rc && o.help)
		usage_stop(&f);
	for (unsigned i = 0; !rc && !o.help && i < o.names.count; i++) {
		if (stop(&o, o.names.items[i]) < 0)
			status = cli_failed();
	}
	if (!o.help)
		rundir_list(sweep, NULL); /* what a killed process has left */
	fields_finish(&f);
	return status;
}

int control_ask(const char *name, const struct api_question *question, json_t **result)
{
	CLEANUP_FD int fd = connect_to(name);
	int rc = fd < 0 ? fd : api_client_ask(fd, question, ANSWER_NS, result);

	return rc < 0 && fd >= 0 ? fail_context(rc, "%s", name) : rc;
}

const char *control_text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

int control_call(const char *name, const struct api_question *question)
{
	json_t *result = NULL;
	int rc = control_ask(name, question, &result);

	if (rc < 0)
		return rc;
	if (json_object_size(result)) {
		json_dumpf(result, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(result);
	return 0;
}

static bool is_mandatory(const struct field *d)
{
	return d->commands & FIELD_MANDATORY;
}

/* One before a mandatory one may be a word, too. */
static bool may_be_word(const struct api_verb *v, unsigned i)
{
	const struct field *d = &v->args.table[i];

	return is_mandatory(d) || (i + 1 < v->args.count && is_mandatory(d + 1));
}

/* How many words there are beside those that have to be. */
static unsigned spare_words(const struct api_verb *v, char **words)
{
	unsigned n = 0;

	while (words[n] && !strchr(words[n], '='))
		n++;
	for (unsigned i = 0; i < v->args.count && n; i++)
		n -= is_mandatory(&v->args.table[i]);
	return n;
}

static int set_arg(json_t *args, const char *key, const char *value)
{
	/* What is not UTF-8 is no string to it. */
	return json_object_set_new(args, key, json_string(value)) < 0
		       ? fail(EINVAL, "%s %s: must be text", key, value)
		       : 0;
}

/* KEY=VALUE: which keys there are the VM itself knows best. `word` is cut up. */
static int take_key(json_t *args, char *word)
{
	char *value = strchr(word, '=');

	if (!value)
		return fail(EINVAL, "unexpected argument \"%s\"; see --help", word);
	*value++ = '\0';
	return set_arg(args, word, value);
}

/* The words after a VM's name: the mandatory arguments in the order of the table, then keys. */
static int take_args(const struct api_verb *v, char **words, json_t *args)
{
	unsigned spare = spare_words(v, words);
	int rc = 0;

	for (unsigned i = 0; i < v->args.count && !rc; i++) {
		const struct field *d = &v->args.table[i];

		if (is_mandatory(d) && !*words)
			rc = fail(EINVAL, "%s: which %s? see --help", v->name, d->arg);
		else if (is_mandatory(d) || (may_be_word(v, i) && spare && spare--))
			rc = set_arg(args, d->name, *words++);
	}
	while (!rc && *words)
		rc = take_key(args, *words++);
	return rc;
}

/* One VM, with arguments. */
static int call_with_args(const struct api_verb *v, char **words)
{
	json_t *args = json_object();
	const struct api_question question = {.verb = v->name, .args = args};
	int rc = take_args(v, words + 1, args);

	if (!rc)
		rc = control_call(words[0], &question);
	json_decref(args);
	return rc;
}

/* Whatever became of those before. The process's exit status. */
static int call_each(const struct api_verb *v, char **names)
{
	const struct api_question question = {.verb = v->name};
	int status = STATUS_OK;

	for (; *names; names++) {
		if (control_call(*names, &question) < 0)
			status = cli_failed();
	}
	return status;
}

static void usage_verb(const struct api_verb *v, const struct fields *f)
{
	printf("usage: kvick %s NAME", v->name);
	for (unsigned i = 0; i < v->args.count; i++) {
		const struct field *d = &v->args.table[i];

		if (is_mandatory(d))
			printf(" %s", d->arg);
		else if (may_be_word(v, i))
			printf(" [%s]", d->arg);
		else
			printf(" [%s=%s]", d->name, d->arg);
	}
	printf("%s\n\nTo %s%s.\n\n", v->args.count ? "" : "...", v->help,
		v->args.count ? "" : ", for each");
	for (unsigned i = 0; i < v->args.count; i++) {
		const struct field *d = &v->args.table[i];
		char key[32];

		snprintf(key, sizeof(key), "%s%s%s", may_be_word(v, i) ? "" : d->name,
			may_be_word(v, i) ? "" : "=", d->arg);
		printf("  %-25s %s\n", key, d->help);
	}
	fields_print_help(f, stdout);
}

int cmd_control(int argc, char **argv)
{
	const struct api_verb *v = api_find(argv[0]);
	struct options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = VERB, .values = &o};
	int rc = prepare(&f, &o, argc, argv);

	if (!rc && o.help)
		usage_verb(v, &f);
	else if (!rc && v->args.count)
		rc = call_with_args(v, o.names.items);
	else if (!rc)
		rc = call_each(v, o.names.items);
	fields_finish(&f);
	return rc < 0 ? cli_failed() : rc;
}
