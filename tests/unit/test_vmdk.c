// SPDX-License-Identifier: MIT
// vmdk images on real files: random requests against a shadow; images of QEMU's are read, and QEMU
// reads ours; what cannot be is refused by its name.
#include "tests/unit/fake_blk.h"
#include "tests/unit/vmdk_image.h"
#include "tests/unit/vmdk_open.h"

#include "blk/now.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct loop *loop;
static struct blk_engine *engine;
static struct unzip unzip;

static int begin(enum engine_kind kind)
{
	image_begin();
	vmdk_use_tools();
	assert_int_equal(loop_create(&loop, "test"), 0);
	assert_int_equal(engine_create(&engine, loop, kind), 0);
	unzip_init(&unzip, loop);
	return 0;
}

static int setup(void **state)
{
	return begin(ENGINE_SYNC);
}

static int setup_uring(void **state)
{
	return begin(ENGINE_AUTO);
}

static int teardown(void **state)
{
	unzip_finish(&unzip);
	engine_destroy(engine);
	loop_destroy(loop);
	image_end();
	return 0;
}

static struct blk *open_image(const char *name, bool read_only)
{
	struct vmdk_config c = {read_only, &unzip.decompressor};
	struct blk *b;

	if (vmdk_open_files(&b, engine, name, &c))
		fail_msg("%s", last_error());
	return b;
}

static void put_file(const char *name, const void *data, uint64_t size)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	for (uint64_t at = 0; at < size;) {
		ssize_t n = pwrite(fd, (const uint8_t *)data + at, size - at, (off_t)at);

		assert_true(n > 0);
		at += (uint64_t)n;
	}
	close(fd);
}

/* ---- random requests ---- */

/*
 * The file "raw" has what was written; the disk is closed, and QEMU reads the same of the image. It
 * reads all, in blocks within which no extent ends: of others, and of what its compare takes for
 * holes, it is not right itself where a flat extent comes after a sparse one.
 */
static void same_for_qemu(struct blk *b, const char *name, const uint8_t *shadow, unsigned block)
{
	uint64_t size = b->size;

	blk_destroy(b);
	put_file("raw", shadow, size);
	run_ok("qemu-img check -f vmdk %s", name);
	run_ok("qemu-img dd -f vmdk -O raw bs=%u if=%s of=read && cmp read raw", block, name);
}

/* All of the disk as it is read now; what was discarded is anything: what it is found to be. */
static void settle_shadow(struct blk_stress *s)
{
	for (uint64_t off = 0; off < s->blk->size; off += BLK_SECTOR)
		if (!s->known[off / BLK_SECTOR])
			assert_int_equal(blk_read_now(s->blk, off, s->shadow + off, BLK_SECTOR), 0);
}

/* `step` requests at a time, after which QEMU finds nothing wrong with what is flushed. */
static void stress_in_steps(
	struct blk_stress *s, const char *name, unsigned requests, unsigned step)
{
	if (getenv("KVICK_TEST_LONG"))
		requests *= 10;
	s->requests = step;
	for (unsigned i = 0; i < requests; i += step) {
		blk_stress_run(s, 20 + i + requests);
		assert_int_equal(blk_flush_now(s->blk), 0);
		run_ok("qemu-img check -U -f vmdk %s", name);
	}
}

static void stress(const char *name, unsigned requests, unsigned block)
{
	struct blk *b = open_image(name, false);
	struct blk_stress s = {
		.blk = b,
		.loop = loop,
		.depth = 60,
		.unaligned = true,
		.shadow = calloc(1, b->size),
		.known = malloc(b->size / BLK_SECTOR * sizeof(bool)),
	};

	assert_true(s.shadow && s.known);
	memset(s.known, true, b->size / BLK_SECTOR * sizeof(bool));
	stress_in_steps(&s, name, requests, b->size > MIB(64) ? requests / 2 : 1000);
	settle_shadow(&s);
	same_for_qemu(b, name, s.shadow, block);
	/* And so do we, another time. */
	b = open_image(name, true);
	for (uint64_t off = 0; off < b->size; off += MIB(1)) {
		static uint8_t buf[MIB(1)];
		uint64_t len = MIN(sizeof(buf), b->size - off);

		assert_int_equal(blk_read_now(b, off, buf, len), 0);
		assert_memory_equal(buf, s.shadow + off, len);
	}
	blk_destroy(b);
	free(s.shadow);
	free(s.known);
}

#define SIZE "12345856" /* not whole grains of 64 KiB */

static void test_random_sparse(void **state)
{
	run_ok("qemu-img create -q -f vmdk a.vmdk " SIZE);
	stress("a.vmdk", 10000, MIB(1));
}

static void test_random_flat(void **state)
{
	run_ok("qemu-img create -q -f vmdk -o subformat=monolithicFlat a.vmdk " SIZE);
	stress("a.vmdk", 3000, MIB(1));
}

static void test_random_zeroed(void **state)
{
	run_ok("qemu-img create -q -f vmdk -o zeroed_grain=on a.vmdk " SIZE);
	run_ok("qemu-io -f vmdk -c 'write -P 7 0 6M' -c 'write -z 64k 4M' a.vmdk");
	run_ok("qemu-io -f vmdk -c 'write -P 0 0 6M' a.vmdk");
	stress("a.vmdk", 3000, MIB(1));
}

/* Extents of what a test can hold: sparse, flat and zeroes, of no whole grains. */
static void make_mixed(void)
{
	char text[512];

	run_ok("qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse x.vmdk 1000448");
	run_ok("qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse y.vmdk 3M");
	run_ok("truncate -s 2M z.raw");
	snprintf(text, sizeof(text),
		"# Disk DescriptorFile\r\nversion=1\r\nCID=123\r\nparentCID=ffffffff\r\n"
		"createType=\"twoGbMaxExtentSparse\"\r\n\r\n# Extents\r\n"
		"RW 1954 SPARSE \"x-s001.vmdk\"\r\n"
		"RW 1000 FLAT \"z.raw\" 0\r\n"
		"RW 6144 SPARSE \"y-s001.vmdk\"\r\n");
	put_file("a.vmdk", text, strlen(text));
}

static void test_random_mixed(void **state)
{
	make_mixed();
	stress("a.vmdk", 5000, 512);
}

static void test_flat_offset(void **state)
{
	static const char text[] = "version=1\nCID=1\ncreateType=\"twoGbMaxExtentFlat\"\n"
				   "RW 8 FLAT \"z.raw\" 17\nRW 8 FLAT \"z.raw2\" 3\n";
	uint8_t data[KIB(4)], back[KIB(4)];
	struct blk *b;
	int fd;

	put_file("a.vmdk", text, strlen(text));
	run_ok("truncate -s 16k z.raw z.raw2");
	b = open_image("a.vmdk", false);
	memset(data, 5, sizeof(data));
	assert_int_equal(blk_write_now(b, KIB(2), data, sizeof(data)), 0);
	blk_destroy(b);
	fd = open("z.raw", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, back, KIB(2), (off_t)(17 * 512 + KIB(2))), KIB(2));
	close(fd);
	assert_memory_equal(back, data, KIB(2));
	fd = open("z.raw2", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, back, KIB(2), 3 * 512), KIB(2));
	close(fd);
	assert_memory_equal(back, data, KIB(2));
}

/* More tables than there is memory for, none of which is there at first. */
static void test_random_tables(void **state)
{
	const struct vmdk_shape shape = {.capacity = 600 * 1024 + 100,
		.grain = 8,
		.gtes = 128,
		.flags = VMDK_REDUNDANT,
		.no_tables = true};
	uint8_t *image = calloc(1, MIB(1));

	assert_non_null(image);
	put_file("a.vmdk", image, vmdk_put_image(image, &shape));
	free(image);
	stress("a.vmdk", 8000, MIB(1));
}

/* ---- QEMU's images ---- */

#define BYTES 12345856u

/* Grains that are full, that are not there, that can be compressed, and that cannot. */
static uint8_t *make_pattern(void)
{
	uint8_t *p = calloc(1, BYTES);
	uint64_t seed = 12345;

	assert_non_null(p);
	for (uint64_t at = 0; at < BYTES; at += KIB(32)) {
		uint64_t len = MIN(KIB(32), BYTES - at), kind = fake_random(&seed) % 4;

		if (kind == 1)
			memset(p + at, (int)(at >> 15), len);
		for (uint64_t i = 0; kind > 1 && i + 8 <= len; i += 8)
			put_le64(p + at + i, kind == 2 ? at + i : fake_random(&seed));
	}
	return p;
}

/* In pieces of any size, from anywhere. */
static void reads_as(struct blk *b, const uint8_t *pattern)
{
	static uint8_t buf[KIB(256)];
	uint64_t seed = 99;

	assert_int_equal(b->size, BYTES);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t off = fake_random(&seed) % (BYTES / 512) * 512;
		uint64_t len = (1 + fake_random(&seed) % 500) * 512;

		len = MIN(len, BYTES - off);
		assert_int_equal(blk_read_now(b, off, buf, len), 0);
		assert_memory_equal(buf, pattern + off, len);
	}
	for (uint64_t off = 0; off < BYTES; off += sizeof(buf)) {
		uint64_t len = MIN(sizeof(buf), BYTES - off);

		assert_int_equal(blk_read_now(b, off, buf, len), 0);
		assert_memory_equal(buf, pattern + off, len);
	}
}

/* Also at once, through the loop. */
static void reads_at_once(struct blk *b, uint8_t *pattern)
{
	struct blk_stress s = {
		.blk = b,
		.loop = loop,
		.requests = 2000,
		.depth = 40,
		.unaligned = true,
		.shadow = pattern,
		.known = malloc(b->size / BLK_SECTOR * sizeof(bool)),
	};

	assert_non_null(s.known);
	memset(s.known, true, b->size / BLK_SECTOR * sizeof(bool));
	blk_stress_run(&s, 77);
	free(s.known);
}

static const char *const options[] = {"subformat=monolithicSparse", "subformat=monolithicFlat",
	"subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentFlat",
	"subformat=streamOptimized", "adapter_type=lsilogic,zeroed_grain=on", "compat6=on"};

static void test_read(void **state)
{
	uint8_t *pattern = make_pattern();

	put_file("raw", pattern, BYTES);
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		char name[16];
		struct blk *b;

		snprintf(name, sizeof(name), "a%u.vmdk", i);
		run_ok("qemu-img convert -f raw -O vmdk -o %s raw %s", options[i], name);
		b = open_image(name, true);
		reads_as(b, pattern);
		reads_at_once(b, pattern);
		blk_destroy(b);
	}
	free(pattern);
}

static void expect_bytes(struct blk *b, uint64_t off, uint64_t len, int value)
{
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	assert_int_equal(blk_read_now(b, off, buf, len), 0);
	for (uint64_t i = 0; i < len; i++)
		if (buf[i] != value)
			fail_msg("byte %llu is %u, not %d", (unsigned long long)(off + i), buf[i],
				value);
	free(buf);
}

/* Several extents of 2 GiB, and writes across their borders. */
static void large(const char *subformat)
{
	struct blk *b;
	uint8_t fives[KIB(128)];

	run_ok("qemu-img create -q -f vmdk -o subformat=%s a.vmdk 5G", subformat);
	run_ok("qemu-io -f vmdk -c 'write -P 3 2147418112 128k' -c 'write -P 4 5368643584 64k' "
	       "a.vmdk");
	b = open_image("a.vmdk", false);
	assert_int_equal(b->size, GIB(5));
	expect_bytes(b, 2147418112 - 65536, 65536, 0);
	expect_bytes(b, 2147418112, KIB(128), 3);
	expect_bytes(b, 5368643584, KIB(64), 4);
	memset(fives, 5, sizeof(fives));
	assert_int_equal(blk_write_now(b, GIB(4) - KIB(64), fives, sizeof(fives)), 0);
	assert_int_equal(blk_clear_now(b, BLK_WRITE_ZEROES, 0, GIB(2) - 512, 1024), 0);
	blk_destroy(b);
	run_ok("qemu-img check -f vmdk a.vmdk");
	run_ok("qemu-io -f vmdk -c 'read -P 5 4294901760 128k' -c 'read -P 0 2147483136 1k' "
	       "-c 'read -P 3 2147484160 60k' -c 'read -P 0 4295032832 512' a.vmdk");
	assert_int_equal(run_status("grep -q 'Pattern verification failed' said"), 1);
}

static void test_large(void **state)
{
	large("twoGbMaxExtentSparse");
	large("twoGbMaxExtentFlat");
	large("monolithicSparse");
}

/* ---- ours ---- */

static void create(const char *name, uint64_t size)
{
	struct blk *file = image_file(engine, name, true, O_CREAT | O_TRUNC);

	if (vmdk_create(file, name, size))
		fail_msg("%s", last_error());
	blk_destroy(file);
}

static void test_create(void **state)
{
	const uint64_t sizes[] = {
		512, KIB(64), KIB(64) + 512, MIB(32), MIB(32) + 512, GIB(3) + 1536, GIB(2000)};
	uint8_t data[KIB(96)];
	struct stat st;

	memset(data, 9, sizeof(data));
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t len = MIN(sizes[i], sizeof(data));
		struct blk *b;

		create("a.vmdk", sizes[i]);
		run_ok("qemu-img check -f vmdk a.vmdk");
		run_ok("qemu-img info --output=json a.vmdk | grep -q '\"virtual-size\": %llu,'",
			(unsigned long long)sizes[i]);
		b = open_image("a.vmdk", false);
		assert_int_equal(b->size, sizes[i]);
		assert_int_equal(blk_write_now(b, sizes[i] - len, data, len), 0);
		blk_destroy(b);
		run_ok("qemu-img check -f vmdk a.vmdk");
		run_ok("qemu-io -f vmdk -c 'read -P 9 %llu %llu' -c 'write -P 8 0 512' a.vmdk",
			(unsigned long long)(sizes[i] - len), (unsigned long long)len);
		assert_int_equal(run_status("grep -q 'Pattern verification failed' said"), 1);
		b = open_image("a.vmdk", true);
		expect_bytes(b, 0, 512, 8);
		blk_destroy(b);
		/* The last grain is whole, and no more is there than has to be. */
		assert_int_equal(stat("a.vmdk", &st), 0);
		assert_int_equal(st.st_size % KIB(64), 0);
		assert_true(st.st_blocks * 512ull < MIB(1));
	}
}

static void test_create_refused(void **state)
{
	struct blk *file = image_file(engine, "a", true, O_CREAT);

	assert_int_equal(vmdk_create(file, "a", 0), -EINVAL);
	assert_int_equal(vmdk_create(file, "a", 513), -EINVAL);
	assert_int_equal(vmdk_create(file, "a\"b", 512), -EINVAL);
	assert_int_equal(vmdk_create(file, "a", GIB(2048)), -EFBIG);
	assert_int_equal(vmdk_create(file, "a", UINT64_MAX - 511), -EFBIG);
	blk_destroy(file);
}

/* The host's disk is full: who writes is told, nothing breaks, and it goes on when there is room.
 */
static void test_no_room(void **state)
{
	struct rlimit before, limit;
	uint8_t data[KIB(64)];
	struct blk *b;
	struct stat st;
	unsigned failed = 0;

	create("a.vmdk", MIB(64));
	b = open_image("a.vmdk", false);
	assert_int_equal(stat("a.vmdk", &st), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){(rlim_t)st.st_size + KIB(512), before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	for (unsigned pass = 0; pass < 2; pass++) {
		assert_int_equal(setrlimit(RLIMIT_FSIZE, pass ? &before : &limit), 0);
		for (unsigned i = 0; i < 40; i++) {
			uint64_t off = i * MIB(1) + (i % 3) * KIB(32);

			memset(data, (int)i + 1, sizeof(data));
			if (blk_write_now(b, off, data, sizeof(data)))
				failed++;
			else
				expect_bytes(b, off, sizeof(data), (int)i + 1);
		}
		assert_int_equal(blk_flush_now(b), 0);
		run_ok("qemu-img check -U -f vmdk a.vmdk");
		assert_true(failed > 20 && failed < 40);
	}
	blk_destroy(b);
	run_ok("qemu-img check -f vmdk a.vmdk");
	b = open_image("a.vmdk", true);
	for (unsigned i = 0; i < 40; i++)
		expect_bytes(b, i * MIB(1) + (i % 3) * KIB(32), sizeof(data), (int)i + 1);
	blk_destroy(b);
}

/* ---- what is written of the image itself ---- */

static uint32_t cid_now(const char *name)
{
	static struct vmdk_info info;
	struct blk *file = image_file(engine, name, true, 0);

	if (vmdk_look(&info, file))
		fail_msg("%s", last_error());
	blk_destroy(file);
	return info.cid;
}

static uint8_t byte_of(const char *name, off_t at)
{
	uint8_t v = 0xff;
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &v, 1, at), 1);
	close(fd);
	return v;
}

/* The CID changes before the first change, and once; a read changes nothing. */
static void test_cid(void **state)
{
	uint8_t data[512] = {1};

	run_ok("qemu-img create -q -f vmdk a0.vmdk 1M");
	run_ok("qemu-img create -q -f vmdk -o subformat=monolithicFlat a1.vmdk 1M");
	make_mixed(); /* whose CID has three digits */
	run_ok("mv a.vmdk a2.vmdk");
	for (unsigned i = 0; i < 3; i++) {
		char name[] = "a0.vmdk";
		uint32_t before, first, then;
		struct blk *b;

		name[1] = (char)('0' + i);
		before = cid_now(name);
		b = open_image(name, false);
		assert_int_equal(blk_read_now(b, 0, data, 512), 0);
		assert_int_equal(blk_flush_now(b), 0);
		assert_int_equal(cid_now(name), before);
		assert_int_equal(blk_write_now(b, 0, data, 512), 0);
		first = cid_now(name);
		assert_int_not_equal(first, before);
		assert_int_equal(blk_write_now(b, 512, data, 512), 0);
		then = cid_now(name);
		assert_int_equal(first, then);
		blk_destroy(b);
		assert_int_equal(cid_now(name), first);
		run_ok("qemu-img check -f vmdk %s || [ $? = 63 ]", name);
	}
}

/* An extent says that it is written to, until it is closed; one that was found so keeps it. */
static void test_unclean(void **state)
{
	uint8_t data[512] = {1};

	run_ok("qemu-img create -q -f vmdk a.vmdk 1M");
	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned found = 0; found < 2; found++) {
		struct blk *b = open_image("a.vmdk", false);

		assert_int_equal(byte_of("a.vmdk", VMDK_UNCLEAN_AT), found);
		assert_int_equal(blk_write_now(b, 0, data, 512), 0);
		assert_int_equal(byte_of("a.vmdk", VMDK_UNCLEAN_AT), 1);
		blk_destroy(b);
		assert_int_equal(byte_of("a.vmdk", VMDK_UNCLEAN_AT), found);
		run_ok("printf '\\1' | dd of=a.vmdk bs=1 seek=72 conv=notrunc");
	}
	log_set_level(LOG_LEVEL_WARN);
}

/* Both copies of what was written are the same, also of tables that were made. */
static void test_copies(void **state)
{
	const struct vmdk_shape shape = {.capacity = 10000,
		.grain = 8,
		.gtes = 128,
		.flags = VMDK_REDUNDANT,
		.no_tables = true};
	struct vmdk_places places = vmdk_places(&shape);
	uint8_t *image = calloc(1, MIB(8)), data[512] = {1};
	struct blk *b;
	int fd;

	assert_non_null(image);
	put_file("a.vmdk", image, vmdk_put_image(image, &shape));
	b = open_image("a.vmdk", false);
	for (uint64_t off = 0; off < b->size; off += KIB(52))
		assert_int_equal(blk_write_now(b, off, data, 512), 0);
	blk_destroy(b);
	fd = open("a.vmdk", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 && pread(fd, image, MIB(8), 0) > 0);
	close(fd);
	for (uint64_t i = 0; i < places.gdes; i++) {
		uint32_t gd = get_le32(image + places.gd * 512 + i * 4);
		uint32_t rgd = get_le32(image + places.rgd * 512 + i * 4);

		assert_true(gd && rgd && gd != rgd);
		assert_memory_equal(image + gd * 512, image + rgd * 512, 512);
	}
	free(image);
}

static void test_map(void **state)
{
	static const struct blk_extent expected[] = {
		{.len = KIB(64), .kind = BLK_EXTENT_ABSENT},
		{.len = KIB(128), .kind = BLK_EXTENT_DATA, .placed = true},
		{.len = MIB(1), .kind = BLK_EXTENT_ZERO},
		{.len = MIB(32) - MIB(1) - KIB(192), .kind = BLK_EXTENT_ABSENT},
		{.len = MIB(8), .kind = BLK_EXTENT_ABSENT},
	};
	uint8_t data[KIB(128)] = {1};
	struct blk_extent e;
	struct blk *b;
	uint64_t at = 0;

	run_ok("qemu-img create -q -f vmdk -o zeroed_grain=on a.vmdk 40M");
	run_ok("qemu-io -f vmdk -c 'write -z 192k 1M' a.vmdk");
	b = open_image("a.vmdk", false);
	assert_int_equal(blk_write_now(b, KIB(64), data, sizeof(data)), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(expected); i++, at += e.len) {
		assert_int_equal(blk_map(b, at, b->size - at, &e), 0);
		assert_int_equal(e.len, expected[i].len);
		assert_int_equal(e.kind, expected[i].kind);
		assert_int_equal(e.placed, expected[i].placed);
		assert_false(e.compressed);
	}
	assert_int_equal(at, b->size);
	assert_int_equal(blk_map(b, KIB(65), 512, &e), 0);
	assert_true(e.len == 512 && e.at % KIB(64) == KIB(1));
	blk_destroy(b);
	run_ok("qemu-img convert -f vmdk -O vmdk -o subformat=streamOptimized a.vmdk s.vmdk");
	b = open_image("s.vmdk", true);
	assert_int_equal(blk_map(b, KIB(64), MIB(1), &e), 0);
	assert_true(e.kind == BLK_EXTENT_DATA && e.compressed && e.len == KIB(64));
	blk_destroy(b);
}

/* The last grain that was unpacked is not unpacked again. */
static void test_kept(void **state)
{
	uint8_t data[512], *pattern = make_pattern();
	struct blk *b;

	put_file("raw", pattern, BYTES);
	run_ok("qemu-img convert -f raw -O vmdk -o subformat=streamOptimized raw a.vmdk");
	b = open_image("a.vmdk", true);
	for (uint64_t off = 0; off < BYTES; off += 512)
		assert_int_equal(blk_read_now(b, off, data, 512), 0);
	assert_true(unzip.jobs > 100 && unzip.jobs <= BYTES / KIB(64) + 1);
	blk_destroy(b);
	free(pattern);
}

/* ---- what is refused ---- */

static void refused(const char *name, bool read_only, int rc, const char *why)
{
	struct vmdk_config c = {read_only, &unzip.decompressor};
	struct blk *b = NULL;
	int got = vmdk_open_files(&b, engine, name, &c);

	if (got != rc || !strstr(last_error(), why) || !strstr(last_error(), "disk "))
		fail_msg("%d, not %d with \"%s\": %s", got, rc, why, got ? last_error() : "");
}

static void test_for_reading_only(void **state)
{
	struct vmdk_config c = {.read_only = true};
	struct blk *b;

	run_ok("qemu-img create -q -f raw raw 1M");
	run_ok("qemu-img convert -f raw -O vmdk -o subformat=streamOptimized raw s.vmdk");
	refused("s.vmdk", false, -ENOTSUP, "its grains are compressed");
	assert_int_equal(vmdk_open_files(&b, engine, "s.vmdk", &c), -ENOTSUP);
	run_ok("qemu-img create -q -f vmdk a.vmdk 1M");
	run_ok("printf '\\3' | dd of=a.vmdk bs=1 seek=4 conv=notrunc");
	refused("a.vmdk", false, -ENOTSUP, "version 3");
	blk_destroy(open_image("a.vmdk", true));
	run_ok("qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse b.vmdk 1M");
	refused("b-s001.vmdk", true, -EINVAL, "descriptor");
	run_ok("sed -i 's/^RW/RDONLY/' b.vmdk");
	refused("b.vmdk", false, -EROFS, "read-only");
	blk_destroy(open_image("b.vmdk", true));
	run_ok("sed -i 's/2048/4096/' b.vmdk");
	refused("b.vmdk", true, -EINVAL, "capacity is 2048 sectors, 4096 in the descriptor");
	run_ok("qemu-img create -q -f vmdk -o subformat=monolithicFlat f.vmdk 1M");
	run_ok("truncate -s 1048064 f-flat.vmdk");
	refused("f.vmdk", true, -EINVAL, "end before the extent does");
	run_ok("printf COWD >c.vmdk; truncate -s 4k c.vmdk");
	refused("c.vmdk", true, -ENOTSUP, "COWD");
	run_ok("truncate -s 100k d.vmdk");
	refused("d.vmdk", true, -EINVAL, "neither a sparse extent, nor a descriptor");
}

/* Each field of a header. `len` is 1, 2, 4 or 8 bytes. */
static const struct bad_field {
	unsigned at, len;
	uint64_t value;
	int rc;
	const char *why;
} bad_fields[] = {
	{4, 4, 0, -ENOTSUP, "version is 0"},
	{4, 4, 4, -ENOTSUP, "version is 4"},
	{8, 4, 0x80000003, -ENOTSUP, "flags is"},
	{8, 4, 0x40003, -ENOTSUP, "flags is"},
	{8, 4, 0x10003, -ENOTSUP, "flags is"},
	{8, 4, 0x20003, -ENOTSUP, "flags is"},
	{8, 4, 0x30003, -ENOTSUP, "compressAlgorithm is 0"},
	{12, 8, 0, -EINVAL, "capacity is 0"},
	{12, 8, 4096, -EINVAL, "its header 2097152"},
	{12, 8, UINT64_MAX, -EFBIG, "capacity is"},
	{12, 8, 1ull << 40, -EFBIG, "capacity is"},
	{20, 8, 0, -EINVAL, "grainSize is 0"},
	{20, 8, 4, -EINVAL, "grainSize is 4"},
	{20, 8, 127, -EINVAL, "grainSize is 127"},
	{20, 8, 4096, -EINVAL, "grainSize is 4096"},
	{20, 8, 1ull << 63, -EINVAL, "grainSize is"},
	{28, 8, 0, -EINVAL, "descriptorOffset is 0"},
	{28, 8, 1000, -EINVAL, "descriptorOffset is 1000"},
	{28, 8, UINT64_MAX, -EINVAL, "descriptorOffset is"},
	{28, 8, 100, -EINVAL, "descriptor"},
	{36, 8, 0, -EINVAL, "descriptorOffset is 0"},
	{36, 8, 129, -EINVAL, "descriptorSize is 129"},
	{36, 8, UINT64_MAX, -EINVAL, "descriptorSize is"},
	{44, 4, 0, -EINVAL, "numGTEsPerGT is 0"},
	{44, 4, 64, -EINVAL, "numGTEsPerGT is 64"},
	{44, 4, 500, -EINVAL, "numGTEsPerGT is 500"},
	{44, 4, 1024, -EINVAL, "numGTEsPerGT is 1024"},
	{48, 8, 0, -EINVAL, "rgdOffset is 0"},
	{48, 8, 1000, -EINVAL, "rgdOffset is 1000"},
	{48, 8, UINT64_MAX, -EINVAL, "rgdOffset is"},
	{56, 8, 0, -EINVAL, "gdOffset is 0"},
	{56, 8, 1000, -EINVAL, "gdOffset is 1000"},
	{56, 8, UINT64_MAX - 1, -EINVAL, "gdOffset is"},
	{56, 8, UINT64_MAX, -EINVAL, "is no footer's marker"},
	{64, 8, 0, -EINVAL, "overHead is 0"},
	{64, 8, 1000, -EINVAL, "overHead is 1000"},
	{73, 1, '\r', -EINVAL, "transfer as text"},
	{74, 1, '\n', -EINVAL, "transfer as text"},
	{75, 1, '\n', -EINVAL, "transfer as text"},
	{76, 1, 0, -EINVAL, "transfer as text"},
	{77, 2, 1, -ENOTSUP, "compressAlgorithm is 1"},
	{77, 2, 0x8000, -ENOTSUP, "compressAlgorithm is 32768"},
};

static void test_bad_headers(void **state)
{
	uint8_t image[KIB(64)], broken[KIB(64)];
	int fd;

	create("a.vmdk", MIB(1));
	fd = open("a.vmdk", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 && pread(fd, image, sizeof(image), 0) == sizeof(image));
	close(fd);
	for (unsigned i = 0; i < ARRAY_SIZE(bad_fields); i++) {
		const struct bad_field *f = &bad_fields[i];
		uint8_t value[8];

		put_le64(value, f->value);
		memcpy(broken, image, sizeof(image));
		memcpy(broken + f->at, value, f->len);
		put_file("b.vmdk", broken, sizeof(broken));
		refused("b.vmdk", true, f->rc, f->why);
		refused("b.vmdk", false, f->rc, f->why);
	}
}

#define TEXT(lines) "# Disk DescriptorFile\nversion=1\nCID=fffffffe\n" lines
#define TYPE "createType=\"monolithicFlat\"\n"
#define FLAT "RW 8 FLAT \"raw\" 0\n"

static const struct bad_text {
	int rc;
	const char *text, *why;
} bad_texts[] = {
	{-EINVAL, "", "has no CID"},
	{-EINVAL, TEXT(""), "has no createType"},
	{-EINVAL, TEXT(TYPE), "has no extent"},
	{-EINVAL, "version=1\n" TYPE FLAT, "has no CID"},
	{-EINVAL, TEXT(FLAT), "has no createType"},
	{-ENOTSUP, TEXT("version=4\n"), "line 4 of the descriptor: version=4"},
	{-ENOTSUP, TEXT("version=x\n"), "version=x"},
	{-EINVAL, TEXT("CID=123456789\n"), "CID=123456789"},
	{-EINVAL, TEXT("CID=xyz\n"), "CID=xyz"},
	{-EINVAL, TEXT("parentCID=-1\n"), "parentCID=-1"},
	{-ENOTSUP, TEXT("parentCID=12345678\n"), "parentCID=12345678: it is a snapshot"},
	{-ENOTSUP, TEXT("parentFileNameHint=\"/etc/base.vmdk\"\n"), "snapshot over /etc/base.vmdk"},
	{-ENOTSUP, TEXT("createType=\"vmfs\"\n"), "createType=\"vmfs\" is not supported"},
	{-ENOTSUP, TEXT("createType=\"fullDevice\"\n"), "createType=\"fullDevice\""},
	{-ENOTSUP, TEXT(TYPE "NOACCESS 8 FLAT \"raw\" 0\n"), "NOACCESS"},
	{-ENOTSUP, TEXT(TYPE "RW 8 VMFS \"raw\"\n"),
		"line 5 of the descriptor: extents of kind VMFS"},
	{-ENOTSUP, TEXT(TYPE "RW 8 SESPARSE \"raw\"\n"), "SESPARSE"},
	{-ENOTSUP, TEXT(TYPE "RW 8\n"), "extents of kind \"\""},
	{-EINVAL, TEXT(TYPE "RW x FLAT \"raw\" 0\n"), "no size of an extent"},
	{-EINVAL, TEXT(TYPE "RW 0 FLAT \"raw\" 0\n"), "no size of an extent"},
	{-EINVAL, TEXT(TYPE "RW -8 FLAT \"raw\" 0\n"), "no size of an extent"},
	{-EINVAL, TEXT(TYPE "RW 18446744073709551616 FLAT \"raw\" 0\n"), "no size of an extent"},
	{-EINVAL, TEXT(TYPE "RW 9007199254740992 FLAT \"raw\" 0\nRW 1 ZERO\n"),
		"line 6 of the descriptor: no size of an extent"},
	{-EINVAL, TEXT(TYPE "RW 8 FLAT \"raw\"\n"), "no offset"},
	{-EINVAL, TEXT(TYPE "RW 8 FLAT \"raw\" -1\n"), "no offset"},
	{-EINVAL, TEXT(TYPE "RW 8 FLAT \"raw\" 18446744073709551615\n"), "no offset"},
	{-EINVAL, TEXT(TYPE "RW 8 FLAT \"raw\" 0 more\n"), "more than an extent has"},
	{-EINVAL, TEXT(TYPE "RW 8 SPARSE \"raw\" 0\n"), "more than an extent has"},
	{-EINVAL, TEXT(TYPE "RW 8 FLAT \"\" 0\n"), "1 to 255 characters"},
	{-EINVAL, TEXT(TYPE "RW 8 FLAT \"raw\n"), "1 to 255 characters"},
	{-EINVAL, TEXT("createType=\"mono\n"), "no end of a quotation"},
	{-EINVAL, TEXT("=\n"), "no key"},
	{-EINVAL, TEXT("nothing\n"), "is no extent"},
	{-EINVAL, TEXT("ddb.comment = \"\x1b[2J\"\n"), "byte 60 of its descriptor is not text"},
};

static void test_bad_texts(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(bad_texts); i++) {
		const struct bad_text *t = &bad_texts[i];

		put_file("a.vmdk", t->text, strlen(t->text));
		refused("a.vmdk", true, t->rc, t->why);
	}
}

static void test_many_extents(void **state)
{
	char *text = malloc(KIB(64)), *p = text;
	struct blk *b;

	assert_non_null(text);
	p += sprintf(p, TEXT(TYPE));
	for (unsigned i = 0; i < VMDK_EXTENTS_MAX; i++)
		p += sprintf(p, "RW 8 ZERO\n");
	put_file("a.vmdk", text, (size_t)(p - text));
	b = open_image("a.vmdk", true);
	assert_int_equal(b->size, VMDK_EXTENTS_MAX * KIB(4));
	expect_bytes(b, 0, b->size, 0);
	blk_destroy(b);
	p += sprintf(p, "RW 8 ZERO\n");
	put_file("a.vmdk", text, (size_t)(p - text));
	refused("a.vmdk", true, -EFBIG, "more than 200 extents");
	free(text);
}

/* ---- tables that make no sense ---- */

static void patch(const char *name, off_t at, uint32_t value)
{
	uint8_t bytes[4];
	int fd = open(name, O_RDWR | O_CLOEXEC);

	put_le32(bytes, value);
	assert_true(fd >= 0 && pwrite(fd, bytes, 4, at) == 4);
	close(fd);
}

/* Of a disk of three tables the second has grain 0; whatever that is, the others can be used. */
static void one_is_bad(struct blk *b, bool one_grain)
{
	uint8_t data[KIB(4)] = {1};
	const uint64_t others[] = {0, MIB(64), MIB(32) + (one_grain ? KIB(64) : MIB(32))};

	assert_int_equal(blk_read_now(b, MIB(32), data, sizeof(data)), -EIO);
	assert_int_equal(blk_write_now(b, MIB(32), data, sizeof(data)), -EIO);
	assert_int_equal(blk_clear_now(b, BLK_WRITE_ZEROES, 0, MIB(32), 512), -EIO);
	assert_int_equal(blk_read_now(b, MIB(32) - 512, data, sizeof(data)), -EIO);
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		assert_int_equal(blk_write_now(b, others[i], data, sizeof(data)), 0);
		assert_int_equal(blk_read_now(b, others[i], data, sizeof(data)), 0);
	}
	assert_int_equal(blk_flush_now(b), 0);
	blk_destroy(b);
}

static void test_bad_tables(void **state)
{
	const uint32_t grains[] = {1, 2, 100, 129, 0x7fffff80, 0xffffff80, UINT32_MAX};
	const uint32_t tables[] = {0x7fffff80, 0xffffffff, 4096};
	uint32_t gd, table;

	create("a.vmdk", MIB(96));
	run_ok("qemu-io -f vmdk -c 'write -P 1 32M 64k' a.vmdk");
	{
		struct vmdk_header h;
		struct blk *file = image_file(engine, "a.vmdk", true, 0);
		uint64_t size;
		uint8_t sector[512];

		assert_int_equal(vmdk_header_read(&h, file, &size), 0);
		assert_int_equal(blk_read_now(file, h.gd * 512, sector, 512), 0);
		gd = (uint32_t)h.gd * 512 + 4;
		table = get_le32(sector + 4) * 512;
		blk_destroy(file);
	}
	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned i = 0; i < ARRAY_SIZE(grains); i++) {
		run_ok("cp --sparse=always a.vmdk b.vmdk");
		patch("b.vmdk", table, grains[i]);
		one_is_bad(open_image("b.vmdk", false), true);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		run_ok("cp --sparse=always a.vmdk b.vmdk");
		patch("b.vmdk", gd, tables[i]);
		one_is_bad(open_image("b.vmdk", false), false);
	}
	log_set_level(LOG_LEVEL_WARN);
}

/* A marker that is another grain's, lengths that cannot be, and data that is none. */
static void test_bad_packed(void **state)
{
	static const struct {
		unsigned at;
		uint32_t value;
	} bad[] = {
		{0, 128}, {4, 1}, {8, 0}, {8, UINT32_MAX}, {8, KIB(80)}, {12, 0}, {20, 0x5a5a5a5a}};
	uint8_t data[512];

	run_ok("qemu-img create -q -f raw raw 1M");
	run_ok("qemu-io -f raw -c 'write -P 1 0 64k' -c 'write -P 2 512k 64k' raw");
	run_ok("qemu-img convert -f raw -O vmdk -o subformat=streamOptimized raw a.vmdk");
	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct blk *b;

		run_ok("cp a.vmdk b.vmdk");
		patch("b.vmdk", (off_t)(KIB(64) + bad[i].at), bad[i].value);
		b = open_image("b.vmdk", true);
		assert_int_equal(blk_read_now(b, 512, data, 512), -EIO);
		expect_bytes(b, KIB(512), KIB(64), 2);
		assert_int_equal(blk_read_now(b, 512, data, 512), -EIO);
		blk_destroy(b);
	}
	log_set_level(LOG_LEVEL_WARN);
}

/* As VMware's tools make them: what was not known at first is in a footer. */
static void test_footer(void **state)
{
	uint8_t end[1536] = {0}, header[512];
	uint8_t *pattern = make_pattern();
	struct blk *b;
	struct stat st;
	int fd;

	put_file("raw", pattern, BYTES);
	run_ok("qemu-img convert -f raw -O vmdk -o subformat=streamOptimized raw a.vmdk");
	fd = open("a.vmdk", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0 && pread(fd, header, 512, 0) == 512);
	put_le32(end + 8, 0);
	put_le32(end + 12, 3);
	memcpy(end + 512, header, 512);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pwrite(fd, end, sizeof(end), (off_t)align_up((uint64_t)st.st_size, 512)),
		sizeof(end));
	put_le64(header + 56, VMDK_AT_END);
	assert_int_equal(pwrite(fd, header, 512, 0), 512);
	close(fd);
	b = open_image("a.vmdk", true);
	reads_as(b, pattern);
	blk_destroy(b);
	free(pattern);
	run_ok("truncate -s -512 a.vmdk");
	refused("a.vmdk", true, -EINVAL, "cut short");
}

#define WITH(test, with) cmocka_unit_test_setup_teardown(test, with, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(test_random_sparse, setup),
		WITH(test_random_sparse, setup_uring),
		WITH(test_random_flat, setup_uring),
		WITH(test_random_zeroed, setup),
		WITH(test_random_mixed, setup_uring),
		WITH(test_random_tables, setup),
		WITH(test_flat_offset, setup),
		WITH(test_read, setup),
		WITH(test_read, setup_uring),
		WITH(test_large, setup_uring),
		WITH(test_create, setup),
		WITH(test_create_refused, setup),
		WITH(test_no_room, setup),
		WITH(test_cid, setup),
		WITH(test_unclean, setup),
		WITH(test_copies, setup_uring),
		WITH(test_map, setup),
		WITH(test_kept, setup),
		WITH(test_for_reading_only, setup),
		WITH(test_bad_headers, setup),
		WITH(test_bad_texts, setup),
		WITH(test_many_extents, setup),
		WITH(test_bad_tables, setup),
		WITH(test_bad_packed, setup),
		WITH(test_footer, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
