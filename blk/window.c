// SPDX-License-Identifier: MIT
#include "blk/window.h"

#include "base/log.h"
#include "base/util.h"
#include "blk/layer.h"

#include <errno.h>
#include <stdlib.h>

struct window {
	struct layer layer;
	uint64_t off;
};

static struct window *of(struct blk *b)
{
	return container_of(b, struct window, layer.blk);
}

static void done(struct blk_request *r, int rc)
{
	r->off -= of(r->window)->off;
	r->done = r->seen;
	r->done(r, rc);
}

static void window_submit(struct blk *b, struct blk_request *r)
{
	if (r->op != BLK_FLUSH) {
		r->off += of(b)->off;
		r->window = b;
		r->seen = r->done;
		r->done = done;
	}
	blk_submit(of(b)->layer.below, r);
}

static int window_drain(struct blk *b)
{
	return blk_drain(of(b)->layer.below);
}

/* A disk below that has become smaller is an error, one that has grown is none of its business. */
static int64_t window_measure(struct blk *b)
{
	int64_t below = layer_measure(b);

	return below < 0 ? below : (int64_t)b->size;
}

static void window_destroy(struct blk *b)
{
	blk_destroy(of(b)->layer.below);
	free(of(b));
}

int window_create(struct blk **out, struct blk *below, uint64_t off, uint64_t len)
{
	static const struct blk_ops ops = {
		.submit = window_submit,
		.commit = layer_commit,
		.drain = window_drain,
		.measure = window_measure,
		.destroy = window_destroy,
	};
	struct window *w;

	if (!range_ok(off, len, below->size))
		return fail(EINVAL, "disk %s: its %llu bytes end before the partition does",
			below->name, (unsigned long long)below->size);
	w = calloc(1, sizeof(*w));
	if (!w)
		return fail(ENOMEM, "disk %s: no memory", below->name);
	layer_init(&w->layer, &ops, below);
	w->layer.blk.size = len;
	w->off = off;
	*out = &w->layer.blk;
	return 0;
}
