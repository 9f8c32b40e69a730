// SPDX-License-Identifier: MIT
// What is checked once, whatever kind of disk is below.
#include "blk/blk.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <stddef.h>

static bool changes(const struct blk_request *r)
{
	return r->op == BLK_WRITE || r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES;
}

static int check(const struct blk *b, const struct blk_request *r)
{
	if (r->op > BLK_WRITE_ZEROES || r->iovcnt > BLK_IOV_MAX)
		return -EINVAL;
	if ((r->off | r->len) % BLK_SECTOR || !range_ok(r->off, r->len, b->size))
		return -EINVAL;
	if (r->op == BLK_FLUSH && (r->off || r->len))
		return -EINVAL;
	return b->read_only && changes(r) ? -EROFS : 0;
}

/* What needs no disk. */
static bool nothing_to_do(const struct blk *b, const struct blk_request *r)
{
	if (r->op == BLK_DISCARD && !b->discard_align)
		return true;
	return r->op != BLK_FLUSH && r->len == 0;
}

void blk_submit(struct blk *b, struct blk_request *r)
{
	int rc = check(b, r);

	r->blk = b;
	r->next = NULL;
	if (rc || nothing_to_do(b, r))
		r->done(r, rc);
	else
		b->ops->submit(b, r);
}

void blk_commit(struct blk *b)
{
	if (b->ops->commit)
		b->ops->commit(b);
}

int blk_drain(struct blk *b)
{
	return b->ops->drain(b);
}

int blk_remeasure(struct blk *b)
{
	int64_t size = b->ops->measure(b);

	if (size < 0)
		return (int)size;
	if ((uint64_t)size < b->size)
		return fail(EINVAL, "disk %s: has become smaller, %lld bytes where it had %llu",
			b->name, (long long)size, (unsigned long long)b->size);
	if ((uint64_t)size == b->size)
		return 0;
	b->size = (uint64_t)size;
	return 1;
}

int blk_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	*out = (struct blk_extent){.len = len, .kind = BLK_EXTENT_DATA};
	return b->ops->map ? b->ops->map(b, off, len, out) : 0;
}

int blk_resize(struct blk *b, uint64_t size)
{
	if (!b->ops->resize)
		return fail(ENOTSUP, "disk %s: its size cannot be changed", b->name);
	return b->ops->resize(b, size);
}

void blk_destroy(struct blk *b)
{
	if (b)
		b->ops->destroy(b);
}
