// SPDX-License-Identifier: MIT
// What becomes of requests that fail, by policy; and that a guest's own mistakes are none.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "blk/guard.h"
#include "blk/on_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SIZE MIB(1)
#define IO_ERROR "Input/output error" /* as glibc says it */

struct fixture {
	struct fake_layer layer;
	struct blk *judge;
	unsigned stops;
	char why[192];
};

static struct fixture f;

static void stopped(void *arg, const char *why)
{
	assert_ptr_equal(arg, &f);
	f.stops++;
	snprintf(f.why, sizeof(f.why), "%s", why);
}

static void make(enum on_error policy)
{
	const struct on_error_config c = {policy, "data", stopped, &f};

	f = (struct fixture){0};
	fake_layer_init(&f.layer, SIZE);
	assert_int_equal(on_error_create(&f.layer.blk, &f.layer.below->blk, &c), 0);
	f.judge = f.layer.blk;
}

static int setup_report(void **state)
{
	make(ON_ERROR_REPORT);
	return 0;
}

static int setup_stop(void **state)
{
	make(ON_ERROR_STOP);
	return 0;
}

static int setup_ignore(void **state)
{
	make(ON_ERROR_IGNORE);
	return 0;
}

static int teardown(void **state)
{
	fake_layer_finish(&f.layer);
	return 0;
}

static int fails(enum blk_op op, uint64_t off, uint64_t len)
{
	static uint8_t buf[KIB(4)];

	f.layer.below->fail_in = 1;
	return blk_now(f.layer.blk, op, off, buf, len);
}

/* What is written to stderr while it is caught. */
static int caught, kept;

static void catch (void)
{
	FILE *file = tmpfile();

	kept = dup(2);
	caught = dup(fileno(file));
	fclose(file);
	dup2(caught, 2);
}

static const char *release(void)
{
	static char text[4096];
	ssize_t n = pread(caught, text, sizeof(text) - 1, 0);

	dup2(kept, 2);
	close(kept);
	close(caught);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void test_report(void **state)
{
	const char *text;
	uint8_t buf[512];

	catch ();
	assert_int_equal(fails(BLK_WRITE, 4096, 512), -EIO);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(fails(BLK_READ, 0, 512), -EIO);
	assert_int_equal(fails(BLK_FLUSH, 0, 0), -EIO);
	text = release();
	assert_string_equal(text, "kvick: disk data: write of 512 bytes at 4096: " IO_ERROR
				  "; the guest is told (error 1)\n");
	assert_int_equal(on_error_count(f.judge), 52);
	assert_int_equal(blk_now(f.layer.blk, BLK_READ, 0, buf, 512), 0);
	assert_int_equal(on_error_count(f.judge), 52);
	assert_int_equal(f.stops, 0);
}

static void test_ignore(void **state)
{
	const char *text;

	catch ();
	assert_int_equal(fails(BLK_FLUSH, 0, 0), 0);
	assert_int_equal(fails(BLK_WRITE, 0, 512), 0);
	assert_int_equal(fails(BLK_DISCARD, 0, 512), 0);
	assert_int_equal(fails(BLK_WRITE_ZEROES, 0, 512), 0);
	assert_int_equal(fails(BLK_READ, 0, 512), -EIO);
	text = release();
	assert_string_equal(text, "kvick: disk data: flush: " IO_ERROR "; ignored (error 1)\n");
	assert_int_equal(on_error_count(f.judge), 5);
}

static void test_stop(void **state)
{
	static const struct {
		enum blk_op op;
		const char *why;
	} t[] = {
		{BLK_READ, "disk data: read of 512 bytes at 8192: " IO_ERROR},
		{BLK_WRITE, "disk data: write of 512 bytes at 8192: " IO_ERROR},
		{BLK_DISCARD, "disk data: discard of 512 bytes at 8192: " IO_ERROR},
		{BLK_WRITE_ZEROES, "disk data: write of zeroes of 512 bytes at 8192: " IO_ERROR},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(fails(t[i].op, 8192, 512), BLK_HELD);
		assert_string_equal(f.why, t[i].why);
	}
	assert_int_equal(fails(BLK_FLUSH, 0, 0), BLK_HELD);
	assert_string_equal(f.why, "disk data: flush: " IO_ERROR);
	assert_int_equal(f.stops, 5);
}

/* A request that was held is submitted again as it is. */
static void held(struct blk_request *r, int rc)
{
	r->flags = (unsigned)rc;
}

static void test_again(void **state)
{
	static uint8_t buf[512] = {7};
	struct iovec iov = {buf, sizeof(buf)};
	struct blk_request r = {
		.op = BLK_WRITE, .off = 512, .len = 512, .iov = &iov, .iovcnt = 1, .done = held};

	for (unsigned i = 0; i < 4; i++) {
		r.flags = 0;
		f.layer.below->fail_in = i < 3;
		blk_submit(f.layer.blk, &r);
		assert_int_equal(blk_drain(f.layer.blk), 0);
		assert_int_equal(r.flags, i < 3 ? BLK_HELD : 0);
		assert_ptr_equal(r.done, held);
	}
	assert_int_equal(f.layer.below->data[512], 7);
	assert_int_equal(f.stops, 3);
}

/* The guest asks for what is not there, or for what the guard refuses: no error of the disk. A
 * write through the guard that fails below it is held as a whole. */
static void test_mistakes(void **state)
{
	static uint8_t buf[KIB(4)];

	assert_int_equal(guard_create(&f.layer.blk, f.layer.blk), 0);
	assert_int_equal(blk_now(f.layer.blk, BLK_READ, SIZE, buf, 512), -EINVAL);
	memcpy(buf, "QFI\xfb\0\0\0\x03", 8);
	assert_int_equal(blk_now(f.layer.blk, BLK_WRITE, 0, buf, sizeof(buf)), -EPERM);
	f.layer.blk->read_only = true;
	assert_int_equal(blk_now(f.layer.blk, BLK_WRITE, 512, buf, 512), -EROFS);
	f.layer.blk->read_only = false;
	assert_int_equal(on_error_count(f.judge), 0);
	assert_int_equal(f.stops, 0);
	buf[0] = 0;
	assert_int_equal(fails(BLK_WRITE, 0, 512), BLK_HELD);
	f.layer.below->fail_in = 2; /* the first sector is written, the rest is not */
	assert_int_equal(blk_now(f.layer.blk, BLK_WRITE, 0, buf, sizeof(buf)), BLK_HELD);
	assert_string_equal(f.why, "disk data: write of 3584 bytes at 512: " IO_ERROR);
	assert_int_equal(blk_now(f.layer.blk, BLK_WRITE, 0, buf, sizeof(buf)), 0);
}

static void test_random(void **state)
{
	blk_stress_zeroed(f.layer.blk, f.layer.loop, 20000, 32);
	assert_int_equal(on_error_count(f.judge), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_report, setup_report, teardown),
		cmocka_unit_test_setup_teardown(test_ignore, setup_ignore, teardown),
		cmocka_unit_test_setup_teardown(test_stop, setup_stop, teardown),
		cmocka_unit_test_setup_teardown(test_again, setup_stop, teardown),
		cmocka_unit_test_setup_teardown(test_mistakes, setup_stop, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup_stop, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
