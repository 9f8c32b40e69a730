// SPDX-License-Identifier: MIT
// The end of a disk: what it has in memory only is written out, and its files are left as those
// expect it who read them without us.
#include "base/log.h"
#include "blk/now.h"
#include "blk/raw.h"
#include "blk/vmdk_parts.h"

#include <string.h>

/* Who reads the file without us may want the last grain whole. */
static int fill_up(const struct vmdk_part *p)
{
	const uint8_t zeroes[BLK_SECTOR] = {0};
	int64_t size = raw_file_size(p->file);

	if (size < 0 || p->linked <= (uint64_t)size)
		return size < 0 ? (int)size : 0;
	return blk_write_now(p->file, p->linked - BLK_SECTOR, zeroes, BLK_SECTOR);
}

static int close_part(struct vmdk_part *p)
{
	int rc = fill_up(p);

	if (rc || p->unclean || !p->header[VMDK_UNCLEAN_AT])
		return rc;
	p->header[VMDK_UNCLEAN_AT] = 0;
	rc = blk_write_now(p->file, 0, p->header, BLK_SECTOR);
	return rc ? rc : blk_flush_now(p->file);
}

static void finish(struct vmdk *d)
{
	int rc = blk_flush_now(&d->blk);

	for (struct vmdk_part *p = d->part; !rc && p < d->part + d->count; p++)
		if (p->kind == VMDK_SPARSE)
			rc = close_part(p);
	if (rc)
		log_error("disk %s: could not be closed as it should, what was not flushed may be "
			  "lost: %s",
			d->blk.name, strerror(-rc));
}

void vmdk_destroy(struct blk *b)
{
	struct vmdk *d = container_of(b, struct vmdk, blk);

	if (!d->blk.read_only)
		finish(d);
	for (struct vmdk_part *p = d->part; p < d->part + d->files; p++)
		blk_destroy(p->file);
	vmdk_free(d);
}
