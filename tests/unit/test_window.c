// SPDX-License-Identifier: MIT
// A part of a disk: what lies around it stays, and it ends where it does.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "blk/window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIZE MIB(4)
#define OFF (MIB(1) + BLK_SECTOR)
#define LEN MIB(2)

static void test_within(void **state)
{
	static uint8_t around[SIZE];
	struct fake_layer f;

	fake_layer_init(&f, SIZE);
	memset(around, 5, sizeof(around));
	memcpy(f.below->data, around, OFF);
	memcpy(f.below->data + OFF + LEN, around, SIZE - OFF - LEN);
	assert_int_equal(window_create(&f.blk, &f.below->blk, OFF, LEN), 0);
	assert_int_equal(f.blk->size, LEN);
	blk_stress_zeroed(f.blk, f.loop, 30000, 32);
	assert_memory_equal(f.below->data, around, OFF);
	assert_memory_equal(f.below->data + OFF + LEN, around, SIZE - OFF - LEN);
	assert_int_equal(blk_now(f.blk, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(blk_now(f.blk, BLK_READ, LEN, around, BLK_SECTOR), -EINVAL);
	fake_layer_finish(&f);
}

static void test_size(void **state)
{
	struct fake_layer f;
	struct blk *b;

	fake_layer_init(&f, SIZE);
	assert_int_equal(window_create(&b, &f.below->blk, SIZE - LEN + BLK_SECTOR, LEN), -EINVAL);
	assert_non_null(strstr(last_error(), "end before the partition does"));
	assert_int_equal(window_create(&f.blk, &f.below->blk, SIZE - LEN, LEN), 0);
	f.below->measured = SIZE + MIB(1);
	assert_int_equal(blk_remeasure(f.blk), 0);
	assert_int_equal(f.blk->size, LEN);
	f.below->measured = SIZE - BLK_SECTOR;
	assert_int_equal(blk_remeasure(f.blk), -EINVAL);
	fake_layer_finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_within),
		cmocka_unit_test(test_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
