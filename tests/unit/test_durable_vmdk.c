// SPDX-License-Identifier: MIT
// What was flushed to a vmdk is there after any crash: over the real raw disk, over a medium with a
// volatile cache, of which each state is opened as an image and read. So it is with errors.
#include "tests/unit/fake_blk.h"
#include "tests/unit/medium_engine.h"
#include "tests/unit/trace.h"
#include "tests/unit/vmdk_image.h"

#include "base/log.h"
#include "base/loop.h"
#include "blk/now.h"

#include <errno.h>

/* A disk of a few grains, one of them not whole. */
#define SMALL 20u
#define LARGE 92u
#define MEDIUM KIB(256)
#define REQUESTS 200u

struct stack {
	struct vmdk_shape shape;
	struct vmdk_places places;
	struct blk_engine engine, looks;
	struct blk *file;
	struct trace trace;
	unsigned strange;                 /* entries of tables that make no sense, in all states */
	uint8_t disk[LARGE * BLK_SECTOR]; /* of the image that was looked at last */
};

/* The image has `len` bytes, which is what the file is taken to have. */
static struct blk *file_on(struct blk_engine *e, enum raw_cache cache, uint64_t len)
{
	struct raw_config c = {.name = "medium", .cache = cache, .holds_format = true};
	struct blk *b;

	c.fd = memfd_create("medium", MFD_CLOEXEC);
	assert_true(c.fd >= 0);
	assert_int_equal(ftruncate(c.fd, (off_t)len), 0);
	assert_int_equal(raw_create(&b, e, &c), 0);
	return b;
}

static struct blk *open_vmdk(struct blk *file, bool read_only)
{
	struct vmdk_config c = {.read_only = read_only};
	struct blk *const extents[1] = {NULL};
	struct vmdk_info info;
	struct blk *b;

	if (vmdk_look(&info, file) || vmdk_open(&b, file, &info, extents, &c))
		fail_msg("%s", last_error());
	return b;
}

/* The medium has this and nothing else. */
static void put_on(struct medium *m, const uint8_t *image)
{
	memcpy(m->bytes + 1, image, MEDIUM);
	for (unsigned i = 0; i < MEDIUM / BLK_SECTOR; i++)
		history_init(&m->sector[i], i + 1);
	m->ids = MEDIUM / BLK_SECTOR + 1;
}

/* How long a file it is: to the last sector that has something, or was written to for certain. */
static uint64_t length_of(const struct stack *s, const uint8_t *image)
{
	static const uint8_t zeroes[BLK_SECTOR];
	const struct history *h = s->engine.medium->sector;
	uint64_t n = MEDIUM / BLK_SECTOR;

	while (n > s->places.overhead && h[n - 1].value[0].id == n &&
		memcmp(image + (n - 1) * BLK_SECTOR, zeroes, BLK_SECTOR) == 0)
		n--;
	return n * BLK_SECTOR;
}

/* Each grain is whole, has a place of its own, and its table is where there is one. */
static void check_tables(struct stack *s, const uint8_t *image)
{
	bool used[MEDIUM / BLK_SECTOR] = {false};
	uint32_t table = get_le32(image + s->places.gd * BLK_SECTOR);

	for (unsigned i = 0; table && i < s->shape.gtes; i++) {
		uint32_t at = get_le32(image + table * BLK_SECTOR + i * 4);

		if (!at || (at == 1 && s->shape.flags & VMDK_ZEROED))
			continue;
		if (at % s->shape.grain || at < s->places.overhead || at >= ARRAY_SIZE(used) ||
			used[at]) {
			s->strange++;
			continue;
		}
		used[at] = true;
	}
}

static const uint8_t *disk_of(void *arg, const uint8_t *image)
{
	struct stack *s = arg;
	struct blk *b;

	put_on(s->looks.medium, image);
	b = open_vmdk(file_on(&s->looks, RAW_WRITEBACK, length_of(s, image)), true);
	check_tables(s, image);
	assert_true(b->size <= sizeof(s->disk));
	if (blk_read_now(b, 0, s->disk, b->size)) {
		s->strange++;
		memset(s->disk, 0xee, b->size);
	}
	blk_destroy(b);
	return s->disk;
}

static void begin(struct stack *s, struct vmdk_shape shape, enum raw_cache cache)
{
	uint8_t *image = calloc(1, MEDIUM);
	uint64_t len;

	assert_non_null(image);
	memset(s, 0, sizeof(*s));
	s->shape = shape;
	s->places = vmdk_places(&shape);
	len = vmdk_put_image(image, &shape);
	s->engine.medium = medium_create(MEDIUM, 60000);
	s->looks.medium = medium_create(MEDIUM, MEDIUM / BLK_SECTOR + 1);
	put_on(s->engine.medium, image);
	s->file = file_on(&s->engine, cache, len);
	s->trace = (struct trace){.blk = open_vmdk(s->file, false),
		.medium = s->engine.medium,
		.disk_of = disk_of,
		.arg = s,
		.states = 3,
		.seed = 42 + cache + shape.capacity};
	free(image);
	trace_begin(&s->trace);
}

struct ended {
	struct stack *s;
	uint8_t disk[LARGE * BLK_SECTOR];
};

static void look_at_end(void *arg, const uint8_t *image)
{
	struct ended *e = arg;

	assert_int_equal(image[VMDK_UNCLEAN_AT], 0);
	assert_null(memmem(image + 512, 512, "0badcafe", 8));
	assert_memory_equal(disk_of(e->s, image), e->disk, e->s->shape.capacity * BLK_SECTOR);
}

/* The file that it is taken to have does not grow by itself. */
static void end(struct stack *s)
{
	trace_end(&s->trace);
	assert_int_equal(ftruncate(container_of(s->file, struct raw, blk)->file.fd, MEDIUM), 0);
	blk_destroy(s->trace.blk);
}

static void forget(struct stack *s)
{
	blk_destroy(&s->engine.medium->blk);
	blk_destroy(&s->looks.medium->blk);
}

/* All of what is closed is durable. */
static void end_well(struct stack *s)
{
	struct ended e = {.s = s};

	assert_int_equal(blk_read_now(s->trace.blk, 0, e.disk, s->trace.blk->size), 0);
	end(s);
	assert_int_equal(medium_states(s->engine.medium, 2, look_at_end, &e), 1);
	forget(s);
}

static const struct vmdk_shape shapes[] = {
	{SMALL, 8, 128, VMDK_REDUNDANT, false},
	{SMALL, 8, 128, 0, true},
	{LARGE, 16, 512, VMDK_REDUNDANT, true},
	{LARGE, 8, 256, VMDK_REDUNDANT | VMDK_ZEROED, false},
};

static void test_crashes(void **state)
{
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(shapes); i++) {
		struct stack s;

		begin(&s, shapes[i / 2], i % 2 ? RAW_WRITETHROUGH : RAW_WRITEBACK);
		trace_run(&s.trace, REQUESTS);
		assert_int_equal(s.trace.lost, 0);
		assert_int_equal(s.trace.misread, 0);
		assert_int_equal(s.strange, 0);
		assert_true(s.trace.seen > 2 * s.trace.steps);
		assert_true(s.trace.behind > s.trace.seen);
		end_well(&s);
	}
}

/* The first requests to an image: its mark, its first table and grains. */
static void test_beginnings(void **state)
{
	for (unsigned i = 0; i < 60; i++) {
		struct stack s;

		begin(&s, shapes[i % ARRAY_SIZE(shapes)], RAW_WRITEBACK);
		s.trace.seed += i;
		s.trace.states = 40;
		trace_run(&s.trace, 5);
		assert_int_equal(s.trace.lost + s.trace.misread + s.strange, 0);
		end_well(&s);
	}
}

/* Each request to the file fails in turn: no more than that is lost, and it goes on. */
static void test_errors(void **state)
{
	for (unsigned i = 1; i <= 100; i++) {
		struct stack s;

		begin(&s, shapes[i % ARRAY_SIZE(shapes)], RAW_WRITEBACK);
		s.trace.seed += i / 40;
		s.trace.states = 2;
		s.engine.medium->fail_in = 1 + i / 2;
		trace_run(&s.trace, 30);
		s.engine.medium->fail_in = 0;
		trace_run(&s.trace, 10);
		assert_int_equal(s.trace.lost, 0);
		assert_int_equal(s.strange, 0);
		assert_int_equal(blk_flush_now(s.trace.blk), 0);
		end(&s);
		forget(&s);
	}
}

/* A file that makes nothing durable is found out, or none of the above would mean anything. */
static void test_unsafe(void **state)
{
	struct stack s;

	log_set_level(LOG_LEVEL_ERROR);
	begin(&s, shapes[0], RAW_UNSAFE);
	trace_run(&s.trace, REQUESTS);
	assert_true(s.trace.lost > 0);
	end(&s);
	forget(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crashes),
		cmocka_unit_test(test_beginnings),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_unsafe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
