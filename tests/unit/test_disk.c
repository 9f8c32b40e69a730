// SPDX-License-Identifier: MIT
// What is looked at of an image before anything starts: partitions that the guest would not find.
#include "tests/unit/partition_table.h"
#include "tests/unit/test.h"
#include "vmm/disk.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE MIB(4)

/* An image with one partition, the second, from the first mebibyte to the third. */
static void make_image(char *path, unsigned sector)
{
	int fd = mkstemp(path);
	struct gpt table = {.len = SIZE, .unit = sector};

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	table.image = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(table.image, MAP_FAILED);
	gpt_make(&table);
	gpt_set(&table, 1, MIB(1) / sector, MIB(3) / sector - 1);
	munmap(table.image, SIZE);
	close(fd);
}

static int open_with(const char *path, const char *keys, struct disk_files *files)
{
	struct disk_config *disk;
	char text[128];
	int rc;

	snprintf(text, sizeof(text), "path=%s,%s", path, keys);
	assert_int_equal(disk_config_create(&disk, text), 0);
	rc = disk_open(disk, files);
	disk_config_free(disk);
	return rc;
}

static void check(unsigned sector, int root_rc)
{
	char path[] = "./disk.XXXXXX";
	struct disk_files files;

	make_image(path, sector);
	assert_int_equal(open_with(path, "partition=2", &files), 0);
	assert_int_equal(files.off, MIB(1));
	assert_int_equal(files.len, MIB(2));
	disk_close(&files);
	assert_int_equal(open_with(path, "partition=1", &files), -ENXIO);
	assert_int_equal(open_with(path, "root=2", &files), root_rc);
	if (!root_rc)
		disk_close(&files);
	unlink(path);
}

static void test_usual(void **state)
{
	check(512, 0);
}

static void test_big_sectors(void **state)
{
	check(4096, -ENOTSUP);
	assert_non_null(strstr(last_error(), "counts in sectors of 4096 bytes"));
	assert_non_null(strstr(last_error(), "partition=2 makes that one the disk"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usual),
		cmocka_unit_test(test_big_sectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
