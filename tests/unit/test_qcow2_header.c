// SPDX-License-Identifier: MIT
// Headers: those that we make are QEMU's too, those that QEMU makes are read, and each field that
// cannot be is refused by its name.
#include "tests/unit/image_engine.h"

#include "blk/now.h"
#include "blk/qcow2_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct qcow2_info look(const char *name)
{
	struct blk *file = image_file(engine, name, true, 0);
	struct qcow2_info info;

	if (qcow2_look(&info, file))
		fail_msg("%s", last_error());
	blk_destroy(file);
	return info;
}

static void create(const char *name, const struct qcow2_create *c)
{
	struct blk *file = image_file(engine, name, true, O_CREAT | O_TRUNC);

	if (qcow2_create(file, c))
		fail_msg("%s", last_error());
	blk_destroy(file);
}

static void test_created(void **state)
{
	for (unsigned bits = 9; bits <= 21; bits++)
		for (unsigned version = 2; version <= 3; version++) {
			struct qcow2_create c = {
				.size = MIB(777) + 512, .version = version, .cluster_bits = bits};
			struct qcow2_info i;

			create("a", &c);
			run_ok("qemu-img check -f qcow2 a && qemu-img info a");
			i = look("a");
			assert_int_equal(i.size, c.size);
			assert_int_equal(i.version, version);
			assert_int_equal(i.cluster_bits, bits);
			assert_int_equal(i.refcount_bits, 16);
			assert_string_equal(i.backing, "");
		}
}

static void test_created_options(void **state)
{
	struct qcow2_create c = {.size = GIB(1),
		.lazy_refcounts = true,
		.zstd = true,
		.backing = "base.img",
		.backing_format = "raw"};
	struct qcow2_info i;

	create("a", &c);
	run_ok("truncate -s 1G base.img && qemu-img check a && qemu-img info a >info &&"
	       "grep -q 'lazy refcounts: true' info && grep -q 'compression type: zstd' info &&"
	       "grep -q 'backing file: base.img' info && grep -q 'backing file format: raw' info");
	i = look("a");
	assert_true(i.lazy_refcounts && i.zstd);
	assert_string_equal(i.backing, "base.img");
	assert_string_equal(i.backing_format, "raw");
	/* The largest there are for their clusters, and what is refused. */
	c = (struct qcow2_create){.size = GIB(128), .cluster_bits = 9};
	create("b", &c);
	run_ok("qemu-img check b");
	c = (struct qcow2_create){.size = 0};
	create("c", &c);
	run_ok("qemu-img check c");
	assert_int_equal(look("c").size, 0);
}

static void refused(struct qcow2_create c, int rc)
{
	struct blk *file = image_file(engine, "refused", true, O_CREAT | O_TRUNC);

	assert_int_equal(qcow2_create(file, &c), rc);
	assert_int_equal(raw_file_size(file), 0);
	blk_destroy(file);
}

static void test_not_created(void **state)
{
	char name[1100] = {0};

	memset(name, 'n', 1024);
	refused((struct qcow2_create){.size = 100}, -EINVAL);
	refused((struct qcow2_create){.size = 512, .version = 4}, -EINVAL);
	refused((struct qcow2_create){.size = 512, .version = 2, .zstd = true}, -EINVAL);
	refused((struct qcow2_create){.size = 512, .cluster_bits = 22}, -EINVAL);
	refused((struct qcow2_create){.size = GIB(128) + 512, .cluster_bits = 9}, -EFBIG);
	refused((struct qcow2_create){.size = 512, .backing = name}, -ENAMETOOLONG);
	name[600] = '\0';
	refused((struct qcow2_create){.size = 512, .backing = name, .cluster_bits = 9},
		-ENAMETOOLONG);
}

static void test_looked_at(void **state)
{
	static const char *const options[] = {"compat=0.10", "compat=1.1", "lazy_refcounts=on",
		"refcount_bits=1", "refcount_bits=64", "cluster_size=512", "cluster_size=2M",
		"compression_type=zstd", "extended_l2=on", "preallocation=metadata"};
	struct qcow2_info i;

	for (unsigned n = 0; n < ARRAY_SIZE(options); n++) {
		run_ok("qemu-img create -f qcow2 -o %s a 100M", options[n]);
		i = look("a");
		assert_int_equal(i.size, MIB(100));
		assert_int_equal(i.lazy_refcounts, strstr(options[n], "lazy") != NULL);
		assert_int_equal(i.zstd, strstr(options[n], "zstd") != NULL);
		assert_int_equal(i.extended_l2, strstr(options[n], "extended") != NULL);
	}
	run_ok("qemu-img create -f qcow2 -b a -F qcow2 b && qemu-img snapshot -c one b");
	i = look("b");
	assert_string_equal(i.backing, "a");
	assert_string_equal(i.backing_format, "qcow2");
	assert_int_equal(i.snapshots, 1);
}

/* One field each, of an image with a backing file. */
static const struct {
	unsigned at, len;
	uint64_t value;
	int rc;
	const char *word; /* in the message */
} wrong[] = {
	{QCOW2_AT_MAGIC, 4, 0x514649fa, -EINVAL, "no qcow2"},
	{QCOW2_AT_VERSION, 4, 1, -ENOTSUP, "version 1"},
	{QCOW2_AT_VERSION, 4, 4, -ENOTSUP, "version 4"},
	{QCOW2_AT_BACKING, 8, 8, -EINVAL, "backing"},
	{QCOW2_AT_BACKING, 8, 65535, -EINVAL, "backing"},
	{QCOW2_AT_BACKING, 8, UINT64_MAX, -EINVAL, "backing"},
	{QCOW2_AT_BACKING_LEN, 4, 1024, -EINVAL, "backing"},
	{QCOW2_AT_BACKING_LEN, 4, 100, -EINVAL, "NUL"},
	{QCOW2_AT_CLUSTER_BITS, 4, 8, -EINVAL, "cluster_bits"},
	{QCOW2_AT_CLUSTER_BITS, 4, 22, -EINVAL, "cluster_bits"},
	{QCOW2_AT_CLUSTER_BITS, 4, UINT32_MAX, -EINVAL, "cluster_bits"},
	{QCOW2_AT_SIZE, 8, UINT64_MAX, -EINVAL, "size"},
	{QCOW2_AT_SIZE, 8, 1ull << 60, -EINVAL, "size"},
	{QCOW2_AT_CRYPT, 4, 1, -ENOTSUP, "AES"},
	{QCOW2_AT_CRYPT, 4, 2, -ENOTSUP, "LUKS"},
	{QCOW2_AT_CRYPT, 4, 3, -EINVAL, "encryption"},
	{QCOW2_AT_L1_ENTRIES, 4, 0, -EINVAL, "L1"},
	{QCOW2_AT_L1_ENTRIES, 4, UINT32_MAX, -EINVAL, "L1"},
	{QCOW2_AT_L1, 8, 0, -EINVAL, "table"},
	{QCOW2_AT_L1, 8, 512, -EINVAL, "L1"},
	{QCOW2_AT_L1, 8, 1ull << 40, -EINVAL, "L1"},
	{QCOW2_AT_REFS, 8, 0, -EINVAL, "table"},
	{QCOW2_AT_REFS, 8, 4096, -EINVAL, "refcount table"},
	{QCOW2_AT_REFS, 8, 1ull << 63, -EINVAL, "refcount table"},
	{QCOW2_AT_REFS_CLUSTERS, 4, 0, -EINVAL, "refcount table"},
	{QCOW2_AT_REFS_CLUSTERS, 4, UINT32_MAX, -EINVAL, "refcount table"},
	{QCOW2_AT_SNAPSHOTS, 4, UINT32_MAX, -EINVAL, "snapshots"},
	{QCOW2_AT_INCOMPATIBLE, 8, QCOW2_DATA_FILE, -ENOTSUP, "external data file"},
	{QCOW2_AT_INCOMPATIBLE, 8, 1ull << 63, -ENOTSUP, "feature 63"},
	{QCOW2_AT_INCOMPATIBLE, 8, QCOW2_COMPRESSION, -ENOTSUP, "compression type 0"},
	{QCOW2_AT_REFCOUNT_ORDER, 4, 7, -EINVAL, "refcount order"},
	{QCOW2_AT_REFCOUNT_ORDER, 4, 63, -EINVAL, "refcount order"},
	{QCOW2_AT_HEADER_LEN, 4, 96, -EINVAL, "length"},
	{QCOW2_AT_HEADER_LEN, 4, 105, -EINVAL, "length"},
	{QCOW2_AT_HEADER_LEN, 4, 131072, -EINVAL, "length"},
	{QCOW2_AT_COMPRESSION, 1, 1, -EINVAL, "compression"},
	{112, 8, 0xe2792aca00000010ull, -EINVAL, "format"},
	{112, 8, 0xe2792aca7fffffffull, -EINVAL, "extension at byte 112"},
	{112, 8, 0x12345678ffffffffull, -EINVAL, "extension at byte 112"},
};

static void test_wrong(void **state)
{
	struct qcow2_create c = {.size = MIB(1), .backing = "base", .backing_format = "raw"};
	uint8_t good[BLK_SECTOR], sector[BLK_SECTOR];
	struct qcow2_info info;
	struct blk *file;

	create("a", &c);
	file = image_file(engine, "a", true, 0);
	assert_int_equal(blk_read_now(file, 0, good, sizeof(good)), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		memcpy(sector, good, sizeof(good));
		for (unsigned n = 0; n < wrong[i].len; n++)
			sector[wrong[i].at + n] =
				(uint8_t)(wrong[i].value >> 8 * (wrong[i].len - 1 - n));
		assert_int_equal(blk_write_now(file, 0, sector, sizeof(sector)), 0);
		if (qcow2_look(&info, file) != wrong[i].rc || !strstr(last_error(), wrong[i].word))
			fail_msg("row %u: %s", i, last_error());
	}
	assert_int_equal(blk_write_now(file, 0, good, sizeof(good)), 0);
	assert_int_equal(qcow2_look(&info, file), 0);
	blk_destroy(file);
}

/* An unknown feature is called as the image calls it. */
static void test_feature_name(void **state)
{
	struct qcow2_info info;
	struct blk *file;

	run_ok("qemu-img create -f qcow2 -o data_file=d a 1M");
	file = image_file(engine, "a", true, 0);
	assert_int_equal(qcow2_look(&info, file), -ENOTSUP);
	assert_non_null(strstr(last_error(), "external data file"));
	blk_destroy(file);
	/* Bit 5, with the entry of the table that was bit 4's. */
	run_ok("qemu-img create -f qcow2 a 1M && printf '\\040' |"
	       "dd of=a bs=1 seek=79 conv=notrunc && printf '\\005' |"
	       "dd of=a bs=1 seek=313 conv=notrunc");
	file = image_file(engine, "a", true, 0);
	assert_int_equal(qcow2_look(&info, file), -ENOTSUP);
	assert_non_null(strstr(last_error(), "feature 5, \"extended L2 entries\""));
	blk_destroy(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_created),
		cmocka_unit_test(test_created_options),
		cmocka_unit_test(test_not_created),
		cmocka_unit_test(test_looked_at),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_feature_name),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("qcow2_header", tests, setup, teardown);
}
