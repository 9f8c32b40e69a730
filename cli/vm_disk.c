// SPDX-License-Identifier: MIT
#include "cli/vm_disk.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "cli/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const json_t *find(const json_t *status, const char *id)
{
	size_t i;
	json_t *disk;

	json_array_foreach(json_object_get(status, "disks"), i, disk)
	{
		if (!strcmp(control_text(disk, "id"), id))
			return disk;
	}
	fail(ENOENT, "it has no disk %s", id);
	return NULL;
}

int vm_disk_find(struct vm_disk *out, const char *vm, const char *id)
{
	const struct api_question question = {.verb = "status"};
	const json_t *disk;
	int rc;

	*out = (struct vm_disk){0};
	rc = control_ask(vm, &question, &out->status);
	if (rc < 0)
		return rc;
	disk = find(out->status, id);
	if (!disk)
		return fail_context(-ENOENT, "%s", vm);
	out->path = control_text(disk, "path");
	out->format = control_text(disk, "format");
	out->overlay = control_text(disk, "overlay");
	out->cache = control_text(disk, "cache");
	out->size = (uint64_t)json_integer_value(json_object_get(disk, "size"));
	out->pid = (int)json_integer_value(json_object_get(out->status, "pid"));
	return 0;
}

static bool same_file(int dir, const char *name, const struct stat *st)
{
	struct stat other;

	return fstatat(dir, name, &other, 0) == 0 && other.st_dev == st->st_dev &&
	       other.st_ino == st->st_ino;
}

int vm_disk_check(const struct vm_disk *d, const struct stat *st)
{
	char name[32];
	const struct dirent *e;
	bool found = false;
	DIR *dir;

	snprintf(name, sizeof(name), "/proc/%d/fd", d->pid);
	dir = opendir(name);
	if (!dir)
		return failno(errno, "%s, where the VM's open files are to be seen", name);
	while (!found && (e = readdir(dir)))
		found = same_file(dirfd(dir), e->d_name, st);
	closedir(dir);
	return found ? 0
		     : fail(ESTALE, "%s is not the file any more that the VM has open", d->path);
}

char *vm_disk_path(const struct vm_disk *d)
{
	CLEANUP_FREE char *name = NULL;
	struct stat st;
	char *path;

	if (asprintf(&name, "/proc/%d/cwd/%s", d->pid, d->path) < 0)
		return NULL;
	path = realpath(d->path[0] == '/' ? d->path : name, NULL);
	if (!path || stat(path, &st) < 0)
		failno(errno, "%s, which the VM has", d->path);
	else if (!vm_disk_check(d, &st))
		return path;
	free(path);
	return NULL;
}
