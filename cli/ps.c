// SPDX-License-Identifier: MIT
// kvick ps: the running VMs, as a table or as JSON.
#include "api/client.h"
#include "base/fd.h"
#include "base/field.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "cli/cli.h"
#include "vmm/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define ANSWER_NS (2 * NSEC_PER_SEC)

struct options {
	bool json, help;
};

static const struct field table[] = {
	{"json", NULL, "write a JSON array", .offset = offsetof(struct options, json),
		.type = FIELD_FLAG, .commands = 1},
	{"help", NULL, "this text", .offset = offsetof(struct options, help), .type = FIELD_FLAG,
		.commands = 1, .letter = 'h'},
};

static const char *text(const json_t *object, const char *key, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : otherwise;
}

/* What the VM was started with; an empty object when it has not written it yet. */
static json_t *read_config(const struct rundir *d)
{
	CLEANUP_FD int fd = openat(d->fd, "config.json", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	json_t *config = fd < 0 ? NULL : json_loadfd(fd, 0, NULL);

	return config ? config : json_object();
}

/* What is known of a VM that does not answer: its process, its configuration, how long it is there.
 */
static json_t *status_from_outside(const struct rundir *d, int fd, const json_t *config)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);
	struct stat st = {0};
	json_t *o = json_object();
	uint64_t memory = 0;

	if (fd >= 0)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	fstatat(d->fd, "lock", &st, 0);
	parse_size(text(config, "memory", "0"), &memory);
	json_add_string(&o, "name", d->name);
	json_add_string(&o, "state", "unresponsive");
	json_add(&o, "cpus", json_integer(json_integer_value(json_object_get(config, "cpus"))));
	json_add_uint(&o, "memory", memory);
	json_add_real(&o, "uptime", difftime(time(NULL), st.st_mtime));
	json_add_uint(&o, "pid", (uint64_t)peer.pid);
	return o;
}

/* The status, with what only the configuration knows. */
static json_t *describe(const struct rundir *d)
{
	CLEANUP_FD int fd = rundir_connect(d, "control");
	json_t *config = read_config(d), *status = NULL, *command, *kernel;

	if (fd < 0 || api_client_call(fd, "status", ANSWER_NS, &status) < 0)
		status = status_from_outside(d, fd, config);
	command = json_object_get(config, "command");
	kernel = json_object_get(config, "kernel");
	if (command) {
		json_object_set(status, "command", command);
	} else if (kernel) {
		command = json_array();
		json_array_append_new(command, json_string("boot"));
		json_array_append(command, kernel);
		json_object_set_new(status, "command", command);
	}
	json_decref(config);
	return status;
}

static int collect(void *arg, const struct rundir *d)
{
	json_t *list = arg;

	return json_array_append_new(list, describe(d)) < 0 ? fail(ENOMEM, "out of memory") : 0;
}

static void print_uptime(double seconds)
{
	unsigned long s = seconds > 0 ? (unsigned long)seconds : 0;
	char buf[32];

	if (s < 60)
		snprintf(buf, sizeof(buf), "%lus", s);
	else if (s < 3600)
		snprintf(buf, sizeof(buf), "%lum%lus", s / 60, s % 60);
	else
		snprintf(buf, sizeof(buf), "%luh%lum", s / 3600, s / 60 % 60);
	printf(" %8s", buf);
}

static void print_row(const json_t *vm)
{
	char size[24];
	size_t i;
	json_t *word;

	format_size(
		(uint64_t)json_integer_value(json_object_get(vm, "memory")), size, sizeof(size));
	printf("%-20s %-12s %4lld %7s", text(vm, "name", "?"),
		json_object_get(vm, "why") ? "disk-error" : text(vm, "state", "?"),
		(long long)json_integer_value(json_object_get(vm, "cpus")), size);
	print_uptime(json_number_value(json_object_get(vm, "uptime")));
	printf(" %8lld ", (long long)json_integer_value(json_object_get(vm, "pid")));
	json_array_foreach(json_object_get(vm, "command"), i, word)
	{
		printf(" %s", json_string_value(word) ? json_string_value(word) : "?");
	}
	putchar('\n');
}

static void print_table(const json_t *list)
{
	size_t i;
	json_t *vm;

	printf("%-20s %-12s %4s %7s %8s %8s  %s\n", "NAME", "STATE", "CPUS", "MEMORY", "UPTIME",
		"PID", "COMMAND");
	json_array_foreach(list, i, vm)
	{
		print_row(vm);
	}
}

static int list(bool json)
{
	json_t *all = json_array();
	int rc = rundir_list(collect, all);

	if (!rc && json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (!rc) {
		print_table(all);
	}
	json_decref(all);
	if (rc < 0)
		return cli_failed();
	return STATUS_OK;
}

int cmd_ps(int argc, char **argv)
{
	struct options o = {0};
	struct fields f = {.table = table, .count = ARRAY_SIZE(table), .command = 1, .values = &o};
	int n = fields_parse_args(&f, argc - 1, argv + 1);

	if (n >= 0 && n < argc - 1)
		n = fail(EINVAL, "unexpected argument \"%s\"; see kvick ps --help", argv[n + 1]);
	if (n < 0)
		return cli_failed();
	if (!o.help)
		return list(o.json);
	puts("usage: kvick ps [--json]\n\nLists the running VMs.\n");
	fields_print_help(&f, stdout);
	return STATUS_OK;
}
