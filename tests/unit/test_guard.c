// SPDX-License-Identifier: MIT
// Formats by their magic, and the guard that keeps a guest from writing one.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "blk/guard.h"
#include "blk/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIZE MIB(2)

static const char *probe_text(const char *text)
{
	return probe_format((const uint8_t *)text, strlen(text));
}

static void test_probe(void **state)
{
	static uint8_t buf[4096];

	assert_null(probe_format(buf, sizeof(buf)));
	assert_null(probe_format(buf, 0));
	assert_string_equal(probe_format((const uint8_t *)"QFI\xfb\0\0\0\x03", 8), "qcow2");
	assert_string_equal(probe_format((const uint8_t *)"QFI\xfb\0\0\0\x01", 8), "qcow");
	assert_null(probe_text("QFI"));
	assert_string_equal(probe_format((const uint8_t *)"QED", 4), "qed");
	assert_string_equal(probe_text("KDMV"), "vmdk");
	assert_string_equal(probe_text("vhdxfile"), "vhdx");
	assert_string_equal(probe_text("conectix"), "vpc");
	assert_string_equal(probe_text("LUKS\xba\xbe"), "luks");
	memcpy(buf + 0x40, "\x7f\x10\xda\xbe", 4);
	assert_string_equal(probe_format(buf, sizeof(buf)), "vdi");
	assert_null(probe_format(buf, 0x43));
	assert_string_equal(
		probe_text("# Disk DescriptorFile\n\n \r\n# more\nversion=1\nCID=1\n"), "vmdk");
	assert_null(probe_text("# Disk DescriptorFile\n"));
	assert_null(probe_text("#!/bin/sh\necho\nversion=1\n"));
	assert_null(probe_text("version=4\n"));
}

static int setup(void **state)
{
	static struct fake_layer f;

	fake_layer_init(&f, SIZE);
	assert_int_equal(guard_create(&f.blk, &f.below->blk), 0);
	log_set_level(LOG_LEVEL_ERROR);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	fake_layer_finish(*state);
	log_set_level(LOG_LEVEL_WARN);
	return 0;
}

static void test_refused(void **state)
{
	static uint8_t buf[4096];
	struct fake_layer *f = *state;

	memcpy(buf, "QFI\xfb\0\0\0\x03", 8);
	assert_int_equal(blk_now(f->blk, BLK_WRITE, 0, buf, sizeof(buf)), -EPERM);
	assert_int_equal(blk_now(f->blk, BLK_WRITE, 0, buf, BLK_SECTOR), -EPERM);
	assert_int_equal(f->below->writes, 0);
	assert_int_equal(blk_now(f->blk, BLK_WRITE, BLK_SECTOR, buf, BLK_SECTOR), 0);
	buf[0] = 'q';
	assert_int_equal(blk_now(f->blk, BLK_WRITE, 0, buf, sizeof(buf)), 0);
	assert_memory_equal(f->below->data, buf, sizeof(buf));
}

/* The magic in pieces of a byte: it is the request that is judged. */
static void test_refused_in_pieces(void **state)
{
	static const char magic[] = "conectix";
	static uint8_t rest[BLK_SECTOR];
	struct fake_layer *f = *state;
	struct iovec iov[9];
	uint8_t bytes[8];

	memcpy(bytes, magic, sizeof(bytes));
	for (unsigned i = 0; i < 8; i++)
		iov[i] = (struct iovec){&bytes[i], 1};
	iov[8] = (struct iovec){rest, BLK_SECTOR - 8};
	assert_int_equal(blk_now_iov(f->blk, BLK_WRITE, iov, 9), -EPERM);
	assert_int_equal(f->below->writes, 0);
}

static void changed_done(struct blk_request *r, int rc)
{
	r->flags = (unsigned)rc;
}

/* A guest that has its write judged and then puts the magic there. */
static void test_changed_meanwhile(void **state)
{
	struct fake_layer *f = *state;
	uint8_t buf[BLK_SECTOR] = "harmless";
	struct iovec iov = {buf, sizeof(buf)};
	struct blk_request r = {.op = BLK_WRITE,
		.len = sizeof(buf),
		.iov = &iov,
		.iovcnt = 1,
		.done = changed_done};

	blk_submit(f->blk, &r);
	memcpy(buf, "vhdxfile", 8);
	assert_int_equal(blk_drain(f->blk), 0);
	assert_int_equal(r.flags, 0);
	assert_memory_equal(f->below->data, "harmless", 8);
}

static void test_errors(void **state)
{
	static uint8_t buf[4096];
	struct fake_layer *f = *state;

	f->below->fail_in = 1;
	assert_int_equal(blk_now(f->blk, BLK_WRITE, 0, buf, sizeof(buf)), -EIO);
	f->below->fail_in = 2;
	assert_int_equal(blk_now(f->blk, BLK_WRITE, 0, buf, sizeof(buf)), -EIO);
	assert_int_equal(blk_now(f->blk, BLK_WRITE, 0, buf, sizeof(buf)), 0);
	f->below->measured = 2 * SIZE;
	assert_int_equal(blk_remeasure(f->blk), 1);
	assert_int_equal(f->blk->size, 2 * SIZE);
}

static void test_random(void **state)
{
	struct fake_layer *f = *state;

	blk_stress_zeroed(f->blk, f->loop, 100000, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_in_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
