// SPDX-License-Identifier: MIT
// The disk in memory: its ends, memory that is given back, memory that the host does not give.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/util.h"
#include "blk/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* Not whole chunks. */
#define SIZE (MIB(8) + 3 * BLK_SECTOR)

struct fixture {
	struct loop *loop;
	struct blk *blk;
};

static int setup(void **state)
{
	static struct fixture f;

	assert_int_equal(loop_create(&f.loop, "test"), 0);
	assert_int_equal(memory_create(&f.blk, "memory", SIZE), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	blk_destroy(f->blk);
	loop_destroy(f->loop);
	return 0;
}

static void test_random(void **state)
{
	struct fixture *f = *state;

	blk_stress_zeroed(f->blk, f->loop, 100000, 32);
}

static void test_ends(void **state)
{
	uint8_t buf[BLK_SECTOR] = {9}, back[BLK_SECTOR];
	struct fixture *f = *state;

	assert_int_equal(blk_now(f->blk, BLK_WRITE, SIZE - 512, buf, sizeof(buf)), 0);
	assert_int_equal(blk_now(f->blk, BLK_READ, SIZE - 512, back, sizeof(back)), 0);
	assert_memory_equal(buf, back, sizeof(buf));
	assert_int_equal(blk_now(f->blk, BLK_WRITE, SIZE, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(blk_now(f->blk, BLK_WRITE_ZEROES, 0, NULL, SIZE), 0);
	assert_int_equal(blk_now(f->blk, BLK_READ, SIZE - 512, back, sizeof(back)), 0);
	assert_int_equal(back[0], 0);
	assert_int_equal(blk_remeasure(f->blk), 0);
}

static long resident_pages(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	long pages;

	assert_non_null(statm);
	assert_int_equal(fscanf(statm, "%*d %ld", &pages), 1);
	fclose(statm);
	return pages;
}

static void test_gives_back(void **state)
{
	static uint8_t buf[MIB(8)];
	struct fixture *f = *state;
	long empty, full, after;

	memset(buf, 1, sizeof(buf));
	empty = resident_pages();
	assert_int_equal(blk_now(f->blk, BLK_WRITE, 0, buf, sizeof(buf)), 0);
	full = resident_pages();
	assert_int_equal(blk_now(f->blk, BLK_DISCARD, 0, NULL, MIB(4)), 0);
	assert_int_equal(blk_now(f->blk, BLK_WRITE_ZEROES, MIB(4), NULL, MIB(4)), 0);
	after = resident_pages();
	assert_in_range(full - empty, MIB(8) / 4096, MIB(9) / 4096);
	assert_in_range(full - after, MIB(7) / 4096, MIB(9) / 4096);
}

static void test_no_memory(void **state)
{
	static uint8_t buf[BLK_SECTOR] = {9};
	struct fixture *f = *state;
	struct rlimit was, none;
	int rc[2];

	assert_int_equal(blk_now(f->blk, BLK_WRITE, 0, buf, sizeof(buf)), 0);
	assert_int_equal(getrlimit(RLIMIT_AS, &was), 0);
	none = (struct rlimit){1, was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	rc[0] = blk_now(f->blk, BLK_WRITE, MIB(1), buf, sizeof(buf));
	rc[1] = blk_now(f->blk, BLK_WRITE, BLK_SECTOR, buf, sizeof(buf));
	assert_int_equal(setrlimit(RLIMIT_AS, &was), 0);
	assert_int_equal(rc[0], -ENOMEM);
	assert_int_equal(rc[1], 0);
	assert_int_equal(blk_now(f->blk, BLK_WRITE, MIB(1), buf, sizeof(buf)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gives_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
