// SPDX-License-Identifier: MIT
// What was flushed is there after any crash: each layer, over the real raw disk, over a medium with
// a volatile cache. And layers that lie, which must be found out.
#include "tests/unit/fake_blk.h"
#include "tests/unit/medium_engine.h"
#include "tests/unit/trace.h"

#include "blk/guard.h"
#include "blk/limit.h"
#include "blk/memory.h"
#include "blk/overlay.h"

#include <errno.h>
#include <string.h>

#define REQUESTS 800u
#define SMALL (8 * BLK_SECTOR)
#define LARGE (64 * BLK_SECTOR)

/* ---- layers that lie ---- */

enum lie { FLUSH_EARLY, FLUSH_NEVER, DROP_FUA, WRITE_EARLY };

struct liar {
	struct layer layer;
	enum lie lie;
};

/* A write that was called completed long before. */
struct late {
	struct blk_request r;
	struct iovec iov;
	uint8_t data[12 * BLK_SECTOR];
};

static void late_done(struct blk_request *r, int rc)
{
	free(container_of(r, struct late, r));
}

static void submit_late(struct liar *l, const struct blk_request *r)
{
	struct late *late = calloc(1, sizeof(*late));

	assert_non_null(late);
	late->r = *r;
	late->r.done = late_done;
	late->r.iov = &late->iov;
	late->iov = (struct iovec){late->data, r->len};
	if (r->op == BLK_WRITE)
		memcpy(late->data, r->iov[0].iov_base, r->len);
	blk_submit(l->layer.below, &late->r);
}

static void liar_submit(struct blk *b, struct blk_request *r)
{
	struct liar *l = container_of(b, struct liar, layer.blk);

	if (l->lie == DROP_FUA)
		r->flags &= ~(unsigned)BLK_FUA;
	if ((l->lie == FLUSH_EARLY && r->op == BLK_FLUSH) ||
		(l->lie == WRITE_EARLY && r->op == BLK_WRITE))
		submit_late(l, r);
	else if (l->lie != FLUSH_NEVER || r->op != BLK_FLUSH) {
		blk_submit(l->layer.below, r);
		return;
	}
	r->done(r, 0);
}

static int liar_drain(struct blk *b)
{
	return blk_drain(container_of(b, struct layer, blk)->below);
}

static void liar_destroy(struct blk *b)
{
	struct liar *l = container_of(b, struct liar, layer.blk);

	blk_destroy(l->layer.below);
	free(l);
}

static struct blk *tell_lies(struct blk *below, enum lie lie)
{
	static const struct blk_ops ops = {
		.submit = liar_submit,
		.commit = layer_commit,
		.drain = liar_drain,
		.measure = layer_measure,
		.destroy = liar_destroy,
	};
	struct liar *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	layer_init(&l->layer, &ops, below);
	l->lie = lie;
	return &l->layer.blk;
}

/* ---- stacks ---- */

struct stack {
	struct loop *loop;
	struct blk_engine engine;
	struct raw *raw;
	struct trace trace;
};

static void begin(struct stack *s, uint64_t size, enum raw_cache cache)
{
	memset(s, 0, sizeof(*s));
	assert_int_equal(loop_create(&s->loop, "test"), 0);
	s->engine.medium = medium_create(size, 40000);
	s->raw = raw_on_medium(&s->engine, cache);
	s->trace = (struct trace){.blk = &s->raw->blk,
		.medium = s->engine.medium,
		.durable = cache == RAW_WRITETHROUGH,
		.states = size == SMALL ? 128 : 8,
		.seed = 42 + cache};
}

static void end(struct stack *s)
{
	struct medium *m = s->engine.medium;

	blk_destroy(s->trace.blk);
	blk_destroy(&m->blk);
	loop_destroy(s->loop);
}

/* How much is lost. What is not flushed must be behind at times, or nothing was tried. */
static unsigned lost_of(struct stack *s)
{
	struct trace *t = &s->trace;

	trace_begin(t);
	trace_run(t, REQUESTS);
	trace_end(t);
	assert_true(t->seen > 2 * t->steps && t->behind > t->seen);
	return t->lost;
}

static void keeps(void (*build)(struct stack *s), enum raw_cache cache)
{
	const uint64_t sizes[] = {SMALL, LARGE};

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct stack s;

		begin(&s, sizes[i], cache);
		if (build)
			build(&s);
		assert_int_equal(lost_of(&s), 0);
		assert_int_equal(s.trace.misread, 0);
		end(&s);
	}
}

static void test_raw(void **state)
{
	keeps(NULL, RAW_WRITEBACK);
	keeps(NULL, RAW_WRITETHROUGH);
}

/* Its own blocks are 4 KiB: what is not whole ones is read, changed and written. */
static void on_large_blocks(struct stack *s)
{
	s->raw->align = 4096;
	s->raw->slow.bounce = aligned_alloc(4096, RAW_BOUNCE);
	assert_non_null(s->raw->slow.bounce);
}

static void without_zeroes(struct stack *s)
{
	s->raw->no_zero = s->raw->no_punch = true;
}

static void test_raw_slow(void **state)
{
	keeps(on_large_blocks, RAW_WRITEBACK);
	keeps(on_large_blocks, RAW_WRITETHROUGH);
	keeps(without_zeroes, RAW_WRITEBACK);
	keeps(without_zeroes, RAW_WRITETHROUGH);
}

static void add_guard(struct stack *s)
{
	assert_int_equal(guard_create(&s->trace.blk, s->trace.blk), 0);
}

/* The loop does not run, so that requests wait until the disk is drained. */
static void add_limit(struct stack *s)
{
	const struct limit_config limits = {.requests = {1000, 5}};

	assert_int_equal(limit_create(&s->trace.blk, s->loop, s->trace.blk, &limits), 0);
}

static void add_both(struct stack *s)
{
	add_guard(s);
	add_limit(s);
}

static void test_layers(void **state)
{
	keeps(add_guard, RAW_WRITEBACK);
	keeps(add_guard, RAW_WRITETHROUGH);
	keeps(add_limit, RAW_WRITEBACK);
	keeps(add_both, RAW_WRITEBACK);
}

/* Short enough to look at nearly every state that there is. */
static void test_short_traces(void **state)
{
	for (unsigned i = 0; i < 40; i++) {
		struct stack s;

		begin(&s, SMALL, i % 2 ? RAW_WRITEBACK : RAW_WRITETHROUGH);
		add_both(&s);
		s.trace.states = 2000;
		s.trace.seed += i;
		trace_begin(&s.trace);
		trace_run(&s.trace, 6);
		trace_end(&s.trace);
		assert_int_equal(s.trace.lost, 0);
		end(&s);
	}
}

/* Requests that fail have no more than that to be lost. */
static void test_failures(void **state)
{
	struct stack s;

	begin(&s, SMALL, RAW_WRITEBACK);
	add_both(&s);
	trace_begin(&s.trace);
	for (unsigned i = 0; i < 40; i++) {
		s.engine.medium->fail_in = 1 + i % 7;
		trace_run(&s.trace, 20);
	}
	trace_end(&s.trace);
	assert_int_equal(s.trace.lost, 0);
	end(&s);
}

static void is_untouched(void *arg, const uint8_t *image)
{
	for (unsigned i = 0; i < SMALL; i++)
		assert_int_equal(image[i], 0);
}

/* Nothing that is thrown away is to last; what is below is as it was, in every state. */
static void overlay_keeps_below(struct stack *s, struct blk *upper)
{
	struct trace t = {.medium = s->engine.medium, .states = 1, .seed = 7};

	assert_int_equal(overlay_create(&s->trace.blk, s->trace.blk, upper), 0);
	t.blk = s->trace.blk;
	trace_begin(&t);
	trace_run(&t, REQUESTS);
	trace_end(&t);
	assert_int_equal(medium_states(s->engine.medium, 256, is_untouched, NULL), 1);
}

static void test_overlay_memory(void **state)
{
	struct blk *upper;
	struct stack s;

	begin(&s, SMALL, RAW_WRITEBACK);
	assert_int_equal(memory_create(&upper, "upper", SMALL), 0);
	overlay_keeps_below(&s, upper);
	end(&s);
}

static void test_overlay_file(void **state)
{
	struct blk_engine above = {medium_create(SMALL, 40000)};
	struct stack s;

	begin(&s, SMALL, RAW_WRITEBACK);
	overlay_keeps_below(&s, &raw_on_medium(&above, RAW_UNSAFE)->blk);
	end(&s);
	blk_destroy(&above.medium->blk);
}

/* Each lie is found out, or none of the above would mean anything. */
static void test_lies(void **state)
{
	for (enum lie lie = FLUSH_EARLY; lie <= WRITE_EARLY; lie++) {
		struct stack s;

		begin(&s, SMALL, RAW_WRITEBACK);
		s.trace.blk = tell_lies(s.trace.blk, lie);
		if (!lost_of(&s))
			fail_msg("lie %u is not found out", lie);
		end(&s);
	}
}

/* What cache=unsafe says of itself. */
static void test_unsafe(void **state)
{
	struct stack s;

	begin(&s, SMALL, RAW_UNSAFE);
	assert_true(lost_of(&s) > 0);
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_raw_slow),
		cmocka_unit_test(test_layers),
		cmocka_unit_test(test_short_traces),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_overlay_memory),
		cmocka_unit_test(test_overlay_file),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_unsafe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
