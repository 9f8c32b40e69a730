// SPDX-License-Identifier: MIT
// Errors are recorded, given context, cut and never lost; a guest's mistakes are limited in rate.
#include "base/log.h"
#include "tests/unit/test.h"

#include <errno.h>

static void test_fail(void **state)
{
	assert_int_equal(fail(EINVAL, "disk %s: bad", "a.img"), -EINVAL);
	assert_string_equal(last_error(), "disk a.img: bad");
	assert_int_equal(failno(ENOENT, "kernel %s", "k"), -ENOENT);
	assert_string_equal(last_error(), "kernel k: No such file or directory");
	assert_int_equal(fail_context(-ENOENT, "machine %s", "m"), -ENOENT);
	assert_string_equal(last_error(), "machine m: kernel k: No such file or directory");
	assert_int_equal(fail(EIO, "again: %s", last_error()), -EIO);
	assert_string_equal(last_error(), "again: machine m: kernel k: No such file or directory");
}

static void test_long(void **state)
{
	char big[6000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(fail(EINVAL, "name %s: bad", big), -EINVAL);
	assert_in_range(strlen(last_error()), 3700, 3999);
	assert_memory_equal(last_error(), "name xxx", 8);
	assert_non_null(strstr(last_error(), "xxx ... xxx"));
	assert_string_equal(strrchr(last_error(), 'x'), "x: bad");
	for (int i = 0; i < 50; i++)
		assert_int_equal(fail_context(-EINVAL, "%s", "more"), -EINVAL);
	assert_memory_equal(last_error(), "more: more: ", 12);
	assert_string_equal(strrchr(last_error(), 'x'), "x: bad");
	/* It would fit but for why. */
	assert_int_equal(failno(ENAMETOOLONG, "%.3990s", big), -ENAMETOOLONG);
	assert_memory_equal(last_error(), "xxx", 3);
	assert_string_equal(strrchr(last_error(), 'x'), "x: File name too long");
}

static void test_rate(void **state)
{
	struct guest_log g = {0};
	uint64_t first;

	log_set_level(LOG_LEVEL_ERROR);
	guest_error(&g, "dev", "mistake");
	first = g.next_ns;
	assert_true(first > 0);
	for (int i = 0; i < 1000; i++)
		guest_error(&g, "dev", "mistake %d", i);
	assert_int_equal(g.count, 1001);
	assert_true(g.next_ns == first || g.next_ns >= first + NSEC_PER_SEC);
	log_set_level(LOG_LEVEL_WARN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fail),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
