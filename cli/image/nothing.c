// SPDX-License-Identifier: MIT
#include "cli/image/nothing.h"

#include "base/iov.h"
#include "base/log.h"
#include "blk/blk.h"
#include "blk/raw.h"

#include <errno.h>
#include <stdlib.h>

static void nothing_submit(struct blk *b, struct blk_request *r)
{
	if (r->op == BLK_READ)
		iov_zero(r->iov, r->iovcnt, 0, r->len);
	r->done(r, 0);
}

static int nothing_drain(struct blk *b)
{
	return 0;
}

static int64_t nothing_measure(struct blk *b)
{
	return (int64_t)b->size;
}

static int nothing_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	*out = (struct blk_extent){.len = len, .kind = BLK_EXTENT_ABSENT};
	return 0;
}

static void nothing_destroy(struct blk *b)
{
	free(b);
}

int nothing_create(struct blk **out)
{
	static const struct blk_ops ops = {
		.submit = nothing_submit,
		.drain = nothing_drain,
		.measure = nothing_measure,
		.map = nothing_map,
		.destroy = nothing_destroy,
	};
	struct blk *b = calloc(1, sizeof(*b));

	if (!b)
		return fail(ENOMEM, "out of memory");
	*b = (struct blk){.ops = &ops,
		.name = "nothing",
		.size = RAW_SIZE_MAX,
		.physical_block = BLK_SECTOR,
		.read_only = true};
	*out = b;
	return 0;
}
