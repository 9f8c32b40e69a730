// SPDX-License-Identifier: MIT
// An I/O engine that completes what is asked of it in random order and fails on demand, in place of
// blk/engine.c: the real raw disk stands on it, and real files. Whoever includes this must not use
// an engine of blk.
#ifndef TESTS_UNIT_FAULTY_ENGINE_H
#define TESTS_UNIT_FAULTY_ENGINE_H

#include "blk/engine.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/iov.h"
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#define FAULTY_PENDING 2048u

struct blk_engine {
	struct loop *loop;
	struct timer timer;
	uint64_t seed;
	struct blk_request *pending[FAULTY_PENDING];
	unsigned count;
	unsigned done;    /* operations so far */
	unsigned fail_at; /* that one fails, half of it written; 0: none does */
	int fail_with;    /* errno */
	bool for_good;    /* and so do all that write after it */
	unsigned failed;  /* so many did */
};

const char *const engine_kind_names[] = {"auto", "io_uring", "sync", NULL};

static int64_t faulty_move(const struct blk_request *r, uint64_t len)
{
	struct iovec iov[BLK_IOV_MAX];
	unsigned n = iov_slice(iov, r->iov, r->iovcnt, 0, len);
	off_t off = (off_t)(r->file->base + r->off);
	ssize_t moved = r->step == ENGINE_READ ? preadv(r->file->fd, iov, (int)n, off)
					       : pwritev(r->file->fd, iov, (int)n, off);

	if (moved >= 0 && r->step == ENGINE_READ && (uint64_t)moved < len) {
		if (!r->file->endless)
			return -EIO;
		iov_zero(r->iov, r->iovcnt, (size_t)moved, len - (size_t)moved);
	}
	return moved < 0 ? -errno : 0;
}

static int faulty_do(struct blk_engine *e, const struct blk_request *r)
{
	bool writes = r->step == ENGINE_WRITE || r->step == ENGINE_WRITE_DURABLE;
	int mode = FALLOC_FL_KEEP_SIZE;

	e->done++;
	if (e->fail_at &&
		(e->done == e->fail_at || (e->for_good && writes && e->done > e->fail_at))) {
		e->failed++;
		if (writes && r->len > BLK_SECTOR)
			faulty_move(r, r->len / 2 & ~(uint64_t)(BLK_SECTOR - 1));
		return -e->fail_with;
	}
	if (r->step == ENGINE_SYNC_DATA)
		return 0;
	if (r->step == ENGINE_READ || writes)
		return (int)faulty_move(r, r->len);
	mode |= r->step == ENGINE_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	return fallocate(r->file->fd, mode, (off_t)r->off, (off_t)r->len) < 0 ? -errno : 0;
}

static void faulty_step(struct blk_engine *e)
{
	unsigned i = (unsigned)(fake_random(&e->seed) % e->count);
	struct blk_request *r = e->pending[i];
	int rc = faulty_do(e, r);

	e->pending[i] = e->pending[--e->count];
	r->file->inflight--;
	r->file->done(r->file, r, rc);
}

static void faulty_fired(void *arg)
{
	struct blk_engine *e = arg;

	for (unsigned n = 1 + (unsigned)(fake_random(&e->seed) % 4); n && e->count; n--)
		faulty_step(e);
	engine_commit(e);
}

static inline void faulty_init(struct blk_engine *e, struct loop *loop, uint64_t seed)
{
	*e = (struct blk_engine){.loop = loop, .seed = seed, .timer = TIMER_INIT(faulty_fired, e)};
}

void engine_add(struct blk_engine *e, struct engine_file *f)
{
	f->engine = e;
	f->inflight = 0;
}

void engine_remove(struct engine_file *f)
{
	assert_int_equal(f->inflight, 0);
}

void engine_submit(struct engine_file *f, struct blk_request *r, enum engine_op op)
{
	struct blk_engine *e = f->engine;

	assert_true(e->count < FAULTY_PENDING);
	r->file = f;
	r->step = op;
	f->inflight++;
	e->pending[e->count++] = r;
}

void engine_commit(struct blk_engine *e)
{
	if (e->count && !e->timer.at_ns)
		loop_arm(e->loop, &e->timer, 0);
}

int engine_drain(struct engine_file *f)
{
	while (f->inflight)
		faulty_step(f->engine);
	return 0;
}

#endif
