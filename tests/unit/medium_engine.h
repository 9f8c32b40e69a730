// SPDX-License-Identifier: MIT
// An I/O engine whose files are a medium with a volatile cache, in place of blk/engine.c: the real
// raw disk stands on it. Whoever includes this must not use an engine of blk.
#ifndef TESTS_UNIT_MEDIUM_ENGINE_H
#define TESTS_UNIT_MEDIUM_ENGINE_H

#include "blk/raw_parts.h"
#include "tests/unit/medium.h"
#include "tests/unit/test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct blk_engine {
	struct medium *medium;
};

/* A request on its way to the medium. */
struct via {
	struct blk_request r;
	struct blk_request *for_whom;
};

void engine_add(struct blk_engine *e, struct engine_file *f)
{
	f->engine = e;
	f->inflight = 0;
}

void engine_remove(struct engine_file *f)
{
	assert_int_equal(f->inflight, 0);
}

static void via_done(struct blk_request *r, int rc)
{
	struct via *v = container_of(r, struct via, r);
	struct engine_file *f = v->for_whom->file;

	f->inflight--;
	f->done(f, v->for_whom, rc);
	free(v);
}

void engine_submit(struct engine_file *f, struct blk_request *r, enum engine_op op)
{
	static const struct {
		enum blk_op op;
		unsigned flags;
	} as[] = {
		[ENGINE_READ] = {BLK_READ, 0},
		[ENGINE_WRITE] = {BLK_WRITE, 0},
		[ENGINE_WRITE_DURABLE] = {BLK_WRITE, BLK_FUA},
		[ENGINE_SYNC_DATA] = {BLK_FLUSH, 0},
		[ENGINE_PUNCH] = {BLK_WRITE_ZEROES, BLK_UNMAP},
		[ENGINE_ZERO] = {BLK_WRITE_ZEROES, 0},
	};
	struct via *v = calloc(1, sizeof(*v));

	assert_non_null(v);
	r->file = f;
	r->step = op;
	f->inflight++;
	v->for_whom = r;
	v->r = (struct blk_request){.op = as[op].op,
		.flags = as[op].flags,
		.off = op == ENGINE_SYNC_DATA ? 0 : f->base + r->off,
		.len = op == ENGINE_SYNC_DATA ? 0 : r->len,
		.iov = r->iov,
		.iovcnt = r->iovcnt,
		.done = via_done};
	blk_submit(&f->engine->medium->blk, &v->r);
}

void engine_commit(struct blk_engine *e)
{
}

int engine_drain(struct engine_file *f)
{
	while (f->inflight)
		assert_true(medium_step(f->engine->medium));
	return 0;
}

/* A raw disk on the medium; its file is there for its size and kind only. */
static inline struct raw *raw_on_medium(struct blk_engine *e, enum raw_cache cache)
{
	struct raw_config c = {.name = "medium", .cache = cache};
	struct blk *b;

	c.fd = memfd_create("medium", MFD_CLOEXEC);
	assert_true(c.fd >= 0);
	assert_int_equal(ftruncate(c.fd, (off_t)e->medium->blk.size), 0);
	assert_int_equal(raw_create(&b, e, &c), 0);
	return container_of(b, struct raw, blk);
}

#endif
