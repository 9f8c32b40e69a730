// SPDX-License-Identifier: MIT
// Partition tables of both kinds: what is found, and what is refused in which words.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/loop.h"
#include "blk/engine.h"
#include "blk/partition.h"
#include "blk/raw.h"
#include "tests/unit/loop_device.h"
#include "tests/unit/partition_table.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE MIB(4)
#define SECTORS (SIZE / 512)

static uint8_t *image;
static int image_fd;
static struct gpt table;
static struct loop *loop;
static struct blk_engine *engine;
static struct blk *disk;

static struct blk *disk_of(int fd)
{
	const struct raw_config c = {.name = "it", .fd = dup(fd), .read_only = true};
	struct blk *b = NULL;

	if (raw_create(&b, engine, &c))
		fail_msg("%s", last_error());
	return b;
}

static int setup(void **state)
{
	image_fd = memfd_create("image", MFD_CLOEXEC);
	assert_true(image_fd >= 0);
	assert_int_equal(ftruncate(image_fd, SIZE), 0);
	image = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, image_fd, 0);
	assert_ptr_not_equal(image, MAP_FAILED);
	table = (struct gpt){image, SIZE, 512};
	assert_int_equal(loop_create(&loop, "test"), 0);
	assert_int_equal(engine_create(&engine, loop, ENGINE_SYNC), 0);
	disk = disk_of(image_fd);
	log_set_level(LOG_LEVEL_ERROR);
	return 0;
}

static int teardown(void **state)
{
	blk_destroy(disk);
	engine_destroy(engine);
	loop_destroy(loop);
	munmap(image, SIZE);
	close(image_fd);
	log_set_level(LOG_LEVEL_WARN);
	return 0;
}

static void finds(unsigned number, uint64_t first, uint64_t count)
{
	struct partition p = {0};

	if (partition_find(&p, disk, number))
		fail_msg("partition %u: %s", number, last_error());
	assert_int_equal(p.off, first * 512);
	assert_int_equal(p.len, count * 512);
}

static void refuses(unsigned number, int rc, const char *words)
{
	struct partition p;

	assert_int_equal(partition_find(&p, disk, number), rc);
	if (!strstr(last_error(), words))
		fail_msg("\"%s\" does not say \"%s\"", last_error(), words);
}

static void test_none(void **state)
{
	refuses(1, -EINVAL, "has no partition table");
	/* A FAT file system: the signature, and text where a table would have flags. */
	mbr_sign(image);
	image[446] = 'N';
	refuses(1, -EINVAL, "has no partition table");
}

static void test_primary(void **state)
{
	mbr_set(image, 0, 0x83, 1, 2047);
	mbr_set(image, 2, 0x82, 2048, SECTORS - 2048);
	image[446] = 0x80;
	finds(1, 1, 2047);
	refuses(2, -ENXIO, "has no partition 2");
	finds(3, 2048, SECTORS - 2048);
	refuses(5, -ENXIO, "has no partition 5");
	mbr_set(image, 3, 0x83, 2048, SECTORS - 2047);
	refuses(4, -EINVAL, "partition 4 is said to have 6145 sectors from 2048 on");
	mbr_set(image, 3, 0x83, UINT32_MAX, UINT32_MAX);
	refuses(4, -EINVAL, "partition 4 is said to have");
	mbr_set(image, 3, 0x83, 0, 9);
	refuses(4, -EINVAL, "partition 4 is said to have 9 sectors from 0 on");
}

static void test_logical(void **state)
{
	mbr_set(image, 0, 0x83, 1, 99);
	mbr_set(image, 1, 0x05, 100, 4000);
	mbr_set(image + 100 * 512, 0, 0x83, 10, 90);
	mbr_set(image + 100 * 512, 1, 0x05, 500, 300);
	mbr_set(image + 600 * 512, 1, 0x05, 1000, 300); /* has none, which is not counted */
	mbr_set(image + 1100 * 512, 0, 0x83, 7, 90);
	refuses(2, -EINVAL, "partition 2 is one that holds others");
	finds(5, 110, 90);
	finds(6, 1107, 90);
	refuses(7, -ENXIO, "has no partition 7");
	/* Back to itself: it ends all the same, there or with the number that is looked for. */
	mbr_set(image + 1100 * 512, 1, 0x0f, 500, 300);
	finds(60, 1107, 90);
	mbr_set(image + 1100 * 512, 0, 0x83, 7, 0);
	refuses(7, -ENXIO, "has no partition 7");
	mbr_set(image + 1100 * 512, 1, 0x0f, SECTORS, 300);
	refuses(7, -EINVAL, "goes on past its end, at sector 8292");
	image[600 * 512 + 511] = 0;
	refuses(6, -EINVAL, "no partition table in sector 600");
	finds(5, 110, 90);
}

static void test_gpt(void **state)
{
	gpt_make(&table);
	refuses(1, -ENXIO, "has no partition 1");
	gpt_set(&table, 0, 34, 2047);
	gpt_set(&table, 127, 2048, SECTORS - 1);
	finds(1, 34, 2014);
	finds(128, 2048, SECTORS - 2048);
	refuses(2, -ENXIO, "has no partition 2");
	gpt_set(&table, 1, 2048, SECTORS);
	refuses(2, -EINVAL, "partition 2 is said to have 6145 sectors from 2048 on");
	gpt_set(&table, 1, 2048, 2046);
	refuses(2, -EINVAL, "partition 2 is said to have 0 sectors");
	gpt_set(&table, 1, 0, UINT64_MAX);
	refuses(2, -EINVAL, "partition 2 is said to have 0 sectors");
	gpt_set(&table, 1, UINT64_MAX, UINT64_MAX - 1);
	refuses(2, -EINVAL, "partition 2 is said to have 0 sectors");
}

/* One copy may be damaged anywhere; both may not. */
static void test_gpt_damaged(void **state)
{
	static const unsigned at[] = {512, 512 + 16, 512 + 24, 512 + 91, 1024 + 5};

	gpt_make(&table);
	gpt_set(&table, 2, 34, 2047);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		image[at[i]] ^= 1;
		finds(3, 34, 2014);
		image[SIZE - 512 + 50] ^= 1;
		refuses(3, -EINVAL, "is damaged");
		image[SIZE - 512 + 50] ^= 1;
		image[at[i]] ^= 1;
	}
	finds(3, 34, 2014);
}

/* What the sums are right of, and yet is not to be used. */
static void test_gpt_unusable(void **state)
{
	static const struct {
		unsigned at;
		uint32_t value;
		const char *words;
	} t[] = {
		{80, 0, "a GPT of 0 entries of 128 bytes"},
		{80, UINT32_MAX, "a GPT of 4294967295 entries"},
		{80, 8192 + 1, "a GPT of 8193 entries"},
		{84, 64, "entries of 64 bytes"},
		{84, 130, "entries of 130 bytes"},
		{84, 1u << 31, "entries of 2147483648 bytes"},
		{72, SECTORS, "goes on past its end, at sector 8192"},
		{76, UINT32_MAX, "goes on past its end"},
		{12, 91, "no GPT header in sector"},
		{12, 513, "no GPT header in sector"},
		{24, 7, "is damaged"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		gpt_make(&table);
		for (unsigned copy = 0; copy < 2; copy++) {
			uint64_t sector = copy ? SECTORS - 1 : 1;

			put_le32(image + sector * 512 + t[i].at, t[i].value);
			gpt_seal(&table, sector);
		}
		refuses(1, -EINVAL, t[i].words);
	}
}

/* Whole, with a damaged first copy, and with a damaged second. */
static void check_big_sectors(struct blk *b, int fd)
{
	struct partition p = {0};

	for (unsigned damaged = 0; damaged < 3; damaged++) {
		uint8_t *magic = image + (damaged == 1 ? 4096 : SIZE - 4096);

		*magic ^= damaged > 0;
		assert_int_equal(msync(image, SIZE, MS_SYNC), 0);
		ioctl(fd, BLKFLSBUF, 0); /* of a device, that is */
		if (partition_find(&p, b, 2))
			fail_msg("%s", last_error());
		assert_int_equal(p.sector, 4096);
		assert_int_equal(p.off, MIB(1));
		assert_int_equal(p.len, MIB(2));
		*magic ^= damaged > 0;
	}
	assert_int_equal(partition_find(&p, b, 3), -ENXIO);
	assert_int_equal(partition_find(&p, b, 4), -EINVAL);
	if (!strstr(last_error(), "partition 4 is said to have 769 sectors from 256 on"))
		fail_msg("%s", last_error());
}

static void make_big_sectors(void)
{
	table.unit = 4096;
	gpt_make(&table);
	gpt_set(&table, 1, MIB(1) / 4096, MIB(3) / 4096 - 1);
	gpt_set(&table, 3, MIB(1) / 4096, SIZE / 4096);
}

/* The image of a disk with larger sectors. */
static void test_big_sectors(void **state)
{
	make_big_sectors();
	check_big_sectors(disk, image_fd);
}

/* The disk itself; what was copied there from one with the usual sectors; and an MBR, which says
 * nothing of what it counts in. */
static void test_device(void **state)
{
	int fd = loop_device(image_fd);
	struct partition p;
	struct blk *b;

	if (fd < 0) {
		print_message("host: no loop device: %s\n", strerror(errno));
		skip();
	}
	b = disk_of(fd);
	make_big_sectors();
	check_big_sectors(b, fd);
	memset(image, 0, SIZE);
	table.unit = 512;
	gpt_make(&table);
	gpt_set(&table, 0, 2048, 4095);
	assert_int_equal(msync(image, SIZE, MS_SYNC), 0);
	assert_int_equal(ioctl(fd, BLKFLSBUF, 0), 0);
	assert_int_equal(partition_find(&p, b, 1), 0);
	assert_int_equal(p.sector, 512);
	assert_int_equal(p.off, MIB(1));
	memset(image, 0, SIZE);
	mbr_set(image, 0, 0x83, 256, 512);
	assert_int_equal(msync(image, SIZE, MS_SYNC), 0);
	assert_int_equal(ioctl(fd, BLKFLSBUF, 0), 0);
	assert_int_equal(partition_find(&p, b, 1), 0);
	assert_int_equal(p.sector, 4096);
	assert_int_equal(p.off, MIB(1));
	assert_int_equal(p.len, MIB(2));
	blk_destroy(b);
	close(fd);
}

/* The disk is smaller than its table, or shrinks while it is looked at. */
static void test_short(void **state)
{
	struct partition p;

	gpt_make(&table);
	gpt_set(&table, 0, 34, 2047);
	disk->size = 0;
	assert_int_equal(partition_find(&p, disk, 1), -EINVAL);
	disk->size = 512;
	assert_int_equal(partition_find(&p, disk, 1), -EINVAL);
	disk->size = 2048 * 512;
	assert_int_equal(partition_find(&p, disk, 1), 0);
	disk->size = 2047 * 512;
	assert_int_equal(partition_find(&p, disk, 1), -EINVAL);
	disk->size = SIZE;
	assert_int_equal(ftruncate(image_fd, 1024), 0);
	assert_int_equal(partition_find(&p, disk, 1), -EIO);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_none),
		TEST(test_primary),
		TEST(test_logical),
		TEST(test_gpt),
		TEST(test_gpt_damaged),
		TEST(test_gpt_unusable),
		TEST(test_big_sectors),
		TEST(test_device),
		TEST(test_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
