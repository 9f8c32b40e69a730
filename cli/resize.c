// SPDX-License-Identifier: MIT
// kvick resize-disk: makes a disk's file larger, if that is asked for, and has the VM take its new
// size. The VM's own process changes no file's size.
#include "base/fd.h"
#include "base/field.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/control.h"
#include "cli/vm_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define SECTOR 512u

static int check_size(const struct stat *st, const char *path, uint64_t size)
{
	if (!S_ISREG(st->st_mode))
		return fail(EINVAL,
			"%s is a device: make it larger where it comes from, then leave out the "
			"size here",
			path);
	if (size % SECTOR)
		return fail(EINVAL, "%llu bytes are not whole sectors of %u",
			(unsigned long long)size, SECTOR);
	if (size < (uint64_t)st->st_size)
		return fail(EINVAL, "%s has %lld bytes: a disk does not become smaller", path,
			(long long)st->st_size);
	return 0;
}

static int grow(const struct vm_disk *d, uint64_t size)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FD int fd = -1;
	struct stat st;
	int rc;

	if (strcmp(d->format, "raw"))
		return fail(ENOTSUP,
			"%s is a %s image, which stays as large as it is while a VM has it; kvick "
			"image resize changes one that none has",
			d->path, d->format);
	if (strcmp(d->overlay, "none"))
		return fail(ENOTSUP, "with an overlay it stays as large as it was");
	path = vm_disk_path(d);
	if (!path)
		return -ENOENT;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return failno(errno, "%s", d->path);
	rc = check_size(&st, d->path, size);
	rc = rc ? rc : vm_disk_check(d, &st);
	if (!rc && ftruncate(fd, (off_t)size) < 0)
		rc = failno(errno, "%s", d->path);
	return rc;
}

static int grow_file(const char *vm, const char *id, const char *text_of_size)
{
	struct vm_disk d;
	uint64_t size;
	int rc = parse_size(text_of_size, &size);

	if (rc < 0 || size > INT64_MAX)
		return fail(EINVAL,
			"size %s: must be a size: MiB, or with a suffix B, K, M, G or T",
			text_of_size);
	rc = vm_disk_find(&d, vm, id);
	if (!rc) {
		rc = grow(&d, size);
		rc = rc ? fail_context(rc, "%s: disk %s", vm, id) : 0;
	}
	json_decref(d.status);
	return rc;
}

static int resize(const struct command_options *o)
{
	char **words = o->words.items;
	struct api_question question = {.verb = "resize-disk"};
	json_t *args = json_object();
	int rc;

	json_add_string(&args, "id", words[1]);
	question.args = args;
	rc = args ? 0 : fail(EINVAL, "disk %s: must be text", words[1]);
	if (!rc && words[2])
		rc = grow_file(words[0], words[1], words[2]);
	if (!rc)
		rc = control_call(words[0], &question);
	json_decref(args);
	return rc;
}

int cmd_resize_disk(int argc, char **argv)
{
	static const struct command c = {
		.kind = COMMAND_ASKS,
		.more = 1,
		.missing = "which VM and disk? kvick resize-disk NAME ID [SIZE]",
		.usage = "usage: kvick resize-disk NAME ID [SIZE]\n\n"
			 "Tells the guest of VM NAME that its disk ID, as kvick status calls it, "
			 "has grown.\nWith SIZE its file is made that large first: MiB, or with a "
			 "suffix K, M, G or T.\n",
		.act = resize,
	};

	return command_run(&c, argc, argv);
}
