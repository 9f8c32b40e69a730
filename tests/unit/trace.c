// SPDX-License-Identifier: MIT
// Random requests, and of each sector what may be found in it.
//
// A sector is written full of one number, which no other write has: so what a sector holds says
// which write that was. No two requests that are under way touch the same sector, so that each
// sector's writes have an order.
#include "tests/unit/trace.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/util.h"

#include <stdlib.h>
#include <string.h>

#define MOST_SECTORS 12u
#define ANYTHING UINT32_MAX /* what was discarded reads so */

struct slot {
	struct blk_request r;
	struct trace *t;
	struct iovec iov;
	uint32_t buf[MOST_SECTORS * BLK_SECTOR / 4];
	uint32_t id;
	unsigned since;
	bool busy, durable;
};

struct tracer {
	struct slot slot[TRACE_DEPTH];
	struct history *sector;
	uint32_t ids;
	unsigned now;
};

static uint64_t random_below(struct trace *t, uint64_t n)
{
	return fake_random(&t->seed) % n;
}

static struct history *history_at(const struct trace *t, uint64_t off)
{
	return &t->tracer->sector[off / BLK_SECTOR];
}

/* ---- what may be found ---- */

static bool is_uniform(const uint8_t *sector)
{
	return memcmp(sector, sector + 4, BLK_SECTOR - 4) == 0;
}

static void look_at_state(void *arg, const uint8_t *image)
{
	struct trace *t = arg;

	if (t->disk_of)
		image = t->disk_of(t->arg, image);
	for (uint64_t off = 0; off < t->blk->size; off += BLK_SECTOR) {
		const struct history *h = history_at(t, off);
		uint32_t id = get_le32(image + off);

		t->behind += id != history_now(h);
		if (!history_has(h, ANYTHING))
			t->lost += !is_uniform(image + off) || !history_has(h, id);
	}
}

static void look(struct trace *t)
{
	t->steps++;
	t->seen += medium_states(t->medium, t->states, look_at_state, t);
}

/* ---- requests ---- */

/* The last that was written, or anything since whose write has failed: none is under way. */
static bool may_be_read(const struct history *h, uint32_t id)
{
	unsigned i = h->n;

	while (i-- > 0) {
		if (h->value[i].id == id || h->value[i].id == ANYTHING)
			return true;
		if (h->value[i].done)
			return false;
	}
	return false;
}

static void check_read(struct slot *s)
{
	for (uint64_t at = 0; at < s->r.len; at += BLK_SECTOR)
		s->t->misread += !may_be_read(history_at(s->t, s->r.off + at), s->buf[at / 4]);
}

static void done(struct blk_request *r, int rc)
{
	struct slot *s = container_of(r, struct slot, r);
	struct tracer *tr = s->t->tracer;

	assert_true(s->busy);
	s->busy = false;
	tr->now++;
	if (rc)
		return;
	if (r->op == BLK_READ)
		check_read(s);
	else if (r->op == BLK_FLUSH)
		for (uint64_t off = 0; off < s->t->blk->size; off += BLK_SECTOR)
			history_flush(history_at(s->t, off), s->since);
	else
		for (uint64_t off = r->off; off < r->off + r->len; off += BLK_SECTOR)
			history_done(history_at(s->t, off), s->id, tr->now, s->durable);
}

static bool conflict(const struct tracer *tr, const struct blk_request *r)
{
	for (unsigned i = 0; i < TRACE_DEPTH; i++) {
		const struct blk_request *o = &tr->slot[i].r;

		if (tr->slot[i].busy && o->off < r->off + r->len && r->off < o->off + o->len)
			return true;
	}
	return false;
}

static bool prepare(struct trace *t, struct slot *s)
{
	static const enum blk_op ops[] = {BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_READ,
		BLK_WRITE_ZEROES, BLK_FLUSH, BLK_DISCARD};
	uint64_t sectors = t->blk->size / BLK_SECTOR;
	uint64_t len = 1 + random_below(t, MIN(MOST_SECTORS, sectors - 1));

	s->r = (struct blk_request){.op = ops[random_below(t, ARRAY_SIZE(ops))],
		.iov = &s->iov,
		.iovcnt = 1,
		.done = done};
	if (s->r.op == BLK_FLUSH)
		return true;
	s->r.off = random_below(t, sectors - len) * BLK_SECTOR;
	s->r.len = len * BLK_SECTOR;
	s->iov = (struct iovec){s->buf, s->r.len};
	if ((s->r.op == BLK_WRITE || s->r.op == BLK_WRITE_ZEROES) && !t->no_fua &&
		random_below(t, 6) == 0)
		s->r.flags = BLK_FUA;
	if (random_below(t, 2))
		s->r.flags |= BLK_UNMAP;
	return !conflict(t->tracer, &s->r);
}

/* Before it is submitted, as it may be completed at once. */
static void expect(struct trace *t, struct slot *s)
{
	struct blk_request *r = &s->r;

	if (r->op == BLK_WRITE)
		s->id = ++t->tracer->ids;
	else
		s->id = r->op == BLK_WRITE_ZEROES ? 0 : ANYTHING;
	for (unsigned i = 0; i < r->len / 4; i++)
		s->buf[i] = s->id;
	if (r->op == BLK_READ || r->op == BLK_FLUSH)
		return;
	s->durable = t->durable || r->flags & BLK_FUA;
	for (uint64_t off = r->off; off < r->off + r->len; off += BLK_SECTOR)
		history_add(history_at(t, off), s->id);
}

static bool submit_one(struct trace *t)
{
	struct tracer *tr = t->tracer;
	struct slot *s = &tr->slot[random_below(t, TRACE_DEPTH)];

	if (s->busy || !prepare(t, s))
		return false;
	s->busy = true;
	s->since = ++tr->now;
	expect(t, s);
	blk_submit(t->blk, &s->r);
	blk_commit(t->blk);
	return true;
}

/* Who looks at completions when it is called, as a driver does, is called. */
static void step(struct trace *t)
{
	medium_step(t->medium);
	blk_commit(t->blk);
}

void trace_start(struct trace *t, unsigned requests)
{
	while (requests) {
		uint64_t what = random_below(t, 16);

		if (what < 9)
			requests -= submit_one(t);
		else if (what < 15)
			step(t);
		else
			assert_int_equal(blk_drain(t->blk), 0);
		look(t);
	}
}

void trace_run(struct trace *t, unsigned requests)
{
	trace_start(t, requests);
	assert_int_equal(blk_drain(t->blk), 0);
	look(t);
}

void trace_settled(struct trace *t)
{
	for (uint64_t off = 0; off < t->blk->size; off += BLK_SECTOR)
		history_flush(history_at(t, off), UINT32_MAX);
	look(t);
}

/* ---- birth and death ---- */

void trace_begin(struct trace *t)
{
	struct tracer *tr = calloc(1, sizeof(*tr));

	assert_non_null(tr);
	tr->sector = calloc(t->blk->size / BLK_SECTOR, sizeof(*tr->sector));
	assert_non_null(tr->sector);
	for (uint64_t i = 0; i < t->blk->size / BLK_SECTOR; i++)
		history_init(&tr->sector[i], t->first ? t->first[i] : 0);
	for (unsigned i = 0; i < TRACE_DEPTH; i++)
		tr->slot[i].t = t;
	tr->now = 1;
	t->tracer = tr;
}

void trace_end(struct trace *t)
{
	for (unsigned i = 0; i < TRACE_DEPTH; i++)
		assert_false(t->tracer->slot[i].busy);
	free(t->tracer->sector);
	free(t->tracer);
}
