// SPDX-License-Identifier: MIT
// The state stream: what is put comes out; every cut and every wrong header is refused by name.
#include "base/stream.h"
#include "tests/unit/test.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

static void put_two(struct stream_out *s)
{
	stream_out_init(s);
	stream_begin(s, "one", 2);
	stream_put_u8(s, 1);
	stream_put_u16(s, 0x1234);
	stream_put_u32(s, 0xdeadbeef);
	stream_put_u64(s, 1ull << 60);
	stream_end(s);
	stream_begin(s, "two", 1);
	stream_put(s, "abc", 3);
	stream_end(s);
	assert_int_equal(s->err, 0);
}

static void test_round_trip(void **state)
{
	struct stream_out o;
	struct stream_in i;
	char text[3];

	put_two(&o);
	stream_in_init(&i, o.buf, o.len);
	assert_int_equal(stream_open(&i, "one", 3), 2);
	assert_int_equal(stream_left(&i), 15);
	assert_int_equal(stream_get_u8(&i), 1);
	assert_int_equal(stream_get_u16(&i), 0x1234);
	assert_int_equal(stream_get_u32(&i), 0xdeadbeef);
	assert_true(stream_get_u64(&i) == 1ull << 60);
	assert_int_equal(stream_close(&i), 0);
	assert_int_equal(stream_open(&i, "two", 1), 1);
	stream_get(&i, text, sizeof(text));
	assert_memory_equal(text, "abc", 3);
	assert_int_equal(stream_close(&i), 0);
	stream_out_finish(&o);
}

static void test_refusals(void **state)
{
	struct stream_out o;
	struct stream_in i;

	put_two(&o);
	stream_in_init(&i, o.buf, o.len);
	assert_int_equal(stream_open(&i, "two", 1), -EINVAL);
	assert_non_null(strstr(last_error(), "section one, not two"));
	assert_int_equal(stream_open(&i, "one", 1), -ENOTSUP);
	assert_int_equal(stream_open(&i, "one", 2), 2);
	stream_get_u8(&i);
	assert_int_equal(stream_close(&i), -EINVAL);
	assert_non_null(strstr(last_error(), "14 bytes left over"));
	assert_int_equal(stream_open(&i, "two", 1), 1);
	assert_int_equal(stream_get_u32(&i), 0);
	assert_int_equal(stream_get_u8(&i), 0); /* sticky */
	assert_int_equal(stream_close(&i), -EINVAL);
	stream_out_finish(&o);
}

/* Whatever the length, opening and reading everything ends in an error, not in a wild read. */
static void test_every_cut(void **state)
{
	struct stream_out o;

	put_two(&o);
	for (size_t len = 0; len < o.len; len++) {
		uint8_t *copy = malloc(len + 1);
		struct stream_in i;
		int bad = 0;

		memcpy(copy, o.buf, len);
		stream_in_init(&i, copy, len);
		bad |= stream_open(&i, "one", 2) < 0;
		for (int k = 0; k < 15 && !bad; k++)
			stream_get_u8(&i);
		bad = bad || stream_close(&i) < 0 || stream_open(&i, "two", 1) < 0;
		assert_true(bad);
		free(copy);
	}
	stream_out_finish(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_every_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
