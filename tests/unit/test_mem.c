// SPDX-License-Identifier: MIT
// Guest memory: every edge of every piece, the hole, wrapping lengths, tracked pages.
#include "hw/mem.h"
#include "tests/unit/test.h"

#include "base/log.h"
#include "hw/layout.h"

#include <errno.h>

static void check_edges(enum mem_backing backing)
{
	const uint64_t high = MIB(8);
	struct mem *m;
	uint64_t v = 0x1122334455667788, got = 0;

	assert_int_equal(mem_create(&m, LAYOUT_HOLE_START + high, backing), 0);
	assert_int_equal(mem_write(m, LAYOUT_HOLE_START - 8, &v, 8), 0);
	assert_int_equal(mem_read(m, LAYOUT_HOLE_START - 8, &got, 8), 0);
	assert_true(got == v);
	assert_int_equal(mem_write(m, LAYOUT_HOLE_START - 7, &v, 8), -EFAULT);
	assert_int_equal(mem_write(m, LAYOUT_HOLE_END - 4, &v, 8), -EFAULT);
	assert_int_equal(mem_write(m, LAYOUT_HOLE_END, &v, 8), 0);
	assert_int_equal(mem_write(m, LAYOUT_HOLE_END + high - 8, &v, 8), 0);
	assert_int_equal(mem_write(m, LAYOUT_HOLE_END + high - 7, &v, 8), -EFAULT);
	assert_null(mem_get(m, 0, UINT64_MAX));
	assert_null(mem_get(m, 1, UINT64_MAX));
	assert_null(mem_get(m, UINT64_MAX, 1));
	assert_null(mem_get(m, UINT64_MAX - 3, 8));
	assert_null(mem_get(m, 0, 0));
	assert_null(mem_get(m, 0, LAYOUT_HOLE_START + 1));
	assert_non_null(mem_get(m, 0, LAYOUT_HOLE_START));
	assert_int_equal(mem_read(m, 0, NULL, 0), 0);
	assert_int_equal(mem_fd(m) >= 0, backing == MEM_SHARED);
	assert_int_equal(mem_clear(m), 0);
	assert_int_equal(mem_read(m, LAYOUT_HOLE_END, &got, 8), 0);
	assert_true(got == 0);
	mem_destroy(m);
}

static void test_edges(void **state)
{
	check_edges(MEM_PRIVATE);
	check_edges(MEM_SHARED);
}

static void test_bad_sizes(void **state)
{
	struct mem *m;

	assert_int_equal(mem_create(&m, 0, MEM_PRIVATE), -EINVAL);
	assert_int_equal(mem_create(&m, 1, MEM_PRIVATE), -EINVAL);
	assert_int_equal(mem_create(&m, MIB(1) + 1, MEM_PRIVATE), -EINVAL);
	assert_int_equal(mem_create(&m, GIB(1) << 20, MEM_PRIVATE), -ENOMEM);
	assert_non_null(strstr(last_error(), "this host has"));
}

static void test_tracking(void **state)
{
	struct mem *m;
	uint64_t bits[2048 / 64], any = 0;

	assert_int_equal(mem_create(&m, MIB(8), MEM_PRIVATE), 0);
	assert_int_equal(mem_write(m, 0x5000, "x", 1), 0); /* before: not seen */
	assert_int_equal(mem_track_start(m), 0);
	assert_int_equal(mem_bitmap_size(m, 0), sizeof(bits));
	assert_int_equal(mem_write(m, 0x1fff, "xy", 2), 0);
	mem_dirty_ptr(m, mem_get(m, MIB(8) - 1, 1), 1);
	mem_track_take(m, 0, bits);
	assert_true(bits[0] == ((1 << 1) | (1 << 2)));
	assert_true(bits[2048 / 64 - 1] == 1ull << 63);
	mem_track_take(m, 0, bits);
	for (size_t i = 0; i < 2048 / 64; i++)
		any |= bits[i];
	assert_true(any == 0);
	mem_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_bad_sizes),
		cmocka_unit_test(test_tracking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
