// SPDX-License-Identifier: MIT
// qcow2 over a file whose requests are completed in any order, and fail one after the other: who
// asked has the error, the image stays sound, and all goes on when the trouble is over.
#include "tests/unit/faulty_engine.h"
#include "tests/unit/image_file.h"

#include "base/util.h"
#include "blk/decompress_here.h"
#include "blk/now.h"
#include "blk/qcow2.h"

#include <string.h>

#define BATCH 8u
#define BATCHES 12u
#define MOST KIB(96)

static struct loop *loop;
static struct blk_engine engine;
static struct decompressor *decompressor;
static unsigned scale = 1; /* how much longer than usual */

static int setup(void **state)
{
	image_begin();
	assert_int_equal(loop_create(&loop, "test"), 0);
	assert_int_equal(decompress_here_create(&decompressor), 0);
	faulty_init(&engine, loop, 4711);
	return 0;
}

static int teardown(void **state)
{
	loop_disarm(loop, &engine.timer);
	decompress_here_destroy(decompressor);
	loop_destroy(loop);
	image_end();
	return 0;
}

/* The image, over "base" where it has a backing file. 0 or -errno. */
static int open_image(struct blk **out, const char *name)
{
	struct blk *file = image_file(&engine, name, true, 0), *backing = NULL;
	struct qcow2_config c = {.decompressor = decompressor, .cache_bytes = KIB(128)};
	struct qcow2_info info;
	int rc = qcow2_look(&info, file);

	if (!rc && info.backing[0])
		backing = image_file(&engine, info.backing, false, 0);
	rc = rc ? rc : qcow2_open(out, file, backing, &c);
	if (rc) {
		blk_destroy(backing);
		blk_destroy(file);
	}
	return rc;
}

static struct blk *open_ok(const char *name)
{
	struct blk *b = NULL;

	if (open_image(&b, name))
		fail_msg("%s", last_error());
	return b;
}

/* ---- what a disk should be ---- */

static struct {
	uint64_t size;
	uint8_t *data;
	bool *known;
} shadow;

static uint8_t *load(const char *name, uint64_t size)
{
	uint8_t *data = malloc(size);
	FILE *f = fopen(name, "rb");

	assert_true(data && f);
	assert_int_equal(fread(data, 1, size, f), size);
	fclose(f);
	return data;
}

static void shadow_take(const char *name, uint64_t size)
{
	run_ok("qemu-img convert -O raw %s shadow", name);
	free(shadow.data);
	free(shadow.known);
	shadow.size = size;
	shadow.data = load("shadow", size);
	shadow.known = malloc(size / BLK_SECTOR * sizeof(bool));
	assert_non_null(shadow.known);
	memset(shadow.known, true, size / BLK_SECTOR * sizeof(bool));
}

/* Leaks are fine where something has failed. */
static void shadow_compare(const char *name, bool leaks)
{
	int status = run_status("qemu-img check %s", name);
	uint8_t *data;

	if (status && !(leaks && status == 3))
		fail_msg("operation %u fails with %d: check says %d, %d", engine.fail_at,
			engine.fail_with, status, system("cat said >&2"));
	run_ok("qemu-img convert -O raw %s now", name);
	data = load("now", shadow.size);
	for (uint64_t i = 0; i < shadow.size; i += BLK_SECTOR)
		if (shadow.known[i / BLK_SECTOR] &&
			memcmp(data + i, shadow.data + i, BLK_SECTOR) != 0)
			fail_msg("operation %u fails with %d: sector %llu is not what was written",
				engine.fail_at, engine.fail_with,
				(unsigned long long)(i / BLK_SECTOR));
	free(data);
}

/* ---- batches of requests ---- */

struct one {
	struct blk_request r;
	struct iovec iov;
	bool over;
	int rc;
};

static struct one one[BATCH];
static uint8_t buf[BATCH][MOST];

static void one_done(struct blk_request *r, int rc)
{
	struct one *o = container_of(r, struct one, r);

	assert_false(o->over);
	o->over = true;
	o->rc = rc;
}

/* Each in a part of the disk of its own, so that none is in conflict with another. */
static void prepare(unsigned i, uint64_t *seed)
{
	static const enum blk_op ops[] = {BLK_READ, BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_WRITE,
		BLK_WRITE_ZEROES, BLK_DISCARD, BLK_FLUSH};
	uint64_t part = shadow.size / BATCH / BLK_SECTOR;
	uint64_t len = 1 + fake_random(seed) % MIN(MOST / BLK_SECTOR, part / 2);
	uint64_t first = i * part + fake_random(seed) % (part - len);
	struct one *o = &one[i];

	*o = (struct one){.r = {.op = ops[fake_random(seed) % ARRAY_SIZE(ops)], .done = one_done}};
	o->iov = (struct iovec){buf[i], len * BLK_SECTOR};
	o->r.flags = fake_random(seed) % 4; /* BLK_FUA and BLK_UNMAP */
	if (o->r.op == BLK_FLUSH)
		return;
	o->r.off = first * BLK_SECTOR;
	o->r.len = len * BLK_SECTOR;
	o->r.iov = &o->iov;
	o->r.iovcnt = o->r.op <= BLK_WRITE;
	for (uint64_t n = 0; o->r.op == BLK_WRITE && n < o->r.len; n += 8)
		put_le64(buf[i] + n, fake_random(seed));
}

static void judge(const struct one *o)
{
	assert_true(o->over);
	for (uint64_t n = 0; n < o->r.len; n += BLK_SECTOR) {
		uint64_t off = o->r.off + n;
		bool *known = &shadow.known[off / BLK_SECTOR];
		uint8_t *data = shadow.data + off;

		if (o->r.op == BLK_READ && !o->rc && *known)
			assert_memory_equal((uint8_t *)o->iov.iov_base + n, data, BLK_SECTOR);
		if (o->r.op == BLK_READ)
			continue;
		*known = !o->rc && o->r.op != BLK_DISCARD;
		if (o->r.op == BLK_WRITE)
			memcpy(data, (uint8_t *)o->iov.iov_base + n, BLK_SECTOR);
		else
			memset(data, 0, BLK_SECTOR);
	}
}

/* How many of them have failed. */
static unsigned run_batch(struct blk *b, uint64_t *seed)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < BATCH; i++)
		prepare(i, seed);
	for (unsigned i = 0; i < BATCH; i++)
		blk_submit(b, &one[i].r);
	blk_commit(b);
	assert_int_equal(blk_drain(b), 0);
	for (unsigned i = 0; i < BATCH; i++) {
		judge(&one[i]);
		failed += one[i].rc != 0;
	}
	return failed;
}

/* ---- any order ---- */

static void test_any_order(void **state)
{
	static const char *const options[] = {"cluster_size=512", "cluster_size=4k,compat=0.10",
		"cluster_size=64k", "cluster_size=512,refcount_bits=64"};

	for (unsigned i = 0; i < ARRAY_SIZE(options) * scale; i++) {
		const char *o = options[i % ARRAY_SIZE(options)];

		run_ok("qemu-img create -f qcow2 -o %s a 9M && qemu-io -c 'write 1M 2M' a &&"
		       "qemu-img snapshot -c s a && qemu-io -c 'write -P 9 2M 100k' a",
			o);
		shadow_take("a", MIB(9));
		for (unsigned n = 0; n < 4; n++) {
			struct blk_stress s = {.loop = loop,
				.requests = 1500,
				.depth = 48,
				.shadow = shadow.data,
				.known = shadow.known};

			s.blk = open_ok("a");
			blk_stress_run(&s, 31 * i + n + 1);
			blk_destroy(s.blk);
			shadow_compare("a", false);
		}
	}
}

/* ---- failures ---- */

/* A run with one failure, or failures from one on; then the trouble is over. Whether any was. */
static bool run_with(const char *template, unsigned fail_at, int error, bool for_good)
{
	uint64_t seed = 88172645463325252ull;
	unsigned failed = 0;
	struct blk *b;

	run_ok("cp %s a", template);
	memset(shadow.known, true, shadow.size / BLK_SECTOR * sizeof(bool));
	free(shadow.data);
	shadow.data = load("shadow", shadow.size);
	b = open_ok("a");
	faulty_init(&engine, loop, 4711);
	engine.fail_at = fail_at;
	engine.fail_with = error;
	engine.for_good = for_good;
	for (unsigned i = 0; i < BATCHES; i++)
		failed += run_batch(b, &seed);
	engine.fail_at = 0;
	/* What could not be written is written now. */
	assert_int_equal(blk_flush_now(b), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(run_batch(b, &seed), 0);
	failed = engine.failed;
	blk_destroy(b);
	shadow_compare("a", failed);
	return failed;
}

static void fail_each(const char *template, int error, bool for_good)
{
	unsigned at = 1;

	shadow_take(template, MIB(1));
	while (run_with(template, at, error, for_good))
		at += scale > 1 ? 1 : 7;
	assert_true(at > 50);
}

static void make_templates(const char *options)
{
	run_ok("qemu-img create -f qcow2 -o %s t 1M && qemu-io -c 'write -P 1 100k 200k' t &&"
	       "qemu-img snapshot -c s t && qemu-io -c 'write -P 2 250k 100k' -c 'write -c -P 3 "
	       "512k "
	       "64k' t && seq 1000000 | head -c 900k >base && qemu-img create -f qcow2 -b base -F "
	       "raw "
	       "-o %s u 1M && qemu-io -c 'write -P 1 100k 200k' u",
		options, options);
}

static void test_errors(void **state)
{
	static const char *const options[] = {
		"cluster_size=512", "cluster_size=64k", "cluster_size=4k,compat=0.10"};

	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		make_templates(options[i]);
		fail_each("t", EIO, false);
		fail_each("u", EIO, false);
		fail_each("t", ENOSPC, true);
		fail_each("u", ENOSPC, true);
	}
}

/* ---- much that is freed ---- */

static void submit(unsigned i, enum blk_op op, struct blk *b, uint64_t len)
{
	one[i] = (struct one){.r = {.op = op, .len = len, .done = one_done}};
	blk_submit(b, &one[i].r);
}

/* More than can wait to be freed, while a flush is under way that is to free none of it. */
static void test_many_freed(void **state)
{
	struct blk *b;

	run_ok("qemu-img create -f qcow2 -o cluster_size=512 a 2M");
	b = open_ok("a");
	for (unsigned parity = 0; parity < 2; parity++)
		for (uint64_t off = parity * 512; off < MIB(2); off += 1024)
			assert_int_equal(blk_write_now(b, off, buf[0], 512), 0);
	assert_int_equal(blk_flush_now(b), 0);
	submit(0, BLK_FLUSH, b, 0);
	submit(1, BLK_DISCARD, b, MIB(2));
	while (engine.count)
		faulty_step(&engine);
	assert_true(one[0].over && one[1].over);
	assert_int_equal(one[0].rc | one[1].rc, 0);
	blk_destroy(b);
	run_ok("qemu-img check a");
}

/* ---- another size ---- */

/* As fail_each, of a change of the size: what is on the disk stays there, what is new is zeroes. */
static bool resize_with(unsigned fail_at, uint64_t kept, uint64_t small, uint64_t large)
{
	static uint8_t got[MIB(16)], zeroes[MIB(16)];
	struct blk *b = open_ok("a");
	uint64_t before = b->size;
	unsigned failed;

	faulty_init(&engine, loop, 4711);
	engine.fail_at = fail_at;
	engine.fail_with = ENOSPC;
	engine.for_good = true;
	blk_resize(b, before == small ? large : small);
	failed = engine.failed;
	blk_destroy(b);
	engine.fail_at = 0;
	if (run_status("qemu-img check a") % 3)
		fail_msg("operation %u fails: %d", fail_at, system("cat said >&2"));
	b = open_ok("a");
	assert_true(b->size == small || b->size == large);
	before = b->size;
	assert_int_equal(blk_resize(b, large), 0);
	assert_int_equal(blk_read_now(b, 0, got, large), 0);
	assert_memory_equal(got, shadow.data, kept);
	if (before == small)
		assert_memory_equal(got + small, zeroes, large - small);
	blk_destroy(b);
	run_ok("qemu-img check a || test $? = 3");
	return failed;
}

static void resize_each(uint64_t kept, uint64_t small, uint64_t large)
{
	unsigned at = 1;

	do
		run_ok("cp t a");
	while (resize_with(at, kept, small, large) && (at += scale > 1 ? 1 : 5));
	assert_true(at > 10);
}

static void test_resize_errors(void **state)
{
	qcow2_use_tools();
	run_ok("qemu-img create -f qcow2 -o cluster_size=512 t 12M && qemu-io -c 'write -P 5 0 "
	       "12M' t");
	shadow_take("t", MIB(12));
	resize_each(KIB(64), KIB(64), MIB(12));
	run_ok("qemu-io -f raw -c 'write -P 6 0 12M' shadow && rm -f base && mv shadow base &&"
	       "qemu-img create -f qcow2 -o cluster_size=512 -b base -F raw t 32k &&"
	       "qemu-io -c 'write -P 7 0 16k' t");
	shadow_take("t", KIB(32));
	resize_each(KIB(32), KIB(32), MIB(12));
}

/* Where the refcount table has to become larger for the new L1 table. */
static void test_resize_refcount_table(void **state)
{
	for (uint64_t kib = 7970; kib < 8040; kib += 10) {
		struct blk *b;

		run_ok("rm -f a && qemu-img create -f qcow2 -o cluster_size=512 a 16M &&"
		       "qemu-io -c 'write -P 7 0 %lluk' a",
			(unsigned long long)kib);
		b = open_ok("a");
		assert_int_equal(blk_resize(b, MIB(200)), 0);
		blk_destroy(b);
		run_ok("qemu-img check a");
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_many_freed),
		cmocka_unit_test(test_resize_errors),
		cmocka_unit_test(test_resize_refcount_table),
	};

	log_set_level(LOG_LEVEL_ERROR);
	if (argc > 1)
		scale = (unsigned)atoi(argv[1]);
	return cmocka_run_group_tests_name("qcow2_faults", tests, setup, teardown);
}
