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

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define SECTOR 512u

static int same_file(int dir, const char *name, const struct stat *st)
{
	struct stat other;

	return fstatat(dir, name, &other, 0) == 0 && other.st_dev == st->st_dev &&
	       other.st_ino == st->st_ino;
}

/* The file of that name may be another by now, which is nobody's to change. 0 or -errno. */
static int check_open(int pid, const struct stat *st, const char *path)
{
	char name[32];
	const struct dirent *e;
	bool found = false;
	DIR *dir;

	snprintf(name, sizeof(name), "/proc/%d/fd", pid);
	dir = opendir(name);
	if (!dir)
		return failno(errno, "%s, where the VM's open files are to be seen", name);
	while (!found && (e = readdir(dir)))
		found = same_file(dirfd(dir), e->d_name, st);
	closedir(dir);
	return found ? 0 : fail(ESTALE, "%s is not the file any more that the VM has open", path);
}

static int open_image(int pid, const char *path)
{
	char *name = NULL;
	int fd;

	if (asprintf(&name, "/proc/%d/cwd/%s", pid, path) < 0)
		return fail(ENOMEM, "out of memory");
	fd = open(path[0] == '/' ? path : name, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	free(name);
	return fd < 0 ? failno(errno, "%s", path) : fd;
}

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

static int grow(const json_t *status, const json_t *disk, uint64_t size)
{
	int pid = (int)json_integer_value(json_object_get(status, "pid"));
	const char *path = control_text(disk, "path");
	CLEANUP_FD int fd = -1;
	struct stat st;
	int rc;

	if (strcmp(control_text(disk, "format"), "raw"))
		return fail(ENOTSUP,
			"%s is a %s image, which stays as large as it is while a VM has it; kvick "
			"image resize changes one that none has",
			path, control_text(disk, "format"));
	if (strcmp(control_text(disk, "overlay"), "none"))
		return fail(ENOTSUP, "with an overlay it stays as large as it was");
	fd = open_image(pid, path);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return failno(errno, "%s", path);
	rc = check_size(&st, path, size);
	if (!rc)
		rc = check_open(pid, &st, path);
	if (!rc && ftruncate(fd, (off_t)size) < 0)
		rc = failno(errno, "%s", path);
	return rc;
}

static int grow_file(const char *vm, const char *id, const char *text_of_size)
{
	const struct api_question question = {.verb = "status"};
	json_t *status = NULL;
	const json_t *disk;
	uint64_t size;
	int rc = parse_size(text_of_size, &size);

	if (rc < 0 || size > INT64_MAX)
		return fail(EINVAL,
			"size %s: must be a size: MiB, or with a suffix B, K, M, G or T",
			text_of_size);
	rc = control_ask(vm, &question, &status);
	if (rc < 0)
		return rc;
	disk = control_find_disk(status, id);
	rc = disk ? grow(status, disk, size) : -ENOENT;
	if (rc < 0 && disk)
		fail_context(rc, "disk %s", id);
	json_decref(status);
	return rc < 0 ? fail_context(rc, "%s", vm) : 0;
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
