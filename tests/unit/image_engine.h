// SPDX-License-Identifier: MIT
// What each test of images at rest begins with: a directory, and an engine for their files.
#ifndef TESTS_UNIT_IMAGE_ENGINE_H
#define TESTS_UNIT_IMAGE_ENGINE_H

#include "tests/unit/image_file.h"

static struct loop *loop;
static struct blk_engine *engine;

static int setup(void **state)
{
	image_begin();
	assert_int_equal(loop_create(&loop, "test"), 0);
	assert_int_equal(engine_create(&engine, loop, ENGINE_SYNC), 0);
	return 0;
}

static int teardown(void **state)
{
	engine_destroy(engine);
	loop_destroy(loop);
	image_end();
	return 0;
}

#endif
