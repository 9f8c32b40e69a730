// SPDX-License-Identifier: MIT
// Images at random against a shadow in memory, with qemu-img for a second opinion: images of every
// kind that it makes are read and written, and what comes of it is sound to it and the same.
#include "tests/unit/fake_blk.h"
#include "tests/unit/image_file.h"

#include "base/util.h"
#include "blk/decompress_here.h"
#include "blk/now.h"
#include "blk/qcow2_format.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

static struct loop *loop;
static struct blk_engine *engine;
static struct decompressor *decompressor;
static unsigned scale = 1; /* how much longer than usual */

static int setup(void **state)
{
	enum engine_kind kind = *state ? *(enum engine_kind *)*state : ENGINE_AUTO;

	image_begin();
	assert_int_equal(loop_create(&loop, "test"), 0);
	assert_int_equal(engine_create(&engine, loop, kind), 0);
	assert_int_equal(decompress_here_create(&decompressor), 0);
	return 0;
}

static int teardown(void **state)
{
	decompress_here_destroy(decompressor);
	engine_destroy(engine);
	loop_destroy(loop);
	image_end();
	return 0;
}

/* The whole chain of the image; the last may be raw. */
static struct blk *open_image(const char *name, const struct qcow2_config *c)
{
	struct blk *file = image_file(engine, name, true, 0), *backing = NULL, *b;
	struct qcow2_config below = *c;
	struct qcow2_info info;

	if (qcow2_look(&info, file))
		fail_msg("%s", last_error());
	below.read_only = true;
	if (info.backing[0] && strcmp(info.backing_format, "raw") == 0)
		backing = image_file(engine, info.backing, false, 0);
	else if (info.backing[0])
		backing = open_image(info.backing, &below);
	if (qcow2_open(&b, file, backing, c))
		fail_msg("%s", last_error());
	return b;
}

/* ---- what a disk should be ---- */

static struct {
	uint64_t size;
	uint8_t *data;
	bool *known;
} shadow;

/* As it is to qemu-img. */
static void shadow_take(const char *name)
{
	FILE *f;

	run_ok("qemu-img convert -O raw %s shadow", name);
	f = fopen("shadow", "rb");
	assert_non_null(f);
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	shadow.size = (uint64_t)ftell(f);
	rewind(f);
	free(shadow.data);
	free(shadow.known);
	shadow.data = malloc(shadow.size);
	shadow.known = malloc(shadow.size / BLK_SECTOR * sizeof(bool));
	assert_true(shadow.data && shadow.known);
	assert_int_equal(fread(shadow.data, 1, shadow.size, f), shadow.size);
	fclose(f);
	memset(shadow.known, true, shadow.size / BLK_SECTOR * sizeof(bool));
}

/* The image is sound to qemu-img, and has what the shadow has. */
static void shadow_compare(const char *name)
{
	uint8_t sector[BLK_SECTOR];
	FILE *f;

	run_ok("qemu-img check %s && qemu-img convert -O raw %s now", name, name);
	f = fopen("now", "rb");
	assert_non_null(f);
	for (uint64_t i = 0; i < shadow.size / BLK_SECTOR; i++) {
		assert_int_equal(fread(sector, 1, sizeof(sector), f), sizeof(sector));
		if (shadow.known[i] &&
			memcmp(sector, shadow.data + i * BLK_SECTOR, sizeof(sector)) != 0)
			fail_msg("%s: qemu-img reads something else in sector %llu", name,
				(unsigned long long)i);
	}
	fclose(f);
}

static void stress(struct blk *b, unsigned requests, uint64_t seed)
{
	struct blk_stress s = {
		.blk = b,
		.loop = loop,
		.requests = requests,
		.depth = 32,
		.unaligned = true,
		.shadow = shadow.data,
		.known = shadow.known,
	};

	assert_int_equal(b->size, shadow.size);
	blk_stress_run(&s, seed);
}

/* Rounds of requests; the image is closed after each, and looked at. */
static void torture(const char *name, unsigned rounds, unsigned requests)
{
	struct qcow2_config c = {.decompressor = decompressor};

	shadow_take(name);
	for (unsigned i = 0; i < rounds * scale; i++) {
		struct blk *b = open_image(name, &c);

		stress(b, requests, 1234567 + 8191 * i);
		blk_destroy(b);
		shadow_compare(name);
	}
}

/* ---- images ---- */

static void test_clusters(void **state)
{
	for (unsigned bits = 9; bits <= 21; bits += bits == 9 ? 3 : 4)
		for (unsigned version = 2; version <= 3; version++) {
			struct qcow2_create c = {
				.size = MIB(5) + 512, .cluster_bits = bits, .version = version};
			struct blk *file = image_file(engine, "a", true, O_CREAT | O_TRUNC);

			assert_int_equal(qcow2_create(file, &c), 0);
			blk_destroy(file);
			torture("a", 3, 400);
		}
}

/* With data in it already, and room left. */
static void make(const char *name, const char *options, const char *more)
{
	run_ok("qemu-img create -f qcow2 -o %s %s 6M && qemu-io -f qcow2 -c 'write -P 1 5k 1M' "
	       "-c 'write -P 2 3000k 333k' -c 'write -z 2M 100k' %s >/dev/null",
		options, name, name);
	if (more)
		run_ok("%s", more);
}

static void test_options(void **state)
{
	static const char *const options[] = {"refcount_bits=1", "refcount_bits=2",
		"refcount_bits=8,cluster_size=512", "refcount_bits=32", "refcount_bits=64",
		"refcount_bits=64,cluster_size=512", "lazy_refcounts=on",
		"preallocation=metadata,cluster_size=4k", "preallocation=falloc",
		"preallocation=full,cluster_size=512", "compat=0.10,preallocation=metadata"};

	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		make("a", options[i], NULL);
		torture("a", 2, 500);
	}
}

/* Over a raw file and over another image, smaller and larger than the image. */
static void test_backing(void **state)
{
	static const char *const options[] = {"cluster_size=512", "cluster_size=4k",
		"cluster_size=64k", "cluster_size=2M", "cluster_size=4k,compat=0.10",
		"cluster_size=64k,compat=0.10"};

	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		run_ok("head -c 3333632 /dev/urandom >raw");
		make("base", options[i], NULL);
		run_ok("qemu-img create -f qcow2 -b raw -F raw -o %s a 5M &&"
		       "qemu-img create -f qcow2 -b base -F qcow2 b 4M &&"
		       "qemu-img create -f qcow2 -b b -F qcow2 -o %s c 7M",
			options[i], options[i]);
		torture("a", 2, 400);
		torture("c", 2, 400);
	}
}

static void test_chain_of_20(void **state)
{
	run_ok("qemu-img create -f qcow2 0 4M");
	for (unsigned i = 0; i < 20; i++) {
		if (i)
			run_ok("qemu-img create -f qcow2 -b %u -F qcow2 %u", i - 1, i);
		run_ok("qemu-io -f qcow2 -c 'write -P %u %uk 300k' %u", i + 1, i * 180, i);
	}
	torture("19", 2, 400);
}

/* What a snapshot has stays as it is, whatever is written afterwards. */
static void snapshots(const char *options)
{
	struct qcow2_config c = {.decompressor = decompressor};

	make("a", options, NULL);
	shadow_take("a");
	for (unsigned i = 0; i < 4; i++) {
		struct blk *b;

		run_ok("qemu-img convert -O raw a was%u && qemu-img snapshot -c s%u a", i, i);
		b = open_image("a", &c);
		stress(b, 500, 777 + i);
		blk_destroy(b);
		shadow_compare("a");
		for (unsigned n = 0; n <= i; n++)
			run_ok("qemu-img convert -O raw -l s%u a then && cmp then was%u", n, n);
	}
	run_ok("qemu-img snapshot -d s1 a && qemu-img snapshot -a s2 a && qemu-img check a &&"
	       "qemu-img convert -O raw a then && cmp then was2");
	torture("a", 1, 500);
}

static void test_snapshots(void **state)
{
	snapshots("cluster_size=512");
	snapshots("cluster_size=4k,compat=0.10");
	snapshots("cluster_size=64k");
	snapshots("cluster_size=2M");
}

static void test_compressed(void **state)
{
	static const char *const options[] = {"cluster_size=512", "cluster_size=4k",
		"cluster_size=64k", "cluster_size=2M", "cluster_size=64k,compat=0.10",
		"cluster_size=4k,compression_type=zstd", "cluster_size=64k,compression_type=zstd",
		"cluster_size=2M,compression_type=zstd"};

	run_ok("seq 1000000 | head -c 6M >text");
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		run_ok("qemu-img convert -f raw -O qcow2 -c -o %s text a &&"
		       "qemu-img create -f qcow2 -b a -F qcow2 -o %s b",
			options[i], options[i]);
		torture("b", 1, 500);
		torture("a", 2, 500);
	}
}

/* ---- what tools do ---- */

/* As qemu-img's map says it: a line each of off, len, depth, whether it is zeroes and data. */
static void map_like_qemu(const char *name)
{
	struct qcow2_config c = {.decompressor = decompressor};
	struct blk *b = open_image(name, &c);
	struct blk_extent e;
	FILE *f = fopen("ours", "w");

	assert_non_null(f);
	for (uint64_t off = 0; off < b->size; off += e.len) {
		assert_int_equal(blk_map(b, off, b->size - off, &e), 0);
		assert_true(e.len && e.len <= b->size - off);
		for (uint64_t at = 0; at < e.len; at += BLK_SECTOR) {
			fprintf(f, "%llu %u %d %d", (unsigned long long)(off + at),
				e.kind == BLK_EXTENT_ABSENT ? 0 : e.depth,
				e.kind != BLK_EXTENT_DATA, e.kind == BLK_EXTENT_DATA);
			if (e.placed)
				fprintf(f, " %llu", (unsigned long long)(e.at + at));
			fputc('\n', f);
		}
	}
	fclose(f);
	blk_destroy(b);
	run_ok("qemu-img map --output=json %s | python3 -c '"
	       "import json, sys\n"
	       "for e in json.load(sys.stdin):\n"
	       "    for o in range(0, e[\"length\"], 512):\n"
	       "        at = \" %%d\" %% (e[\"offset\"] + o) if e[\"data\"] and \"offset\" in e "
	       "else \"\"\n"
	       "        depth = e[\"depth\"] if e[\"present\"] else 0\n"
	       "        print(e[\"start\"] + o, depth, int(e[\"zero\"]), int(e[\"data\"]), "
	       "sep=\" \", end=at + \"\\n\")' >theirs && diff ours theirs",
		name);
}

static void test_map(void **state)
{
	make("base", "cluster_size=4k", NULL);
	run_ok("qemu-img create -f qcow2 -b base -F qcow2 a 8M && qemu-io -f qcow2 "
	       "-c 'write -P 3 300k 1M' -c 'write -z 1M 64k' -c 'write -c -P 4 4M 64k' a");
	map_like_qemu("base");
	map_like_qemu("a");
}

static void test_resize(void **state)
{
	static const char *const options[] = {
		"cluster_size=512", "cluster_size=64k", "cluster_size=4k,compat=0.10"};
	static const uint64_t sizes[] = {
		MIB(7), MIB(7) + 512, MIB(3) + 1024, MIB(5), MIB(700), MIB(2), MIB(2) + 512};

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(options); i++) {
		struct qcow2_config c = {.decompressor = decompressor};
		uint64_t size = MIB(6), least = size;
		struct blk *b;

		make("base", options[i / 2], "qemu-img convert -O raw base raw");
		if (i % 2)
			run_ok("qemu-img create -f qcow2 -b base -F qcow2 -o %s a 6M && "
			       "truncate -s 6M raw",
				options[i / 2]);
		else
			run_ok("mv base a");
		for (unsigned n = 0; n < ARRAY_SIZE(sizes); n++) {
			b = open_image("a", &c);
			if (blk_resize(b, sizes[n]))
				fail_msg("%s", last_error());
			assert_int_equal(b->size, sizes[n]);
			blk_destroy(b);
			size = sizes[n];
			least = MIN(least, size);
			run_ok("truncate -s %llu raw && qemu-img check a && "
			       "qemu-img compare -f raw -F qcow2 raw a",
				(unsigned long long)size);
		}
		torture("a", 1, 300);
	}
}

/* As qcow2 has it: no header, a small window. */
static uint64_t deflate_all(const uint8_t *from, uint64_t len, uint8_t *to)
{
	z_stream s = {0};

	assert_int_equal(deflateInit2(&s, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, 0), Z_OK);
	s.next_in = (uint8_t *)(uintptr_t)from;
	s.avail_in = (unsigned)len;
	s.next_out = to;
	s.avail_out = (unsigned)(2 * len);
	assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
	assert_int_equal(deflateEnd(&s), Z_OK);
	return s.total_out;
}

/* Of the same text: how much of the file's system it takes is qemu-img's figure, or less. */
static void test_write_compressed(void **state)
{
	static const unsigned cluster_bits[] = {9, 12, 16, 21};

	run_ok("seq 1000000 | head -c 6M >text");
	for (unsigned i = 0; i < ARRAY_SIZE(cluster_bits); i++) {
		struct qcow2_create create = {.size = MIB(6), .cluster_bits = cluster_bits[i]};
		struct qcow2_config c = {.decompressor = decompressor};
		uint64_t cluster = 1ull << cluster_bits[i];
		struct blk *file = image_file(engine, "a", true, O_CREAT | O_TRUNC), *b, *text;
		uint8_t *from = malloc(cluster), *to = malloc(2 * cluster);

		assert_true(from && to);
		assert_int_equal(qcow2_create(file, &create), 0);
		blk_destroy(file);
		b = open_image("a", &c);
		text = image_file(engine, "text", false, 0);
		for (uint64_t off = 0; off < MIB(6); off += cluster) {
			assert_int_equal(blk_read_now(text, off, from, cluster), 0);
			assert_int_equal(
				qcow2_write_compressed(b, off, to, deflate_all(from, cluster, to)),
				0);
		}
		assert_int_equal(qcow2_write_compressed(b, 0, to, 100), -EEXIST);
		assert_int_equal(qcow2_write_compressed(b, 100, to, 100), -EINVAL);
		blk_destroy(text);
		blk_destroy(b);
		run_ok("qemu-img check a && qemu-img compare -f raw -F qcow2 text a &&"
		       "qemu-img convert -c -o cluster_size=%llu -O qcow2 text theirs &&"
		       "test $(stat -c %%s a) -le $(($(stat -c %%s theirs) + 65536))",
			(unsigned long long)cluster);
		torture("a", 1, 300);
		free(from);
		free(to);
	}
}

/* ---- what is not right ---- */

static uint64_t number_at(struct blk *file, uint64_t at)
{
	uint8_t sector[BLK_SECTOR];

	assert_int_equal(blk_read_now(file, at & ~511ull, sector, sizeof(sector)), 0);
	return get_be64(sector + (at & 511));
}

static void put_number(struct blk *file, uint64_t at, uint64_t value)
{
	uint8_t sector[BLK_SECTOR];

	assert_int_equal(blk_read_now(file, at & ~511ull, sector, sizeof(sector)), 0);
	put_be64(sector + (at & 511), value);
	assert_int_equal(blk_write_now(file, at & ~511ull, sector, sizeof(sector)), 0);
}

/* Requests to the first cluster fail, the next is as it was. */
static void check_damage(uint64_t at, uint64_t value, bool next_too)
{
	static uint8_t buf[KIB(4)];
	struct qcow2_config c = {.decompressor = decompressor};
	struct blk *file = image_file(engine, "a", true, 0), *b;
	uint64_t was = number_at(file, at);

	put_number(file, at, value);
	blk_destroy(file);
	b = open_image("a", &c);
	assert_int_equal(blk_read_now(b, 0, buf, sizeof(buf)), -EIO);
	assert_int_equal(blk_write_now(b, 512, buf, sizeof(buf)), -EIO);
	assert_int_equal(blk_clear_now(b, BLK_WRITE_ZEROES, BLK_UNMAP, 0, KIB(64)), -EIO);
	assert_int_equal(blk_clear_now(b, BLK_DISCARD, 0, 0, KIB(64)), -EIO);
	assert_int_equal(blk_read_now(b, KIB(64), buf, sizeof(buf)), next_too ? -EIO : 0);
	assert_int_equal(blk_read_now(b, MIB(600), buf, sizeof(buf)), 0);
	assert_int_equal(blk_flush_now(b), 0);
	blk_destroy(b);
	file = image_file(engine, "a", true, 0);
	assert_int_equal(number_at(file, at), value);
	put_number(file, at, was);
	blk_destroy(file);
	run_ok("qemu-img check a && qemu-io -c 'read -P 1 0 128k' a");
}

static void test_damaged(void **state)
{
	struct blk *file;
	uint64_t l1, l2, refs;

	run_ok("qemu-img create -f qcow2 a 1G && qemu-io -c 'write -P 1 0 128k' a");
	file = image_file(engine, "a", true, 0);
	l1 = number_at(file, 40);
	refs = number_at(file, 48);
	l2 = number_at(file, l1) & QCOW2_OFFSET_MASK;
	blk_destroy(file);
	const uint64_t entries[] = {QCOW2_COPIED, QCOW2_COPIED | 0x50200, QCOW2_COPIED | 1ull << 50,
		QCOW2_COPIED | l1, QCOW2_COPIED | refs, 1ull << 60 | 0x50000, 2, UINT64_MAX,
		QCOW2_COMPRESSED, QCOW2_COMPRESSED | 1ull << 53};

	for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
		check_damage(l2, entries[i], false);
	check_damage(l1, QCOW2_COPIED | 0x200, true);
	check_damage(l1, QCOW2_COPIED, true);
	check_damage(l1, QCOW2_COPIED | 1ull << 45, true);
	check_damage(l1, QCOW2_COPIED | l1, true);
	check_damage(l1, UINT64_MAX, true);
}

static void refused(const char *name, struct blk *backing, int rc, const char *word)
{
	struct blk *file = image_file(engine, name, true, 0), *b;
	struct qcow2_config c = {0};

	assert_int_equal(qcow2_open(&b, file, backing, &c), rc);
	if (!strstr(last_error(), word))
		fail_msg("\"%s\" does not say \"%s\"", last_error(), word);
	blk_destroy(file);
}

static void test_refused(void **state)
{
	struct qcow2_config c = {.read_only = true};
	struct blk *file;

	run_ok("qemu-img create -f qcow2 -o extended_l2=on a 1M &&"
	       "qemu-img create -f qcow2 b 1M && qemu-img create -f qcow2 -b b -F qcow2 d");
	refused("a", NULL, -ENOTSUP, "subclusters");
	refused("d", NULL, -EINVAL, "backing file");
	for (uint64_t bit = QCOW2_DIRTY; bit <= QCOW2_CORRUPT; bit <<= 1) {
		file = image_file(engine, "b", true, 0);
		put_number(file, QCOW2_AT_INCOMPATIBLE, bit);
		blk_destroy(file);
		refused("b", NULL, -EIO, "--repair");
		blk_destroy(open_image("b", &c));
	}
	/* What we do not keep right nobody is to believe. */
	run_ok("qemu-img create -f qcow2 e 1M && qemu-img bitmap --add e one");
	blk_destroy(open_image("e", &c));
	file = image_file(engine, "e", true, 0);
	assert_int_equal(number_at(file, QCOW2_AT_AUTOCLEAR), 1);
	blk_destroy(file);
	c.read_only = false;
	blk_destroy(open_image("e", &c));
	file = image_file(engine, "e", true, 0);
	assert_int_equal(number_at(file, QCOW2_AT_AUTOCLEAR), 0);
	blk_destroy(file);
}

int main(int argc, char **argv)
{
	static enum engine_kind kinds[] = {ENGINE_SYNC, ENGINE_AUTO};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clusters),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_backing),
		cmocka_unit_test(test_chain_of_20),
		cmocka_unit_test(test_snapshots),
		cmocka_unit_test(test_compressed),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_write_compressed),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_refused),
	};
	int failed = 0;

	log_set_level(LOG_LEVEL_ERROR);
	qcow2_use_tools();
	if (argc > 1)
		scale = (unsigned)atoi(argv[1]);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct CMUnitTest on[ARRAY_SIZE(tests)];

		/* Without a ring, what is requests only. */
		memset(on, 0, sizeof(on));
		for (unsigned n = 0; n < (i ? ARRAY_SIZE(tests) : 3); n++) {
			on[n] = tests[n];
			on[n].setup_func = setup;
			on[n].teardown_func = teardown;
			on[n].initial_state = &kinds[i];
		}
		failed += cmocka_run_group_tests_name(
			i ? "qcow2, io_uring" : "qcow2, sync", on, NULL, NULL);
	}
	return failed;
}
