// SPDX-License-Identifier: MIT
// Limits: how long requests take at least, their order, other limits while some wait.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/util.h"
#include "blk/limit.h"

#include <string.h>

#define SIZE MIB(2)
#define REQUESTS 60u
#define MSEC 1000000ull

struct fixture {
	struct loop *loop;
	struct fake_blk *below;
	struct blk *blk;
	uint8_t buf[KIB(64)];
	struct iovec iov;
	struct blk_request r[REQUESTS];
	unsigned order[REQUESTS], ended;
};

static struct fixture f;

static int setup(void **state)
{
	const struct limit_config none = {0};

	memset(&f, 0, sizeof(f));
	assert_int_equal(loop_create(&f.loop, "test"), 0);
	f.below = fake_blk_create(f.loop, SIZE);
	f.below->in_order = true;
	assert_int_equal(limit_create(&f.blk, f.loop, &f.below->blk, &none), 0);
	return 0;
}

static int teardown(void **state)
{
	blk_destroy(f.blk);
	loop_destroy(f.loop);
	return 0;
}

static void done(struct blk_request *r, int rc)
{
	assert_int_equal(rc, 0);
	f.order[f.ended++] = (unsigned)(r - f.r);
	if (f.ended == REQUESTS)
		loop_stop(f.loop);
}

static void submit_all(uint64_t len)
{
	f.iov = (struct iovec){f.buf, len};
	f.ended = 0;
	for (unsigned i = 0; i < REQUESTS; i++) {
		f.r[i] = (struct blk_request){.op = i % 3 ? BLK_READ : BLK_WRITE,
			.len = len,
			.iov = &f.iov,
			.iovcnt = 1,
			.done = done};
		if (i % 10 == 9)
			f.r[i] = (struct blk_request){.op = BLK_FLUSH, .done = done};
		blk_submit(f.blk, &f.r[i]);
	}
	blk_commit(f.blk);
}

static void check_order(void)
{
	assert_int_equal(f.ended, REQUESTS);
	for (unsigned i = 0; i < REQUESTS; i++)
		assert_int_equal(f.order[i], i);
}

/* Ten at once, then one a millisecond. */
static void test_requests(void **state)
{
	uint64_t start;

	limit_set(f.blk, &(struct limit_config){.requests = {1000, 10}});
	start = now_ns();
	submit_all(BLK_SECTOR);
	assert_int_equal(loop_run(f.loop), 0);
	assert_true(now_ns() - start >= 49 * MSEC);
	check_order();
	/* No more wake-ups than tokens. */
	assert_true(f.below->commits <= REQUESTS + 2);
}

/* Flushes cost no bytes: 54 pieces of 8 KiB, of which the last may be a debt. */
static void test_bytes(void **state)
{
	uint64_t start;

	limit_set(f.blk, &(struct limit_config){.bytes = {MIB(8), KIB(8)}});
	start = now_ns();
	submit_all(KIB(8));
	assert_int_equal(loop_run(f.loop), 0);
	assert_true(now_ns() - start >= (54 - 3) * NSEC_PER_SEC / 1024);
	check_order();
}

/* One larger than the burst goes, and is paid for afterwards. */
static void test_larger_than_burst(void **state)
{
	uint64_t start = now_ns();

	limit_set(f.blk, &(struct limit_config){.bytes = {MIB(50), 512}});
	submit_all(KIB(64));
	assert_int_equal(loop_run(f.loop), 0);
	assert_true(now_ns() - start >= 52 * NSEC_PER_SEC / 800);
	check_order();
}

static void lift(void *arg)
{
	limit_set(f.blk, &(struct limit_config){0});
}

static void test_lifted(void **state)
{
	struct timer t = TIMER_INIT(lift, NULL);

	limit_set(f.blk, &(struct limit_config){.requests = {1, 1}});
	submit_all(BLK_SECTOR);
	loop_arm(f.loop, &t, 10 * MSEC);
	assert_int_equal(loop_run(f.loop), 0);
	check_order();
}

static void test_drain(void **state)
{
	limit_set(f.blk, &(struct limit_config){.requests = {1, 1}});
	submit_all(BLK_SECTOR);
	assert_true(f.below->count < REQUESTS);
	assert_int_equal(blk_drain(f.blk), 0);
	check_order();
}

static void test_random(void **state)
{
	const struct limit_config c = {.bytes = {GIB(2), KIB(256)}, .requests = {300000, 40}};

	f.below->in_order = false;
	limit_set(f.blk, &c);
	blk_stress_zeroed(f.blk, f.loop, 100000, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_larger_than_burst, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lifted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
