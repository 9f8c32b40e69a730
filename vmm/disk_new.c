// SPDX-License-Identifier: MIT
// It is made under another name and gets its own when it is whole.
#include "vmm/disk_new.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/engine.h"
#include "blk/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_header(
	const char *path, int fd, struct blk_engine *e, const struct qcow2_create *c)
{
	struct raw_config raw = {
		.name = path, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .holds_format = true};
	struct blk *file;
	int rc = raw.fd < 0 ? failno(errno, "image %s", path) : raw_create(&file, e, &raw);

	if (rc && raw.fd >= 0)
		close(raw.fd);
	if (rc)
		return rc;
	rc = qcow2_create(file, c);
	blk_destroy(file);
	return rc;
}

static int write_qcow2(const char *path, int fd, const struct qcow2_create *c)
{
	struct blk_engine *engine = NULL;
	struct loop *loop = NULL;
	int rc = loop_create(&loop, "image");

	rc = rc ? rc : engine_create(&engine, loop, ENGINE_SYNC);
	rc = rc ? rc : write_header(path, fd, engine, c);
	engine_destroy(engine);
	loop_destroy(loop);
	return rc;
}

static int write_raw(const char *path, int fd, uint64_t size)
{
	return ftruncate(fd, (off_t)size) < 0 || fsync(fd) < 0 ? failno(errno, "image %s", path)
							       : 0;
}

/* What files are made with that are not named by mkstemp. */
static mode_t mask(void)
{
	mode_t now = umask(077);

	umask(now);
	return now;
}

/* Never in the place of a file that has come meanwhile, where the file system knows how. */
static int give_name(const char *from, const char *to)
{
	if (link(from, to) == 0)
		unlink(from);
	else if (errno == EEXIST || access(to, F_OK) == 0)
		return fail(EEXIST, "image %s: is there already", to);
	else if (rename(from, to) < 0)
		return failno(errno, "image %s", to);
	return 0;
}

int disk_new_image(const char *path, enum image_format format, const struct qcow2_create *c)
{
	CLEANUP_FREE char *name = NULL;
	CLEANUP_FD int fd = -1;
	int rc;

	if (format == IMAGE_VMDK)
		return fail(ENOTSUP, "image %s: kvick image makes vmdk images", path);
	if (asprintf(&name, "%s.XXXXXX", path) < 0)
		return fail(ENOMEM, "image %s: no memory", path);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return failno(errno, "image %s", path);
	fchmod(fd, 0666 & ~mask());
	rc = format == IMAGE_QCOW2 ? write_qcow2(path, fd, c) : write_raw(path, fd, c->size);
	rc = rc ? rc : give_name(name, path);
	if (rc)
		unlink(name);
	return rc;
}
