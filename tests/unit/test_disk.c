// SPDX-License-Identifier: MIT
// A disk of its files: partitions that the guest would not find, overlays that stay, descriptors
// that come from elsewhere.
#include "tests/unit/partition_table.h"
#include "tests/unit/test.h"
#include "vmm/disk.h"

#include "base/log.h"
#include "base/loop.h"
#include "blk/engine.h"
#include "blk/now.h"

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

/* One that is opened and made, as a machine has it. */
struct fixture {
	struct loop *loop;
	struct blk_engine *engine;
	struct disk_config *cfg;
	struct disk_host host;
	struct disk disk;
};

static void make_hosts(struct fixture *f)
{
	assert_int_equal(loop_create(&f->loop, "test"), 0);
	assert_int_equal(engine_create(&f->engine, f->loop, ENGINE_SYNC), 0);
	f->host = (struct disk_host){.engine = f->engine, .loop = f->loop};
}

static int open_with(struct fixture *f, const char *path, const char *keys)
{
	struct disk_files files;
	char text[128];
	int rc;

	*f = (struct fixture){0};
	make_hosts(f);
	snprintf(text, sizeof(text), "path=%s,%s", path, keys);
	assert_int_equal(disk_config_create(&f->cfg, text), 0);
	rc = disk_open(f->cfg, &files);
	return rc ? rc : disk_create(&f->disk, f->cfg, &files, &f->host);
}

static void finish(struct fixture *f)
{
	blk_destroy(f->disk.blk);
	engine_destroy(f->engine);
	loop_destroy(f->loop);
	disk_config_free(f->cfg);
}

static int open_and_finish(const char *path, const char *keys)
{
	struct fixture f;
	int rc = open_with(&f, path, keys);

	finish(&f);
	return rc;
}

static void check(unsigned sector, int root_rc)
{
	char path[] = "./disk.XXXXXX";
	struct fixture f;

	make_image(path, sector);
	assert_int_equal(open_with(&f, path, "partition=2"), 0);
	assert_int_equal(f.disk.blk->size, MIB(2));
	finish(&f);
	assert_int_equal(open_and_finish(path, "partition=1"), -ENXIO);
	assert_int_equal(open_and_finish(path, "root=2"), root_rc);
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

/* ---- overlays that stay ---- */

static void make_base(char *path)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
}

static void test_overlay(void **state)
{
	static uint8_t data[4096], got[4096];
	char path[] = "./disk.XXXXXX";
	struct fixture f;

	make_base(path);
	memset(data, 7, sizeof(data));
	assert_int_equal(open_with(&f, path, "overlay=over"), 0);
	assert_true(f.disk.has_books);
	assert_int_equal(blk_write_now(f.disk.blk, MIB(1), data, sizeof(data)), 0);
	finish(&f);
	assert_int_equal(open_with(&f, path, "overlay=over"), 0);
	assert_int_equal(blk_read_now(f.disk.blk, MIB(1), got, sizeof(got)), 0);
	assert_memory_equal(got, data, sizeof(got));
	finish(&f);
	assert_int_equal(open_with(&f, path, "ro"), 0);
	assert_false(f.disk.has_books);
	assert_int_equal(blk_read_now(f.disk.blk, MIB(1), got, sizeof(got)), 0);
	assert_int_equal(got[0], 0);
	finish(&f);
	unlink(path);
	unlink("over");
}

/* From one process to another, which opens nothing. */
static void test_passed(void **state)
{
	char path[] = "./disk.XXXXXX", text[64];
	struct disk_files files, taken;
	struct disk_parts parts;
	struct fixture f = {0};
	int fds[DISK_FDS_MAX], n;

	make_base(path);
	snprintf(text, sizeof(text), "path=%s,overlay=over", path);
	assert_int_equal(disk_config_create(&f.cfg, text), 0);
	assert_int_equal(disk_open(f.cfg, &files), 0);
	assert_true(disk_may_be_compressed(&files));
	n = disk_files_list(&files, &parts, fds);
	assert_int_equal(n, 4);
	assert_true(parts.chain == 2 && parts.overlay == 2 && parts.kept);
	for (int i = 0; i < n; i++)
		fds[i] = dup(fds[i]);
	disk_hand_over(&files);
	assert_int_equal(disk_files_take(&taken, f.cfg, &parts, fds, 3), -EINVAL);
	parts.kept = false;
	assert_int_equal(disk_files_take(&taken, f.cfg, &parts, fds, 4), -EINVAL);
	parts.kept = true;
	assert_int_equal(disk_files_take(&taken, f.cfg, &parts, fds, 4), 0);
	for (int i = 0; i < n; i++)
		assert_int_equal(fds[i], -1);
	/* The locks are there still. */
	assert_int_equal(disk_open(f.cfg, &files), -EBUSY);
	make_hosts(&f);
	assert_int_equal(disk_create(&f.disk, f.cfg, &taken, &f.host), 0);
	assert_string_equal(f.disk.format, "raw");
	finish(&f);
	unlink(path);
	unlink("over");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usual),
		cmocka_unit_test(test_big_sectors),
		cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_passed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
