// SPDX-License-Identifier: MIT
// kvick attach-disk and detach: the VM's own process opens nothing, so that an image is opened and
// locked here, and passed on.
#include "base/fd.h"
#include "base/field.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/control.h"
#include "vmm/disk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

struct options {
	bool help;
	uint64_t timeout_ns;
	struct field_list words;
};

enum { ATTACH = 1, DETACH = 2 };

static const struct field table[] = {
	{"timeout", "SECONDS", "how long the guest may take to let go of the disk",
		.offset = offsetof(struct options, timeout_ns), .type = FIELD_SECONDS,
		.fallback = "30", .max = 1000000 * NSEC_PER_SEC, .commands = DETACH, .letter = 't'},
	{"help", "", "this text", .offset = offsetof(struct options, help), .type = FIELD_FLAG,
		.commands = ATTACH | DETACH, .letter = 'h'},
	{"words", "WORDS", "the VM and the disk", .offset = offsetof(struct options, words),
		.type = FIELD_LIST, .commands = ATTACH | DETACH | FIELD_NO_ARGS},
};

/* 0 or -errno. */
static int parse(struct fields *f, const struct options *o, int argc, char **argv)
{
	int rc = fields_parse_words(f, "words", argc, argv);

	if (!rc && !o->help && o->words.count != 2)
		rc = fail(EINVAL, "which VM and which disk? see kvick %s --help", argv[0]);
	return rc;
}

/* ---- attach-disk ---- */

static json_t *describe(const char *keys, const struct disk_files *files)
{
	json_t *o = json_object();
	char off[32], len[32];

	snprintf(off, sizeof(off), "%lluB", (unsigned long long)files->off);
	snprintf(len, sizeof(len), "%lluB", (unsigned long long)files->len);
	json_add_string(&o, "disk", keys);
	json_add_string(&o, "off", off);
	json_add_string(&o, "len", len);
	return o;
}

static int pass(const char *vm, const char *keys, const struct disk_files *files)
{
	int fds[DISK_FILES_MAX];
	json_t *args = describe(keys, files);
	const struct api_question question = {.verb = "attach-disk",
		.args = args,
		.fds = fds,
		.fd_count = disk_files_list(files, fds)};
	int rc = args ? control_ask(vm, &question, NULL)
		      : fail(EINVAL, "disk %s: must be text", keys);

	json_decref(args);
	/* The lock is the VM's now: only our descriptors go. */
	for (unsigned i = 0; i < question.fd_count; i++)
		close(fds[i]);
	return rc;
}

static int attach(const char *vm, const char *keys)
{
	struct disk_config disk;
	struct disk_files files;
	int rc = disk_parse(&disk, keys);

	if (!rc && disk_is_root(&disk))
		rc = fail(EINVAL, "root: is for a disk that is there when the guest starts");
	if (!rc)
		rc = disk_open(&disk, &files);
	disk_config_finish(&disk);
	return rc ? rc : pass(vm, keys, &files);
}

int cmd_attach_disk(int argc, char **argv)
{
	struct options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = ATTACH, .values = &o};
	int rc = parse(&f, &o, argc, argv);

	if (!rc && o.help) {
		puts("usage: kvick attach-disk NAME KEYS\n\n"
		     "Gives the guest of VM NAME one more disk. The VM must be on PCI, as one made "
		     "with\n--disk or --transport pci is.\n");
		fields_print_help(&f, stdout);
		puts("\nKEYS are those of --disk:");
		disk_print_help(stdout);
	} else if (!rc && o.words.items) {
		rc = attach(o.words.items[0], o.words.items[1]);
	}
	fields_finish(&f);
	return rc < 0 ? cli_failed() : STATUS_OK;
}

/* ---- detach ---- */

/* Until the VM says that the disk is gone, or says no more. */
static int await(int fd, uint64_t ns)
{
	char byte;

	if (fd_await(fd, POLLIN, now_ns() + ns))
		return fail(ETIMEDOUT,
			"the guest has not let go of it in %g s, and may still; until then it has "
			"the disk",
			(double)ns / 1e9);
	if (read(fd, &byte, 1) == 1)
		return 0;
	return fail(EPIPE, "the VM has ended, or another has asked for the same disk since");
}

static int ask(const char *vm, const char *id, int told)
{
	struct api_question question = {.verb = "detach", .fds = &told, .fd_count = 1};
	json_t *args = json_object();
	int rc;

	json_add_string(&args, "id", id);
	question.args = args;
	rc = args ? control_ask(vm, &question, NULL) : fail(EINVAL, "disk %s: must be text", id);
	json_decref(args);
	return rc;
}

static int detach(const char *vm, const char *id, uint64_t timeout_ns)
{
	CLEANUP_FD int here = -1;
	int ends[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return failno(errno, "socketpair");
	here = ends[0];
	rc = ask(vm, id, ends[1]);
	close(ends[1]);
	if (rc < 0)
		return rc;
	rc = await(here, timeout_ns);
	return rc < 0 ? fail_context(rc, "%s: disk %s", vm, id) : 0;
}

int cmd_detach(int argc, char **argv)
{
	struct options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = DETACH, .values = &o};
	int rc = parse(&f, &o, argc, argv);

	if (!rc && o.help) {
		puts("usage: kvick detach [OPTIONS] NAME ID\n\n"
		     "Asks the guest of VM NAME to let go of its disk ID, as kvick status calls "
		     "it, "
		     "and\nwaits until it has. Unmount its file systems first.\n");
		fields_print_help(&f, stdout);
	} else if (!rc && o.words.items) {
		rc = detach(o.words.items[0], o.words.items[1], o.timeout_ns);
	}
	fields_finish(&f);
	return rc < 0 ? cli_failed() : STATUS_OK;
}
