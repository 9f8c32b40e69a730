// SPDX-License-Identifier: MIT
// What blk_submit lets through, and what it answers itself.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

#define SIZE (64 * BLK_SECTOR)

static int setup(void **state)
{
	static struct fake_blk *f;
	struct loop *loop;

	assert_int_equal(loop_create(&loop, "test"), 0);
	f = fake_blk_create(loop, SIZE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fake_blk *f = *state;
	struct loop *loop = f->loop;

	blk_destroy(&f->blk);
	loop_destroy(loop);
	return 0;
}

static void test_range(void **state)
{
	static uint8_t buf[SIZE + BLK_SECTOR];
	struct fake_blk *f = *state;
	struct blk *b = &f->blk;

	assert_int_equal(blk_now(b, BLK_READ, 0, buf, SIZE), 0);
	assert_int_equal(blk_now(b, BLK_READ, 0, buf, SIZE + BLK_SECTOR), -EINVAL);
	assert_int_equal(blk_now(b, BLK_WRITE, SIZE, buf, BLK_SECTOR), -EINVAL);
	assert_int_equal(blk_now(b, BLK_WRITE, SIZE - BLK_SECTOR, buf, BLK_SECTOR), 0);
	assert_int_equal(blk_now(b, BLK_READ, UINT64_MAX & ~511ull, buf, 1024), -EINVAL);
	assert_int_equal(blk_now(b, BLK_DISCARD, BLK_SECTOR, NULL, SIZE), -EINVAL);
	assert_int_equal(blk_now(b, BLK_READ, 1, buf, BLK_SECTOR), -EINVAL);
	assert_int_equal(blk_now(b, BLK_READ, 0, buf, BLK_SECTOR + 1), -EINVAL);
	assert_int_equal(blk_now(b, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(blk_now(b, BLK_FLUSH, 0, NULL, BLK_SECTOR), -EINVAL);
	assert_int_equal(blk_now(b, (enum blk_op)(BLK_WRITE_ZEROES + 1), 0, NULL, 0), -EINVAL);
	assert_int_equal(f->writes, 1);
}

static void test_nothing_to_do(void **state)
{
	struct fake_blk *f = *state;

	f->fail_in = 1;
	assert_int_equal(blk_now(&f->blk, BLK_READ, SIZE, NULL, 0), 0);
	f->blk.discard_align = 0;
	assert_int_equal(blk_now(&f->blk, BLK_DISCARD, 0, NULL, BLK_SECTOR), 0);
	assert_int_equal(blk_now(&f->blk, BLK_FLUSH, 0, NULL, 0), -EIO); /* it was the first */
}

static void test_read_only(void **state)
{
	struct fake_blk *f = *state;
	uint8_t buf[BLK_SECTOR] = {1};

	f->blk.read_only = true;
	assert_int_equal(blk_now(&f->blk, BLK_WRITE, 0, buf, sizeof(buf)), -EROFS);
	assert_int_equal(blk_now(&f->blk, BLK_DISCARD, 0, NULL, sizeof(buf)), -EROFS);
	assert_int_equal(blk_now(&f->blk, BLK_WRITE_ZEROES, 0, NULL, sizeof(buf)), -EROFS);
	assert_int_equal(blk_now(&f->blk, BLK_READ, 0, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(blk_now(&f->blk, BLK_FLUSH, 0, NULL, 0), 0);
}

static void refused(struct blk_request *r, int rc)
{
	assert_int_equal(rc, -EINVAL);
	r->flags = ~0u;
}

static void test_too_many_pieces(void **state)
{
	struct fake_blk *f = *state;
	struct blk_request r = {
		.op = BLK_READ, .len = BLK_SECTOR, .iovcnt = BLK_IOV_MAX + 1, .done = refused};

	blk_submit(&f->blk, &r);
	assert_int_equal(r.flags, ~0u);
}

static void test_remeasure(void **state)
{
	struct fake_blk *f = *state;

	assert_int_equal(blk_remeasure(&f->blk), 0);
	f->measured = 2 * SIZE;
	assert_int_equal(blk_remeasure(&f->blk), 1);
	assert_int_equal(f->blk.size, 2 * SIZE);
	f->measured = SIZE;
	assert_int_equal(blk_remeasure(&f->blk), -EINVAL);
	assert_int_equal(strncmp(last_error(), "disk fake: has become smaller", 28), 0);
	f->measured = -EIO;
	assert_int_equal(blk_remeasure(&f->blk), -EIO);
	assert_int_equal(f->blk.size, 2 * SIZE);
	blk_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_range, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_to_do, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remeasure, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
