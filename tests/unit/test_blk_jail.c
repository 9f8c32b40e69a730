// SPDX-License-Identifier: MIT
// Disks behind the filter of the thread that owns them: whatever a request needs is let through.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/jail.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/engine.h"
#include "blk/memory.h"
#include "blk/overlay.h"
#include "blk/raw.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE MIB(1)

static struct loop *loop;
static struct blk_engine *engine;

static struct blk *open_disk(enum raw_cache cache)
{
	struct raw_config c = {.name = "scratch", .cache = cache};
	char name[] = "jail.XXXXXX";
	struct blk *b = NULL;

	c.fd = mkostemp(name, O_CLOEXEC);
	assert_true(c.fd >= 0);
	unlink(name);
	assert_int_equal(ftruncate(c.fd, SIZE), 0);
	if (raw_create(&b, engine, &c) && cache != RAW_NONE)
		fail_msg("%s", last_error());
	return b;
}

/* In a process of its own, which the filter kills at a call that it does not know. */
static void use(struct blk *b)
{
	static uint8_t buf[4096];

	for (uint64_t at = 0; at < SIZE; at += KIB(64)) {
		int rc = blk_now(b, BLK_WRITE, at, buf, sizeof(buf));

		rc = rc ? rc : blk_now(b, BLK_READ, at, buf, sizeof(buf));
		rc = rc ? rc : blk_now(b, BLK_FLUSH, 0, NULL, 0);
		rc = rc ? rc : blk_now(b, BLK_DISCARD, at, NULL, KIB(8));
		rc = rc ? rc : blk_now(b, BLK_WRITE_ZEROES, at + 512, NULL, 1024);
		if (rc || blk_remeasure(b))
			_exit(1);
	}
	blk_destroy(b);
}

enum upper { NONE, IN_MEMORY, IN_FILE };

static void lay_over(struct blk **b, enum upper kind)
{
	struct blk *upper = NULL;

	if (kind == IN_FILE)
		upper = open_disk(RAW_UNSAFE);
	else
		assert_int_equal(memory_create(&upper, "upper", SIZE), 0);
	assert_int_equal(overlay_create(b, *b, upper), 0);
}

static void check(enum engine_kind kind, enum raw_cache cache, enum upper upper)
{
	struct blk *b;
	pid_t pid;
	int status;

	assert_int_equal(loop_create(&loop, "test"), 0);
	assert_int_equal(engine_create(&engine, loop, kind), 0);
	b = open_disk(cache);
	if (b && upper != NONE)
		lay_over(&b, upper);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (jail_enter(JAIL_IO, JAIL_KILL))
			_exit(2);
		if (b)
			use(b);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	blk_destroy(b);
	engine_destroy(engine);
	loop_destroy(loop);
}

static void test_files(void **state)
{
	for (unsigned cache = RAW_WRITEBACK; cache <= RAW_UNSAFE; cache++) {
		check(ENGINE_IO_URING, cache, NONE);
		check(ENGINE_SYNC, cache, NONE);
	}
}

static void test_overlay(void **state)
{
	for (enum upper upper = IN_MEMORY; upper <= IN_FILE; upper++) {
		check(ENGINE_IO_URING, RAW_WRITEBACK, upper);
		check(ENGINE_SYNC, RAW_WRITEBACK, upper);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_overlay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
