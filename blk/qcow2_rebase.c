// SPDX-License-Identifier: MIT
// The header, its extensions and the name are all in the first cluster. What refers to the name is
// in the first sector, which is written last: where the new name finds room beside the old one, and
// the extensions end within that sector, as those of usual images do, a crash leaves the one or the
// other.
#include "blk/qcow2_rebase.h"

#include "base/fd.h"
#include "base/log.h"
#include "blk/now.h"
#include "blk/qcow2_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rebase {
	struct qcow2_header h;
	const char *name; /* of the file */
	uint64_t cluster;
	uint8_t *old, *new; /* first clusters */
	uint64_t at;        /* end of what is in `new` */
};

static int full(const struct rebase *r)
{
	return fail(ENOSPC,
		"disk %s: qcow2: the header's cluster of %llu bytes has no room for the "
		"backing file's name",
		r->name, (unsigned long long)r->cluster);
}

static int add_extension(struct rebase *r, uint32_t type, const void *data, uint32_t len)
{
	if (!range_ok(r->at, 8 + align_up(len, 8), r->cluster))
		return full(r);
	put_be32(r->new + r->at, type);
	put_be32(r->new + r->at + 4, len);
	if (len)
		memcpy(r->new + r->at + 8, data, len);
	r->at += 8 + align_up(len, 8);
	return 0;
}

/* Those that there are, which the reading of the header has found sound, but the format's. */
static int copy_extensions(struct rebase *r)
{
	uint64_t at = r->h.len, name = get_be64(r->old + QCOW2_AT_BACKING);
	uint64_t end = r->h.info.backing[0] ? name : r->cluster;
	int rc = 0;

	while (!rc && at + 8 <= end) {
		uint32_t type = get_be32(r->old + at), len = get_be32(r->old + at + 4);

		if (type == QCOW2_EXT_END)
			break;
		if (type != QCOW2_EXT_BACKING_FORMAT)
			rc = add_extension(r, type, r->old + at + 8, len);
		at += 8 + align_up(len, 8);
	}
	return rc;
}

/* Not over the old one, if there is room. */
static int add_name(struct rebase *r, const char *name)
{
	uint64_t len = strlen(name), old = get_be64(r->old + QCOW2_AT_BACKING);
	uint64_t old_end = old + get_be32(r->old + QCOW2_AT_BACKING_LEN), at = r->at;

	if (r->h.info.backing[0] && at < old_end && old < at + len &&
		range_ok(align_up(old_end, 8), len, r->cluster))
		at = align_up(MAX(old_end, at), 8);
	if (len > QCOW2_BACKING_MAX || !range_ok(at, len, r->cluster))
		return full(r);
	memcpy(r->new + at, name, len);
	put_be64(r->new + QCOW2_AT_BACKING, at);
	put_be32(r->new + QCOW2_AT_BACKING_LEN, (uint32_t)len);
	r->at = at + len;
	return 0;
}

static int compose(struct rebase *r, const char *name, const char *format)
{
	int rc = 0;

	memcpy(r->new, r->old, r->h.len);
	put_be64(r->new + QCOW2_AT_BACKING, 0);
	put_be32(r->new + QCOW2_AT_BACKING_LEN, 0);
	r->at = r->h.len;
	if (name && format)
		rc = add_extension(r, QCOW2_EXT_BACKING_FORMAT, format, (uint32_t)strlen(format));
	rc = rc ? rc : copy_extensions(r);
	rc = rc ? rc : add_extension(r, QCOW2_EXT_END, NULL, 0);
	return rc || !name ? rc : add_name(r, name);
}

/* No further than something is new: the rest of the cluster is as it was. */
static int write_out(const struct rebase *r, struct blk *file)
{
	uint64_t end = align_up(r->at, BLK_SECTOR);
	int rc = 0;

	memcpy(r->new + r->at, r->old + r->at, end - r->at);
	if (end > BLK_SECTOR)
		rc = blk_write_now(file, BLK_SECTOR, r->new + BLK_SECTOR, end - BLK_SECTOR);
	rc = rc ? rc : blk_flush_now(file);
	rc = rc ? rc : blk_write_now(file, 0, r->new, BLK_SECTOR);
	rc = rc ? rc : blk_flush_now(file);
	return rc ? failno(-rc, "disk %s: qcow2 header", r->name) : 0;
}

int qcow2_set_backing(struct blk *file, const char *name, const char *format)
{
	struct rebase r = {.name = file->name};
	CLEANUP_FREE uint8_t *memory = NULL;
	int rc = qcow2_read_header(&r.h, file);

	if (rc)
		return rc;
	r.cluster = 1ull << r.h.info.cluster_bits;
	memory = calloc(2, r.cluster);
	if (!memory)
		return fail(ENOMEM, "disk %s: no memory", r.name);
	r.old = memory;
	r.new = memory + r.cluster;
	rc = blk_read_now(file, 0, r.old, r.cluster);
	if (rc)
		return failno(-rc, "disk %s: qcow2 header", r.name);
	rc = compose(&r, name, format);
	return rc ? rc : write_out(&r, file);
}
