// SPDX-License-Identifier: MIT
// What a crash leaves of a qcow2 image: whatever of the unflushed is on the medium, the image
// opens, has every write that was flushed, and its check finds clusters that nobody uses at most.
// Errors of the medium, and a medium that is full, are the guest's to see and leave the same.
#include "tests/unit/fake_blk.h"
#include "tests/unit/medium_image.h"
#include "tests/unit/trace.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/loop.h"
#include "blk/now.h"
#include "blk/qcow2_check.h"
#include "blk/qcow2_format.h"
#include "blk/qcow2_snapshot.h"

#include <stdio.h>
#include <string.h>

#define MEDIUM_BYTES MIB(1)
#define WRITES 100000u /* sectors, of the disk and of tables */
#define FROM_BACKING 0x80000000u
#define FROM_BEFORE 0x40000000u

struct shape {
	const char *name;
	unsigned bits, version;
	unsigned sectors; /* of the disk */
	bool backing, snapshot, lazy;
};

struct rig {
	const struct shape *shape;
	struct loop *loop;
	struct blk_engine engine, plain;
	struct blk *file;
	struct trace trace;
	uint32_t *first;
	uint8_t *image; /* what the medium begins with */
	uint64_t image_len;
	uint8_t *disk; /* of a state */
	unsigned looked, leaks;
	bool ended;    /* every cluster is to be in use */
	bool flags_ok; /* COPIED flags may be missing */
};

/* ---- a backing file: each sector is full of its number; a bit smaller than the disk ---- */

static uint64_t backing_size(const struct shape *s)
{
	return (s->sectors - s->sectors / 8) * (uint64_t)BLK_SECTOR;
}

static void backing_submit(struct blk *b, struct blk_request *r)
{
	uint32_t *words = malloc(r->len);

	assert_non_null(words);
	assert_int_equal(r->op, BLK_READ);
	for (uint64_t i = 0; i < r->len / 4; i++)
		words[i] = FROM_BACKING | (uint32_t)((r->off + 4 * i) / BLK_SECTOR);
	iov_write(r->iov, r->iovcnt, 0, words, r->len);
	free(words);
	r->done(r, 0);
}

static int backing_drain(struct blk *b)
{
	return 0;
}

static void backing_destroy(struct blk *b)
{
	free(b);
}

static struct blk *backing_of(const struct shape *s)
{
	static const struct blk_ops ops = {
		.submit = backing_submit, .drain = backing_drain, .destroy = backing_destroy};
	struct blk *b;

	if (!s->backing)
		return NULL;
	b = calloc(1, sizeof(*b));
	assert_non_null(b);
	*b = (struct blk){
		.ops = &ops, .name = "backing", .size = backing_size(s), .read_only = true};
	return b;
}

/* ---- images ---- */

static void ok(const struct rig *g, int rc)
{
	if (rc)
		fail_msg("%s, seed %llu: %s", g->shape->name, (unsigned long long)g->trace.seed,
			last_error());
}

static struct blk *open_disk(struct rig *g, struct blk *file)
{
	const struct qcow2_config c = {0};
	struct blk *b = NULL;

	ok(g, qcow2_open(&b, file, backing_of(g->shape), &c));
	return b;
}

/* Takes over what the file has, and ends the disk. */
static void keep_image(struct rig *g, int fd, struct blk *b)
{
	struct stat st;

	blk_destroy(b);
	assert_int_equal(fstat(fd, &st), 0);
	g->image_len = align_up((uint64_t)st.st_size, BLK_SECTOR);
	g->image = realloc(g->image, g->image_len);
	assert_non_null(g->image);
	memset(g->image, 0, g->image_len);
	assert_int_equal(pread(fd, g->image, g->image_len, 0), st.st_size);
	close(fd);
}

static void make_image(struct rig *g)
{
	const struct shape *s = g->shape;
	const struct qcow2_create c = {.size = s->sectors * (uint64_t)BLK_SECTOR,
		.version = s->version,
		.cluster_bits = s->bits,
		.lazy_refcounts = s->lazy,
		.backing = s->backing ? "backing" : NULL};
	struct blk *file = image_on(&g->plain, NULL, 0);
	int fd = dup(image_fd(file));

	ok(g, qcow2_create(file, &c));
	keep_image(g, fd, file);
}

/* Every other run of three sectors is of a snapshot. */
static void add_snapshot(struct rig *g)
{
	struct blk *file = image_on(&g->plain, g->image, g->image_len), *b;
	int fd = dup(image_fd(file));
	uint32_t words[BLK_SECTOR / 4];

	b = open_disk(g, file);
	for (unsigned n = 0; n < g->shape->sectors; n++) {
		if (n / 3 % 2)
			continue;
		g->first[n] = FROM_BEFORE | n;
		for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
			words[i] = g->first[n];
		assert_int_equal(
			blk_write_now(b, n * (uint64_t)BLK_SECTOR, words, sizeof(words)), 0);
	}
	keep_image(g, fd, b);
	file = image_on(&g->plain, g->image, g->image_len);
	fd = dup(image_fd(file));
	ok(g, qcow2_snapshot_create(file, "before", 0, 0));
	keep_image(g, fd, file);
}

/* ---- states ---- */

static void note(void *arg, const char *line)
{
	print_error("%s\n", line);
}

static void check_image(struct rig *g, struct blk *file)
{
	struct qcow2_report r = {.found = note};
	struct qcow2_info info;

	ok(g, qcow2_look(&info, file));
	if (info.dirty)
		ok(g, qcow2_check(&r, file, QCOW2_REPAIR_ALL));
	r = (struct qcow2_report){0};
	ok(g, qcow2_check(&r, file, QCOW2_REPAIR_NOTHING));
	if (r.corruptions <= (g->flags_ok ? r.flags : 0) && !r.check_errors &&
		!(g->ended && r.leaks)) {
		g->leaks += r.leaks != 0;
		return;
	}
	r.found = note;
	qcow2_check(&r, file, QCOW2_REPAIR_NOTHING);
	fail_msg("%s, seed %llu, step %u: %llu corruptions, %llu leaks", g->shape->name,
		(unsigned long long)g->trace.seed, g->trace.steps,
		(unsigned long long)r.corruptions, (unsigned long long)r.leaks);
}

/* QEMU's opinion of some of them. Status 3 are leaks. */
static void ask_qemu(struct rig *g, const uint8_t *image, uint64_t len)
{
	char command[200], path[] = "/tmp/kvick-durable-XXXXXX";
	int fd = mkstemp(path), status;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, image, len), len);
	close(fd);
	snprintf(command, sizeof(command),
		"qemu-img check --image-opts "
		"driver=qcow2,file.driver=file,file.filename=%s,backing= "
		">%s.said 2>&1",
		path, path);
	status = WEXITSTATUS(system(command));
	if (status && status != 3) {
		snprintf(command, sizeof(command), "cat %s.said >&2", path);
		assert_int_equal(system(command), 0);
		fail_msg("%s, seed %llu: QEMU says %d of %s", g->shape->name,
			(unsigned long long)g->trace.seed, status, path);
	}
	snprintf(command, sizeof(command), "rm %s %s.said", path, path);
	assert_int_equal(system(command), 0);
}

/* After a crash one goes on. */
static void write_more(struct rig *g, struct blk *b)
{
	uint8_t buf[3 * BLK_SECTOR];

	memset(buf, 0x5a, sizeof(buf));
	for (uint64_t off = 0; off + sizeof(buf) <= b->size; off += b->size / 5 & ~511ull)
		assert_int_equal(blk_write_now(b, off, buf, sizeof(buf)), 0);
	assert_int_equal(blk_flush_now(b), 0);
}

/* The sector as the image's tables say, by a reader that shares nothing with ours. */
static void read_sector(struct rig *g, const uint8_t *image, uint64_t len, unsigned n)
{
	const unsigned bits = g->shape->bits;
	uint64_t off = n * (uint64_t)BLK_SECTOR, cluster = off >> bits, at = 0;
	uint64_t l2 = get_be64(image + get_be64(image + 40) + (cluster >> (bits - 3)) * 8);
	uint32_t *to = (uint32_t *)(void *)(g->disk + off);
	uint64_t entry = 0;

	l2 &= 0x00fffffffffffe00;
	if (l2)
		entry = get_be64(image + l2 + (cluster & ((1u << (bits - 3)) - 1)) * 8);
	at = entry & 0x00fffffffffffe00;
	if (at && !(entry & 1)) {
		at += off & ((1u << bits) - 1);
		memset(to, 0, BLK_SECTOR);
		if (at < len)
			memcpy(to, image + at, BLK_SECTOR);
		return;
	}
	for (unsigned i = 0; i < BLK_SECTOR / 4; i++)
		to[i] = g->shape->backing && !(entry & 1) && off < backing_size(g->shape)
				? FROM_BACKING | n
				: 0;
}

/* It opens, reads the same, and takes more. */
static void go_on(struct rig *g, struct blk *file)
{
	int fd = dup(image_fd(file));
	struct blk *b = open_disk(g, file);
	uint8_t *disk = malloc(b->size);

	assert_non_null(disk);
	assert_int_equal(blk_read_now(b, 0, disk, b->size), 0);
	assert_memory_equal(disk, g->disk, b->size);
	free(disk);
	write_more(g, b);
	blk_destroy(b);
	file = image_on(&g->plain, NULL, 0);
	assert_int_equal(dup2(fd, image_fd(file)), image_fd(file));
	check_image(g, file);
	blk_destroy(file);
	close(fd);
}

static const uint8_t *disk_of(void *arg, const uint8_t *image)
{
	struct rig *g = arg;
	uint64_t now = (uint64_t)lseek(image_fd(g->file), 0, SEEK_END);
	uint64_t len = g->looked++ % 2 ? now : g->engine.kept;
	struct blk *file = image_on(&g->plain, image, len);

	check_image(g, file);
	if (g->looked % 512 == 0)
		ask_qemu(g, image, len);
	for (unsigned n = 0; n < g->shape->sectors; n++)
		read_sector(g, image, len, n);
	if (g->looked % 32 == 0)
		go_on(g, file);
	else
		blk_destroy(file);
	return g->disk;
}

/* ---- runs ---- */

static void begin_image(struct rig *g, const struct shape *s, uint64_t seed)
{
	*g = (struct rig){.shape = s};
	log_set_level(LOG_LEVEL_ERROR);
	assert_int_equal(loop_create(&g->loop, "test"), 0);
	g->first = calloc(s->sectors, sizeof(*g->first));
	g->disk = malloc(s->sectors * (size_t)BLK_SECTOR);
	assert_true(g->first && g->disk);
	if (s->backing)
		for (unsigned i = 0; i < backing_size(s) / BLK_SECTOR; i++)
			g->first[i] = FROM_BACKING | i;
	g->trace.seed = seed;
	make_image(g);
	if (s->snapshot)
		add_snapshot(g);
}

static void begin(struct rig *g, const struct shape *s, uint64_t seed)
{
	begin_image(g, s, seed);
	g->engine.medium = medium_create(MEDIUM_BYTES, WRITES);
	g->file = image_on(&g->engine, g->image, g->image_len);
	g->trace = (struct trace){.blk = open_disk(g, g->file),
		.medium = g->engine.medium,
		.states = 2,
		.seed = seed,
		.first = g->first,
		.disk_of = disk_of,
		.arg = g};
	trace_begin(&g->trace);
}

static void finish(struct rig *g)
{
	blk_destroy(&g->engine.medium->blk);
	loop_destroy(g->loop);
	free(g->first);
	free(g->disk);
	free(g->image);
}

/* In the end nothing is lost, and nothing is left that nobody uses. */
static void end(struct rig *g, bool whole)
{
	int fd = dup(image_fd(g->file));
	struct blk *file;

	assert_int_equal(blk_flush_now(g->trace.blk), 0);
	assert_int_equal(g->trace.lost, 0);
	assert_int_equal(g->trace.misread, 0);
	trace_end(&g->trace);
	keep_image(g, fd, g->trace.blk);
	file = image_on(&g->plain, g->image, g->image_len);
	g->ended = whole;
	check_image(g, file);
	blk_destroy(file);
	finish(g);
}

static const struct shape shapes[] = {
	{"512 bytes", 9, 3, 300, false, false, false},
	{"512 bytes, backing, snapshot", 9, 3, 300, true, true, false},
	{"4 KiB", 12, 3, 300, false, false, false},
	{"4 KiB, backing", 12, 3, 300, true, false, false},
	{"4 KiB, snapshot", 12, 3, 300, false, true, false},
	{"1 KiB, version 2, backing, snapshot", 10, 2, 200, true, true, false},
	{"2 KiB, lazy", 11, 3, 200, true, false, true},
};

static unsigned repeat(unsigned usual)
{
	return getenv("KVICK_TEST_LONG") ? 20 * usual : usual;
}

static void test_crash(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++)
		for (unsigned n = 1; n <= repeat(2); n++) {
			struct rig g;

			begin(&g, &shapes[i], 1000 * i + n);
			trace_run(&g.trace, 300);
			assert_true(g.trace.behind > g.trace.steps);
			end(&g, true);
		}
}

/* Each completion in turn is an error: of data, of tables, of flushes. */
static void test_errors(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++)
		for (unsigned n = 1; n <= repeat(1); n++) {
			struct rig g;

			begin(&g, &shapes[i], 77 + 1000 * i + n);
			g.trace.states = 1;
			for (unsigned k = 1; k < 40; k++) {
				g.engine.medium->fail_in = k;
				trace_run(&g.trace, 10);
			}
			g.engine.medium->fail_in = 0;
			trace_run(&g.trace, 50);
			end(&g, false);
		}
}

/* The medium is full amid allocations, and has space again. */
static void test_full(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++)
		for (unsigned n = 1; n <= repeat(1); n++) {
			struct rig g;

			begin(&g, &shapes[i], 99 + 1000 * i + n);
			g.trace.states = 1;
			for (unsigned k = 0; k < 12; k++) {
				g.engine.medium->full =
					(uint64_t)lseek(image_fd(g.file), 0, SEEK_END) +
					k % 4 * BLK_SECTOR;
				trace_run(&g.trace, 15);
				g.engine.medium->full = 0;
				trace_run(&g.trace, 5);
			}
			end(&g, false);
		}
}

/* ---- changes of the snapshots ---- */

struct changes {
	struct rig rig;
	uint8_t *before, *after; /* the disk; after: NULL, the same */
	unsigned was, is;        /* how many snapshots there were, and may be */
};

static bool is_like(struct rig *g, const uint8_t *disk)
{
	return disk && memcmp(g->disk, disk, g->shape->sectors * (size_t)BLK_SECTOR) == 0;
}

static void see_change(void *arg, const uint8_t *image)
{
	struct changes *c = arg;
	struct rig *g = &c->rig;
	uint64_t len =
		g->looked++ % 2 ? (uint64_t)lseek(image_fd(g->file), 0, SEEK_END) : g->engine.kept;
	struct blk *file = image_on(&g->plain, image, len);
	struct qcow2_snapshots s;

	check_image(g, file);
	ok(g, qcow2_snapshot_list(&s, file));
	assert_true(s.count == c->was || s.count == c->is);
	qcow2_snapshot_finish(&s);
	for (unsigned n = 0; n < g->shape->sectors; n++)
		read_sector(g, image, len, n);
	assert_true(is_like(g, c->before) || is_like(g, c->after));
	blk_destroy(file);
}

static void after_step(void *arg)
{
	medium_states(((struct changes *)arg)->rig.engine.medium, 4, see_change, arg);
}

static uint8_t *copy_disk(struct rig *g, const uint8_t *image, uint64_t len)
{
	uint64_t size = g->shape->sectors * (uint64_t)BLK_SECTOR;
	uint8_t *disk = malloc(size);

	assert_non_null(disk);
	for (unsigned n = 0; n < g->shape->sectors; n++)
		read_sector(g, image, len, n);
	memcpy(disk, g->disk, size);
	return disk;
}

/* Some of the disk is not as the snapshot has it. */
static void write_over(struct rig *g)
{
	struct blk *file = image_on(&g->plain, g->image, g->image_len);
	int fd = dup(image_fd(file));
	struct blk *b = open_disk(g, file);

	write_more(g, b);
	keep_image(g, fd, b);
}

static void begin_changes(struct changes *c, const struct shape *s)
{
	struct rig *g = &c->rig;
	uint8_t *old;

	begin_image(g, s, 5);
	old = copy_disk(g, g->image, g->image_len);
	write_over(g);
	c->before = copy_disk(g, g->image, g->image_len);
	c->after = old;
	g->flags_ok = true;
	g->engine.medium = medium_create(MEDIUM_BYTES, WRITES);
	g->file = image_on(&g->engine, g->image, g->image_len);
	g->engine.medium->after = after_step;
	g->engine.medium->arg = c;
}

static void change(struct changes *c, int rc, unsigned is)
{
	ok(&c->rig, rc);
	c->was = is;
	after_step(c);
}

static void test_changes(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct changes c = {.was = 1, .is = 2};
		struct blk *file;

		if (!shapes[i].snapshot)
			continue;
		begin_changes(&c, &shapes[i]);
		file = c.rig.file;
		change(&c, qcow2_snapshot_create(file, "more", 0, 0), 2);
		change(&c, qcow2_snapshot_apply(file, "before"), 2);
		free(c.before);
		c.before = c.after;
		c.after = NULL;
		c.is = 1;
		change(&c, qcow2_snapshot_delete(file, "more"), 1);
		c.is = 0;
		change(&c, qcow2_snapshot_delete(file, "before"), 0);
		c.rig.ended = true;
		c.rig.flags_ok = false;
		after_step(&c);
		c.rig.engine.medium->after = NULL;
		free(c.before);
		blk_destroy(file);
		finish(&c.rig);
	}
}

/* ---- repairs ---- */

static void break_counts(uint8_t *image, uint8_t *table)
{
	uint8_t *block = image + get_be64(table);

	for (unsigned i = 0; i < 60; i++) {
		unsigned count = get_be16(block + 2 * i);

		if (i % 3 == 0)
			put_be16(block + 2 * i, 0);
		if (i % 5 == 0)
			put_be16(block + 2 * i, (uint16_t)(count + 3));
	}
}

static void no_block(uint8_t *image, uint8_t *table)
{
	put_be64(table, 0);
}

static void no_cluster(uint8_t *image, uint8_t *table)
{
	put_be64(table, 7);
}

static void block_in_l1(uint8_t *image, uint8_t *table)
{
	put_be64(table, get_be64(image + 40));
}

static void table_in_l1(uint8_t *image, uint8_t *table)
{
	put_be64(image + 48, get_be64(image + 40));
}

static void (*const breaks[])(uint8_t *image, uint8_t *table) = {
	break_counts, no_block, no_cluster, block_in_l1, table_in_l1};

/* A crash amid a repair is repaired, and nothing of the disk is another. */
static void see_repair(void *arg, const uint8_t *image)
{
	struct changes *c = arg;
	struct rig *g = &c->rig;
	uint64_t len =
		g->looked++ % 2 ? (uint64_t)lseek(image_fd(g->file), 0, SEEK_END) : g->engine.kept;
	struct blk *file = image_on(&g->plain, image, len);
	struct qcow2_report r = {0};

	ok(g, qcow2_check(&r, file, QCOW2_REPAIR_ALL));
	assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);
	for (unsigned n = 0; n < g->shape->sectors; n++)
		read_sector(g, image, len, n);
	assert_true(is_like(g, c->before));
	blk_destroy(file);
}

static void after_repair_step(void *arg)
{
	medium_states(((struct changes *)arg)->rig.engine.medium, 3, see_repair, arg);
}

/* Once as it is, then with each request in turn an error. */
static void repair_on_medium(struct changes *c)
{
	struct medium *m = c->rig.engine.medium;
	struct qcow2_report r = {0};

	for (unsigned n = 1;; n++) {
		m->fail_in = n;
		qcow2_check(&r, c->rig.file, QCOW2_REPAIR_ALL);
		if (m->fail_in)
			break;
	}
	m->fail_in = 0;
	assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);
}

static void test_repairs(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++)
		for (unsigned n = 0; n < ARRAY_SIZE(breaks); n++) {
			struct changes c = {0};
			struct rig *g = &c.rig;

			if (!shapes[i].snapshot)
				continue;
			begin_image(g, &shapes[i], 5);
			c.before = copy_disk(g, g->image, g->image_len);
			breaks[n](g->image, g->image + get_be64(g->image + 48));
			g->engine.medium = medium_create(MEDIUM_BYTES, WRITES);
			g->file = image_on(&g->engine, g->image, g->image_len);
			g->engine.medium->after = after_repair_step;
			g->engine.medium->arg = &c;
			repair_on_medium(&c);
			g->engine.medium->after = NULL;
			free(c.before);
			blk_destroy(g->file);
			finish(g);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_repairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
