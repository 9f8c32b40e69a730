// SPDX-License-Identifier: MIT
#include "cli/image/new.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/vmdk.h"
#include "cli/image/target.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int new_check(const struct new_image *n)
{
	const struct qcow2_create *q = &n->qcow2;

	if (q->size % BLK_SECTOR)
		return fail(EINVAL, "size: %llu bytes are not whole sectors of %u",
			(unsigned long long)q->size, BLK_SECTOR);
	if (q->size > RAW_SIZE_MAX)
		return fail(EINVAL, "size: %llu bytes are too many", (unsigned long long)q->size);
	if (q->backing && n->format != IMAGE_QCOW2)
		return fail(EINVAL, "a %s image has no backing file: --format qcow2",
			image_format_names[n->format]);
	return 0;
}

static int make_file(struct tool *t, const struct target *to, bool holds_format, struct blk **out)
{
	CLEANUP_FD int fd = fcntl(to->fd, F_DUPFD_CLOEXEC, 3);
	const struct raw_config c = {.name = to->name,
		.fd = fd,
		.holds_format = holds_format,
		.cache = to->no_sync ? RAW_UNSAFE : RAW_WRITEBACK};
	int rc = fd < 0 ? failno(errno, "%s", to->name) : raw_create(out, t->engine, &c);

	if (!rc)
		steal_fd(&fd);
	return rc;
}

static int make_raw(struct tool *t, const struct target *to, uint64_t size, struct blk **out)
{
	if (ftruncate(to->fd, (off_t)size) < 0)
		return failno(errno, "%s", to->name);
	return out && size ? make_file(t, to, false, out) : 0;
}

static int open_qcow2(struct blk **file)
{
	static const struct qcow2_config c = {0};

	return qcow2_open(file, *file, NULL, &c);
}

static int open_vmdk(struct blk **file)
{
	static struct vmdk_info info;
	static struct blk *extents[VMDK_EXTENTS_MAX];
	static const struct vmdk_config c = {0};
	int rc = vmdk_look(&info, *file);

	return rc ? rc : vmdk_open(file, *file, &info, extents, &c);
}

int new_make(struct tool *t, const struct target *to, const struct new_image *n, struct blk **out)
{
	struct blk *file;
	bool qcow2 = n->format == IMAGE_QCOW2;
	int rc;

	if (out)
		*out = NULL;
	if (n->format == IMAGE_RAW)
		return make_raw(t, to, n->qcow2.size, out);
	rc = make_file(t, to, true, &file);
	if (rc)
		return rc;
	rc = qcow2 ? qcow2_create(file, &n->qcow2)
		   : vmdk_create(file, strrchr(to->path, '/') + 1, n->qcow2.size);
	if (!rc && out)
		rc = qcow2 ? open_qcow2(&file) : open_vmdk(&file);
	if (rc || !out)
		blk_destroy(file);
	else
		*out = file;
	return rc;
}
