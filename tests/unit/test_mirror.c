// SPDX-License-Identifier: MIT
// Jobs: whatever is written meanwhile, in the end both disks hold the same; and what fails.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/util.h"
#include "blk/mirror.h"
#include "blk/now.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Many chunks, and the last is not whole. */
#define SIZE (MIB(8) + 3 * BLK_SECTOR)

static struct fake_layer layer;
static struct fake_blk *target;
static int told[2];
static unsigned told_count;
static int switched = 1;

static void note(void *arg, int rc)
{
	assert_true(told_count < ARRAY_SIZE(told));
	told[told_count++] = rc;
}

static void note_and_switch(void *arg, int rc)
{
	note(arg, rc);
	switched = mirror_switch(layer.blk);
}

static int setup(void **state)
{
	told_count = 0;
	fake_layer_init(&layer, SIZE);
	target = fake_blk_create(layer.loop, SIZE);
	memset(target->data, 0xaa, SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		layer.below->data[i] = i / KIB(512) % 3 ? (uint8_t)(i * 7 + i / 512) : 0;
	assert_int_equal(mirror_create(&layer.blk, layer.loop, &layer.below->blk), 0);
	return 0;
}

static int teardown(void **state)
{
	fake_layer_finish(&layer);
	return 0;
}

static void start(void (*tell)(void *arg, int rc))
{
	const struct mirror_job job = {.told = tell};

	assert_int_equal(mirror_start(layer.blk, &target->blk, &job), 0);
}

static void stop_loop(void *arg)
{
	loop_stop(layer.loop);
}

/* The loop, for as long as the copy takes when nobody else asks for anything. */
static void run_for(uint64_t ns)
{
	struct timer t = TIMER_INIT(stop_loop, NULL);

	loop_arm(layer.loop, &t, ns);
	assert_int_equal(loop_run(layer.loop), 0);
}

static void run_until_told(unsigned count)
{
	while (told_count < count)
		run_for(1000000);
}

static void stress(unsigned requests, uint64_t seed)
{
	struct blk_stress s = {.blk = layer.blk,
		.loop = layer.loop,
		.requests = requests,
		.depth = 32,
		.unaligned = true,
		.shadow = malloc(SIZE),
		.known = malloc(SIZE / BLK_SECTOR * sizeof(bool))};

	assert_true(s.shadow && s.known);
	memcpy(s.shadow, layer.below->data, SIZE);
	memset(s.known, true, SIZE / BLK_SECTOR * sizeof(bool));
	blk_stress_run(&s, seed);
	free(s.shadow);
	free(s.known);
}

static void test_quiet(void **state)
{
	start(note);
	run_until_told(1);
	assert_int_equal(told[0], 0);
	assert_int_equal(mirror_progress(layer.blk), SIZE);
	assert_memory_equal(target->data, layer.below->data, SIZE);
	assert_int_equal(mirror_stop(layer.blk), 0);
	assert_int_equal(mirror_progress(layer.blk), -1);
	assert_int_equal(told_count, 1);
}

/* Of two disks that are alike but for one sector, that alone is written. */
static void test_differing(void **state)
{
	const struct mirror_job job = {.told = note, .differing = true};

	memcpy(target->data, layer.below->data, SIZE);
	target->data[MIB(3) + KIB(512)] ^= 1;
	assert_int_equal(mirror_start(layer.blk, &target->blk, &job), 0);
	run_until_told(1);
	assert_int_equal(told[0], 0);
	assert_int_equal(target->writes, 1);
	assert_memory_equal(target->data, layer.below->data, SIZE);
	stress(2000, 4);
	assert_int_equal(blk_drain(layer.blk), 0);
	assert_memory_equal(target->data, layer.below->data, SIZE);
	assert_int_equal(mirror_stop(layer.blk), 0);
}

/* Writes while it is copied, and after. The target ends with the job: a look at it comes before. */
static void test_written_meanwhile(void **state)
{
	for (uint64_t seed = 1; seed < 6; seed++) {
		start(note);
		stress(3000, seed);
		run_until_told(1);
		stress(300, seed + 100);
		assert_int_equal(blk_drain(layer.blk), 0);
		assert_int_equal(told[0], 0);
		assert_memory_equal(target->data, layer.below->data, SIZE);
		assert_int_equal(mirror_stop(layer.blk), 0);
		target = fake_blk_create(layer.loop, SIZE);
		told_count = 0;
	}
	blk_destroy(&target->blk);
}

/* Requests go on over it; what was below is gone. */
static void test_switch(void **state)
{
	start(note_and_switch);
	stress(3000, 7);
	run_until_told(1);
	assert_int_equal(switched, 0);
	layer.below = target;
	stress(1000, 8);
	assert_int_equal(mirror_stop(layer.blk), -ENOENT);
}

static void test_too_early(void **state)
{
	const struct mirror_job job = {.told = note};
	struct fake_blk *other = fake_blk_create(layer.loop, SIZE - BLK_SECTOR);

	assert_int_equal(mirror_switch(layer.blk), -ENOENT);
	assert_int_equal(mirror_start(layer.blk, &other->blk, &job), -EINVAL);
	start(note);
	assert_int_equal(mirror_start(layer.blk, &other->blk, &job), -EBUSY);
	assert_null(mirror_hold(layer.blk));
	assert_int_equal(mirror_switch(layer.blk), -EAGAIN);
	assert_int_equal(mirror_stop(layer.blk), -ECANCELED);
	assert_int_equal(told_count, 0);
	blk_destroy(&other->blk);
}

/* Whichever of the target's requests fails, the guest sees nothing of it, and the job is over. */
static void test_target_fails(void **state)
{
	for (unsigned n = 1; n < 20; n++) {
		target->fail_in = n;
		start(note);
		stress(200, n);
		run_until_told(1);
		if (told[0] == 0)
			run_until_told(2);
		assert_int_equal(told[told_count - 1], -EIO);
		assert_int_equal(mirror_progress(layer.blk), -1);
		told_count = 0;
		target = fake_blk_create(layer.loop, SIZE);
	}
	blk_destroy(&target->blk);
}

static void test_disk_fails(void **state)
{
	layer.below->fail_in = 3;
	start(note);
	run_until_told(1);
	assert_int_equal(told[0], -EIO);
	assert_int_equal(mirror_progress(layer.blk), -1);
}

/* A layer comes to stand on what is below, with nothing under way. */
static void test_put(void **state)
{
	struct blk *below = mirror_hold(layer.blk), *above;

	assert_ptr_equal(below, &layer.below->blk);
	assert_int_equal(layer.below->flushes, 1);
	assert_int_equal(mirror_create(&above, layer.loop, below), 0);
	mirror_put(layer.blk, above);
	stress(500, 3);
	blk_destroy(&target->blk);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_quiet),
		TEST(test_differing),
		TEST(test_written_meanwhile),
		TEST(test_switch),
		TEST(test_too_early),
		TEST(test_target_fails),
		TEST(test_disk_fails),
		TEST(test_put),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
