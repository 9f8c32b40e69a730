// SPDX-License-Identifier: MIT
// Writes to the first sector, one at a time: the sector is copied, the copy judged and written,
// then the rest of the request as it is. Guest memory changes while it is looked at.
#include "blk/guard.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/layer.h"
#include "blk/probe.h"

#include <errno.h>
#include <stdlib.h>

struct guard {
	struct layer layer;
	struct blk_line line;
	struct blk_request *now;
	struct blk_request part; /* the first sector, then the rest of `now` */
	struct iovec first, rest[BLK_IOV_MAX];
	uint8_t sector[PROBE_BYTES];
	bool told;
};

_Static_assert(PROBE_BYTES == BLK_SECTOR, "one sector is copied and judged");

static struct guard *of(struct blk *b)
{
	return container_of(b, struct guard, layer.blk);
}

static void next(struct guard *g);

static void end(struct guard *g, int rc)
{
	struct blk_request *r = g->now;

	g->now = NULL;
	r->done(r, rc);
	next(g);
}

static void rest_done(struct blk_request *part, int rc)
{
	end(container_of(part, struct guard, part), rc);
}

static void sector_done(struct blk_request *part, int rc)
{
	struct guard *g = container_of(part, struct guard, part);
	const struct blk_request *r = g->now;

	if (rc || r->len == BLK_SECTOR) {
		end(g, rc);
		return;
	}
	g->part = (struct blk_request){
		.op = BLK_WRITE,
		.flags = r->flags,
		.off = BLK_SECTOR,
		.len = r->len - BLK_SECTOR,
		.iov = g->rest,
		.iovcnt = iov_slice(g->rest, r->iov, r->iovcnt, BLK_SECTOR, r->len - BLK_SECTOR),
		.done = rest_done,
	};
	blk_submit(g->layer.below, &g->part);
	blk_commit(g->layer.below);
}

static void write_sector(struct guard *g)
{
	g->first = (struct iovec){g->sector, sizeof(g->sector)};
	g->part = (struct blk_request){
		.op = BLK_WRITE,
		.flags = g->now->flags,
		.len = BLK_SECTOR,
		.iov = &g->first,
		.iovcnt = 1,
		.done = sector_done,
	};
	blk_submit(g->layer.below, &g->part);
	blk_commit(g->layer.below);
}

static bool allowed(struct guard *g)
{
	const char *format = probe_format(g->sector, sizeof(g->sector));

	if (format && !g->told)
		log_warn("disk %s: the guest wants to write what would make it a %s image, which "
			 "is refused; format=raw allows it",
			g->layer.blk.name, format);
	g->told |= format != NULL;
	return !format;
}

static void next(struct guard *g)
{
	while (!g->now && (g->now = line_take(&g->line))) {
		struct blk_request *r = g->now;

		iov_read(r->iov, r->iovcnt, 0, g->sector, sizeof(g->sector));
		if (allowed(g)) {
			write_sector(g);
			return;
		}
		g->now = NULL;
		r->done(r, -EPERM);
	}
}

static void guard_submit(struct blk *b, struct blk_request *r)
{
	struct guard *g = of(b);

	if (r->op != BLK_WRITE || r->off >= PROBE_BYTES) {
		blk_submit(g->layer.below, r);
		return;
	}
	line_append(&g->line, r);
	next(g);
}

static int guard_drain(struct blk *b)
{
	struct guard *g = of(b);
	int rc;

	do
		rc = blk_drain(g->layer.below);
	while (!rc && g->now);
	return rc;
}

static void guard_destroy(struct blk *b)
{
	struct guard *g = of(b);

	blk_destroy(g->layer.below);
	free(g);
}

int guard_create(struct blk **out, struct blk *below)
{
	static const struct blk_ops ops = {
		.submit = guard_submit,
		.commit = layer_commit,
		.drain = guard_drain,
		.measure = layer_measure,
		.destroy = guard_destroy,
	};
	struct guard *g = calloc(1, sizeof(*g));

	if (!g)
		return fail(ENOMEM, "disk %s: no memory", below->name);
	layer_init(&g->layer, &ops, below);
	*out = &g->layer.blk;
	return 0;
}
