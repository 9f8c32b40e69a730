// SPDX-License-Identifier: MIT
// The throw-away layer: what is written reads back, what is below is never written.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/util.h"
#include "blk/overlay_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Not whole chunks. */
#define SIZE (MIB(2) + 3 * BLK_SECTOR)

static int setup(void **state)
{
	static struct fake_layer f;

	fake_layer_init(&f, SIZE);
	f.below->blk.read_only = true;
	assert_int_equal(overlay_memory_create(&f.blk, &f.below->blk), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	fake_layer_finish(*state);
	return 0;
}

/* The disk below has a pattern; random requests above never reach it, nor does a flush. */
static void test_random(void **state)
{
	struct fake_layer *f = *state;
	struct blk_stress s = {.blk = f->blk,
		.loop = f->loop,
		.requests = 100000,
		.depth = 100,
		.unaligned = true,
		.shadow = malloc(SIZE),
		.known = malloc(SIZE / BLK_SECTOR * sizeof(bool))};
	uint8_t *before = malloc(SIZE);

	assert_true(s.shadow && s.known && before);
	for (unsigned i = 0; i < SIZE; i++)
		before[i] = f->below->data[i] = s.shadow[i] = (uint8_t)(i * 7 + i / 512);
	memset(s.known, true, SIZE / BLK_SECTOR * sizeof(bool));
	blk_stress_run(&s, 4711);
	assert_memory_equal(f->below->data, before, SIZE);
	assert_int_equal(f->below->flushes, 0);
	free(before);
	free(s.shadow);
	free(s.known);
}

static void test_mixed(void **state)
{
	static uint8_t buf[8 * BLK_SECTOR], one[BLK_SECTOR];
	struct fake_layer *f = *state;

	memset(f->below->data, 1, SIZE);
	memset(one, 2, sizeof(one));
	assert_int_equal(blk_now(f->blk, BLK_WRITE, 2 * BLK_SECTOR, one, sizeof(one)), 0);
	assert_int_equal(blk_now(f->blk, BLK_READ, 0, buf, sizeof(buf)), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], i / BLK_SECTOR == 2 ? 2 : 1);
	f->below->fail_in = 1;
	assert_int_equal(blk_now(f->blk, BLK_READ, 0, buf, sizeof(buf)), -EIO);
	/* All of it is in memory: nothing below can fail. */
	f->below->fail_in = 1;
	assert_int_equal(blk_now(f->blk, BLK_READ, 2 * BLK_SECTOR, buf, BLK_SECTOR), 0);
}

static void test_ends(void **state)
{
	uint8_t buf[BLK_SECTOR] = {9}, back[BLK_SECTOR];
	struct fake_layer *f = *state;

	assert_int_equal(blk_now(f->blk, BLK_WRITE, SIZE - 512, buf, sizeof(buf)), 0);
	assert_int_equal(blk_now(f->blk, BLK_READ, SIZE - 512, back, sizeof(back)), 0);
	assert_memory_equal(buf, back, sizeof(buf));
	assert_int_equal(blk_now(f->blk, BLK_WRITE_ZEROES, 0, NULL, SIZE), 0);
	assert_int_equal(blk_now(f->blk, BLK_READ, SIZE - 512, back, sizeof(back)), 0);
	assert_int_equal(back[0], 0);
	f->below->measured = 2 * SIZE;
	assert_int_equal(blk_remeasure(f->blk), 0);
}

static void test_no_memory(void **state)
{
	static uint8_t buf[BLK_SECTOR] = {9};
	struct fake_layer *f = *state;
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
		cmocka_unit_test_setup_teardown(test_mixed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
