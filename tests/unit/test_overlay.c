// SPDX-License-Identifier: MIT
// The throw-away layer: what is written reads back, what is below is never written.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/util.h"
#include "blk/memory.h"
#include "blk/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Not whole words of the map. */
#define SIZE (MIB(2) + 3 * BLK_SECTOR)

struct fixture {
	struct fake_layer layer;
	struct fake_blk *upper; /* NULL: the one in memory */
};

static struct fixture f;

static void stand_on(struct blk *upper)
{
	f.layer.below->blk.read_only = true;
	assert_int_equal(overlay_create(&f.layer.blk, &f.layer.below->blk, upper), 0);
}

static int setup_memory(void **state)
{
	struct blk *upper;

	f.upper = NULL;
	fake_layer_init(&f.layer, SIZE);
	assert_int_equal(memory_create(&upper, "upper", SIZE), 0);
	stand_on(upper);
	return 0;
}

/* What it holds at first is of no account, nor that it is larger. */
static int setup(void **state)
{
	fake_layer_init(&f.layer, SIZE);
	f.upper = fake_blk_create(f.layer.loop, SIZE + 4096);
	memset(f.upper->data, 0xaa, SIZE + 4096);
	stand_on(&f.upper->blk);
	return 0;
}

static int teardown(void **state)
{
	fake_layer_finish(&f.layer);
	return 0;
}

/* The disk below has a pattern; random requests above never reach it, nor does a flush. */
static void random_requests(unsigned depth)
{
	struct blk_stress s = {.blk = f.layer.blk,
		.loop = f.layer.loop,
		.requests = 100000,
		.depth = depth,
		.unaligned = true,
		.shadow = malloc(SIZE),
		.known = malloc(SIZE / BLK_SECTOR * sizeof(bool))};
	uint8_t *before = malloc(SIZE);

	assert_true(s.shadow && s.known && before);
	for (unsigned i = 0; i < SIZE; i++)
		before[i] = f.layer.below->data[i] = s.shadow[i] = (uint8_t)(i * 7 + i / 512);
	memset(s.known, true, SIZE / BLK_SECTOR * sizeof(bool));
	blk_stress_run(&s, 4711 + depth);
	assert_memory_equal(f.layer.below->data, before, SIZE);
	assert_int_equal(f.layer.below->flushes, 0);
	free(before);
	free(s.shadow);
	free(s.known);
}

static void test_random(void **state)
{
	random_requests(100);
}

/* More at once than may be under way. */
static void test_crowd(void **state)
{
	random_requests(300);
}

static uint8_t buf[128 * BLK_SECTOR], one[BLK_SECTOR];

/* Every third sector of the first 128 is above, and has a 2; a 1 is below. */
static void write_holes(void)
{
	memset(f.layer.below->data, 1, SIZE);
	memset(one, 2, sizeof(one));
	for (unsigned i = 0; i < 128; i += 3)
		assert_int_equal(
			blk_now(f.layer.blk, BLK_WRITE, i * BLK_SECTOR, one, BLK_SECTOR), 0);
}

static void test_mixed(void **state)
{
	write_holes();
	assert_int_equal(blk_now(f.layer.blk, BLK_READ, 0, buf, sizeof(buf)), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], i / BLK_SECTOR % 3 ? 1 : 2);
	f.layer.below->fail_in = 20;
	assert_int_equal(blk_now(f.layer.blk, BLK_READ, 0, buf, sizeof(buf)), -EIO);
	/* All of it is above: nothing below can fail. */
	f.layer.below->fail_in = 1;
	assert_int_equal(blk_now(f.layer.blk, BLK_READ, 3 * BLK_SECTOR, buf, BLK_SECTOR), 0);
	f.layer.below->fail_in = 0;
	/* A run of one kind is one request. */
	f.layer.below->reads = 0;
	assert_int_equal(blk_now(f.layer.blk, BLK_READ, 128 * BLK_SECTOR, buf, 64 * BLK_SECTOR), 0);
	assert_int_equal(f.layer.below->reads, 1);
}

static void test_failures_above(void **state)
{
	write_holes();
	f.upper->fail_in = 7;
	assert_int_equal(blk_now(f.layer.blk, BLK_READ, 0, buf, sizeof(buf)), -EIO);
	/* A write that fails leaves what was there. */
	f.upper->fail_in = 1;
	assert_int_equal(blk_now(f.layer.blk, BLK_WRITE, BLK_SECTOR, one, BLK_SECTOR), -EIO);
	f.upper->fail_in = 1;
	assert_int_equal(blk_now(f.layer.blk, BLK_WRITE_ZEROES, BLK_SECTOR, NULL, 1024), -EIO);
	assert_int_equal(blk_now(f.layer.blk, BLK_READ, BLK_SECTOR, buf, 1024), 0);
	for (unsigned i = 0; i < 1024; i++)
		assert_int_equal(buf[i], 1);
}

static void test_ends(void **state)
{
	uint8_t last[BLK_SECTOR] = {9}, back[BLK_SECTOR];
	struct blk *b = f.layer.blk;

	assert_int_equal(blk_now(b, BLK_WRITE, SIZE - 512, last, sizeof(last)), 0);
	assert_int_equal(blk_now(b, BLK_READ, SIZE - 512, back, sizeof(back)), 0);
	assert_memory_equal(last, back, sizeof(last));
	assert_int_equal(blk_now(b, BLK_WRITE, SIZE, last, sizeof(last)), -EINVAL);
	assert_int_equal(blk_now(b, BLK_WRITE_ZEROES, 0, NULL, SIZE), 0);
	assert_int_equal(blk_now(b, BLK_READ, SIZE - 512, back, sizeof(back)), 0);
	assert_int_equal(back[0], 0);
	f.layer.below->measured = 2 * SIZE;
	assert_int_equal(blk_remeasure(b), 0);
}

static void test_smaller(void **state)
{
	struct fake_blk *upper;
	struct blk *b;

	fake_layer_init(&f.layer, SIZE);
	upper = fake_blk_create(f.layer.loop, SIZE - BLK_SECTOR);
	assert_int_equal(overlay_create(&b, &f.layer.below->blk, &upper->blk), -EINVAL);
	blk_destroy(&upper->blk);
	blk_destroy(&f.layer.below->blk);
	fake_layer_finish(&f.layer);
}

#define BOTH(test)                                                                                 \
	cmocka_unit_test_setup_teardown(test, setup_memory, teardown),                             \
		cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_random),
		BOTH(test_crowd),
		BOTH(test_mixed),
		BOTH(test_ends),
		cmocka_unit_test_setup_teardown(test_failures_above, setup, teardown),
		cmocka_unit_test(test_smaller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
