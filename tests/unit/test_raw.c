// SPDX-License-Identifier: MIT
// Files and devices as disks, through each engine: random requests against a shadow, batches larger
// than the engine's queues, what a truncated file does, memory and ranges that O_DIRECT does not
// take, what is refused.
#include "tests/unit/fake_blk.h"
#include "tests/unit/loop_device.h"
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "blk/engine.h"
#include "blk/guard.h"
#include "blk/limit.h"
#include "blk/memory.h"
#include "blk/now.h"
#include "blk/overlay.h"
#include "blk/raw_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE MIB(4)

struct fixture {
	struct loop *loop;
	struct blk_engine *engine;
	struct blk *blk;
	enum engine_kind kind;
	enum raw_cache cache;
	int fd; /* the file, for a look behind the disk's back */
};

/* A file that is gone when it is closed, on the file system of `folder`. */
static int file_in(const char *folder, uint64_t size)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%s/raw.XXXXXX", folder);
	fd = mkostemp(name, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* On the file system of the build. */
static int scratch_file(uint64_t size)
{
	return file_in(".", size);
}

static int open_disk_in(struct fixture *f, const char *folder, uint64_t size)
{
	struct raw_config c = {.name = "scratch", .cache = f->cache};
	int rc;

	f->fd = file_in(folder, size);
	c.fd = dup(f->fd);
	rc = raw_create(&f->blk, f->engine, &c);
	if (rc)
		close(c.fd);
	return rc;
}

static int open_disk(struct fixture *f, uint64_t size)
{
	return open_disk_in(f, ".", size);
}

static void start(struct fixture *f, enum engine_kind kind, enum raw_cache cache)
{
	*f = (struct fixture){.kind = kind, .cache = cache};
	assert_int_equal(loop_create(&f->loop, "test"), 0);
	assert_int_equal(engine_create(&f->engine, f->loop, kind), 0);
	assert_string_equal(engine_name(f->engine), kind == ENGINE_SYNC ? "sync" : "io_uring");
}

static void finish(struct fixture *f)
{
	blk_destroy(f->blk);
	engine_destroy(f->engine);
	loop_destroy(f->loop);
	close(f->fd);
}

static void clear_disk(struct fixture *f)
{
	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(ftruncate(f->fd, (off_t)f->blk->size), 0);
}

static const enum engine_kind kinds[] = {ENGINE_IO_URING, ENGINE_WORKERS, ENGINE_SYNC};

/* 400 at once are three times what is in the kernel at most. */
static void test_random(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture f;

		start(&f, kinds[i], RAW_WRITEBACK);
		assert_int_equal(open_disk(&f, SIZE), 0);
		blk_stress_zeroed(f.blk, f.loop, 30000, 32);
		finish(&f);
		start(&f, kinds[i], RAW_UNSAFE);
		assert_int_equal(open_disk(&f, SIZE), 0);
		blk_stress_zeroed(f.blk, f.loop, 70000, 400);
		finish(&f);
	}
}

/* Where the kernel cannot tell whether a request would wait. */
static void test_in_memory(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture f;

		start(&f, kinds[i], RAW_WRITEBACK);
		assert_int_equal(open_disk_in(&f, "/dev/shm", SIZE), 0);
		blk_stress_zeroed(f.blk, f.loop, 30000, 2);
		clear_disk(&f);
		blk_stress_zeroed(f.blk, f.loop, 30000, 400);
		finish(&f);
	}
}

static void test_writethrough(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture f;

		start(&f, kinds[i], RAW_WRITETHROUGH);
		assert_int_equal(open_disk(&f, MIB(1)), 0);
		blk_stress_zeroed(f.blk, f.loop, 200, 8);
		finish(&f);
	}
}

/* Where the build lies on a file system without O_DIRECT there is nothing to be tried. */
static bool direct(struct fixture *f, enum engine_kind kind, uint64_t size)
{
	start(f, kind, RAW_NONE);
	if (open_disk(f, size) == 0)
		return true;
	print_message("host: %s\n", last_error());
	finish(f);
	return false;
}

static void test_direct(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture f;

		if (!direct(&f, kinds[i], SIZE))
			skip();
		blk_stress_zeroed(f.blk, f.loop, 2000, 16);
		clear_disk(&f);
		blk_stress_zeroed(f.blk, f.loop, 4000, 400);
		/* As on a disk of 4 KiB blocks: what is not whole ones is read, changed, written.
		 */
		container_of(f.blk, struct raw, blk)->align = 4096;
		clear_disk(&f);
		blk_stress_zeroed(f.blk, f.loop, 4000, 32);
		finish(&f);
	}
}

/* As on a host that can make neither holes nor zeroes. */
static void test_zeroes_written(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		static uint8_t buf[MIB(2)];
		struct fixture f;
		struct raw *w;
		struct stat st;

		start(&f, kinds[i], RAW_WRITEBACK);
		assert_int_equal(open_disk(&f, SIZE), 0);
		w = container_of(f.blk, struct raw, blk);
		w->no_punch = w->no_zero = true;
		memset(buf, 7, sizeof(buf));
		assert_int_equal(blk_now(f.blk, BLK_WRITE, MIB(1), buf, sizeof(buf)), 0);
		assert_int_equal(
			blk_now(f.blk, BLK_WRITE_ZEROES, MIB(1) + 512, NULL, MIB(2) - 1024), 0);
		assert_int_equal(blk_now(f.blk, BLK_READ, MIB(1), buf, sizeof(buf)), 0);
		for (unsigned n = 0; n < sizeof(buf); n++)
			if (buf[n] != (n < 512 || n >= sizeof(buf) - 512 ? 7 : 0))
				fail_msg("byte %u is %u", n, buf[n]);
		assert_int_equal(blk_now(f.blk, BLK_FLUSH, 0, NULL, 0), 0);
		assert_int_equal(fstat(f.fd, &st), 0);
		assert_int_equal(st.st_blocks, MIB(2) / 512);
		finish(&f);
	}
}

struct many {
	struct blk_request r[1000];
	unsigned over, errors;
};

static struct many *many;

static void many_done(struct blk_request *r, int rc)
{
	many->over++;
	many->errors += rc != 0;
}

static void test_drain(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		static uint8_t buf[BLK_SECTOR];
		struct iovec iov = {buf, sizeof(buf)};
		struct fixture f;

		start(&f, kinds[i], RAW_WRITEBACK);
		assert_int_equal(open_disk(&f, SIZE), 0);
		many = calloc(1, sizeof(*many));
		assert_non_null(many);
		for (unsigned n = 0; n < ARRAY_SIZE(many->r); n++) {
			many->r[n] = (struct blk_request){.op = n % 10 ? BLK_WRITE : BLK_FLUSH,
				.off = n % 10 ? n * BLK_SECTOR : 0,
				.len = n % 10 ? BLK_SECTOR : 0,
				.iov = &iov,
				.iovcnt = 1,
				.done = many_done};
			blk_submit(f.blk, &many->r[n]);
		}
		assert_int_equal(blk_drain(f.blk), 0);
		assert_int_equal(many->over, ARRAY_SIZE(many->r));
		assert_int_equal(many->errors, 0);
		free(many);
		finish(&f);
	}
}

static void one_done(struct blk_request *r, int rc)
{
	r->flags = (unsigned)rc;
}

/* As many pieces as there may be, of odd lengths, in memory the other way round than on the disk.
 */
static void test_many_pieces(void **state)
{
	static uint8_t buf[BLK_IOV_MAX * 1024], back[sizeof(buf)];
	static struct iovec iov[BLK_IOV_MAX];

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct blk_request r = {
			.op = BLK_WRITE, .iov = iov, .iovcnt = BLK_IOV_MAX, .done = one_done};
		struct fixture f;
		uint64_t at = 0;

		for (unsigned n = 0; n < BLK_IOV_MAX; n++) {
			iov[n].iov_base = buf + (BLK_IOV_MAX - 1 - n) * 1024;
			iov[n].iov_len = n % 2 ? 200 : 824;
			memset(iov[n].iov_base, (int)(n % 251), iov[n].iov_len);
			r.len += iov[n].iov_len;
		}
		start(&f, kinds[i], RAW_WRITEBACK);
		assert_int_equal(open_disk(&f, SIZE), 0);
		blk_submit(f.blk, &r);
		assert_int_equal(blk_drain(f.blk), 0);
		assert_int_equal(r.flags, 0);
		assert_int_equal(pread(f.fd, back, r.len, 0), r.len);
		for (unsigned n = 0; n < BLK_IOV_MAX; at += iov[n++].iov_len)
			assert_memory_equal(back + at, iov[n].iov_base, iov[n].iov_len);
		finish(&f);
	}
}

/* The rest of a file that ends too early is an error, not zeroes. */
static void test_truncated(void **state)
{
	static uint8_t buf[KIB(64)];

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture f;

		start(&f, kinds[i], RAW_WRITEBACK);
		assert_int_equal(open_disk(&f, SIZE), 0);
		assert_int_equal(ftruncate(f.fd, MIB(1)), 0);
		assert_int_equal(blk_now(f.blk, BLK_READ, 0, buf, sizeof(buf)), 0);
		assert_int_equal(blk_now(f.blk, BLK_READ, MIB(1) - 4096, buf, 8192), -EIO);
		assert_int_equal(blk_now(f.blk, BLK_READ, MIB(2), buf, 512), -EIO);
		assert_int_equal(blk_remeasure(f.blk), -EINVAL);
		assert_int_equal(f.blk->size, SIZE);
		assert_int_equal(ftruncate(f.fd, SIZE + 5), 0);
		assert_int_equal(blk_remeasure(f.blk), -EINVAL);
		assert_int_equal(ftruncate(f.fd, 2 * SIZE), 0);
		assert_int_equal(blk_remeasure(f.blk), 1);
		assert_int_equal(f.blk->size, 2 * SIZE);
		assert_int_equal(blk_now(f.blk, BLK_READ, 2 * SIZE - 512, buf, 512), 0);
		finish(&f);
	}
}

static void test_punch(void **state)
{
	static uint8_t buf[KIB(64)];
	struct fixture f;
	struct stat st;

	memset(buf, 7, sizeof(buf));
	start(&f, ENGINE_IO_URING, RAW_WRITEBACK);
	assert_int_equal(open_disk(&f, SIZE), 0);
	if (!f.blk->discard_align) {
		print_message("host: no holes in files here\n");
		finish(&f);
		skip();
	}
	assert_int_equal(blk_now(f.blk, BLK_WRITE, 0, buf, sizeof(buf)), 0);
	assert_int_equal(blk_now(f.blk, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(fstat(f.fd, &st), 0);
	assert_true(st.st_blocks > 0);
	assert_int_equal(blk_now(f.blk, BLK_DISCARD, 0, NULL, sizeof(buf)), 0);
	assert_int_equal(fstat(f.fd, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(st.st_size, SIZE);
	finish(&f);
}

/* The same device again, as the second of two partitions. */
static void check_part_of_device(struct fixture *f, enum raw_cache cache)
{
	struct raw_config c = {.name = "part",
		.fd = dup(container_of(f->blk, struct raw, blk)->file.fd),
		.cache = cache,
		.off = MIB(1),
		.len = MIB(2)};
	static uint8_t before[MIB(1)], after[MIB(1)];
	struct blk *part;

	assert_int_equal(blk_now(f->blk, BLK_READ, 0, before, MIB(1)), 0);
	assert_int_equal(blk_now(f->blk, BLK_WRITE_ZEROES, MIB(1), NULL, MIB(2)), 0);
	assert_int_equal(raw_create(&part, f->engine, &c), 0);
	blk_stress_zeroed(part, f->loop, 3000, 16);
	assert_int_equal(blk_now(f->blk, BLK_READ, 0, after, MIB(1)), 0);
	assert_memory_equal(before, after, MIB(1));
	blk_destroy(part);
}

static void test_device(void **state)
{
	static const enum raw_cache caches[] = {RAW_WRITEBACK, RAW_NONE};

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(kinds); i++) {
		struct raw_config c = {.name = "loop", .cache = caches[i % 2]};
		struct fixture f;

		start(&f, kinds[i / 2], c.cache);
		f.fd = scratch_file(SIZE);
		c.fd = loop_device(f.fd);
		if (c.fd < 0) {
			print_message("host: no loop device: %s\n", strerror(errno));
			finish(&f);
			skip();
		}
		assert_int_equal(raw_create(&f.blk, f.engine, &c), 0);
		assert_int_equal(f.blk->size, SIZE);
		assert_int_equal(f.blk->physical_block, 4096);
		assert_int_equal(container_of(f.blk, struct raw, blk)->align, i % 2 ? 4096 : 1);
		blk_stress_zeroed(f.blk, f.loop, 3000, 16);
		check_part_of_device(&f, c.cache);
		finish(&f);
	}
}

/* All layers at once, over a file. */
static void test_layers(void **state)
{
	const struct limit_config limits = {.requests = {500000, 30}};

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture f;
		struct blk *upper;

		start(&f, kinds[i], RAW_WRITEBACK);
		assert_int_equal(open_disk(&f, SIZE), 0);
		assert_int_equal(guard_create(&f.blk, f.blk), 0);
		assert_int_equal(limit_create(&f.blk, f.loop, f.blk, &limits), 0);
		blk_stress_zeroed(f.blk, f.loop, 5000, 64);
		assert_int_equal(memory_create(&upper, "upper", SIZE), 0);
		assert_int_equal(overlay_create(&f.blk, f.blk, upper), 0);
		assert_int_equal(ftruncate(f.fd, 0), 0);
		assert_int_equal(ftruncate(f.fd, SIZE), 0);
		blk_stress_zeroed(f.blk, f.loop, 20000, 64);
		finish(&f);
	}
}

/* A layer in a file, which is as sparse as what was written. */
static void test_overlay(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		static uint8_t buf[KIB(64)];
		struct raw_config c = {.name = "upper", .cache = RAW_UNSAFE};
		struct fixture f;
		struct blk *upper;
		struct stat st;
		int fd = scratch_file(SIZE);

		start(&f, kinds[i], RAW_WRITEBACK);
		assert_int_equal(open_disk(&f, SIZE), 0);
		c.fd = dup(fd);
		assert_int_equal(raw_create(&upper, f.engine, &c), 0);
		assert_int_equal(overlay_create(&f.blk, f.blk, upper), 0);
		memset(buf, 7, sizeof(buf));
		assert_int_equal(blk_now(f.blk, BLK_WRITE, MIB(1), buf, sizeof(buf)), 0);
		assert_int_equal(blk_now(f.blk, BLK_WRITE_ZEROES, MIB(2), NULL, sizeof(buf)), 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_blocks, sizeof(buf) / 512);
		if (f.blk->discard_align)
			assert_int_equal(blk_now(f.blk, BLK_DISCARD, MIB(1), NULL, sizeof(buf)), 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_blocks, f.blk->discard_align ? 0 : sizeof(buf) / 512);
		assert_int_equal(blk_now(f.blk, BLK_WRITE_ZEROES, MIB(1), NULL, sizeof(buf)), 0);
		blk_stress_zeroed(f.blk, f.loop, 20000, 200);
		assert_int_equal(fstat(f.fd, &st), 0);
		assert_int_equal(st.st_blocks, 0);
		finish(&f);
		close(fd);
	}
}

/* A part of a file, which begins where no block does: what lies around it stays. */
static void test_part(void **state)
{
	static uint8_t around[MIB(1)], back[MIB(1)];
	const uint64_t off = MIB(1) + BLK_SECTOR;

	memset(around, 5, sizeof(around));
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct raw_config c = {.name = "part", .off = off, .len = SIZE};
		struct fixture f;

		start(&f, kinds[i], RAW_WRITEBACK);
		f.fd = scratch_file(off + SIZE + MIB(1));
		assert_int_equal(pwrite(f.fd, around, MIB(1), BLK_SECTOR), MIB(1));
		assert_int_equal(pwrite(f.fd, around, MIB(1), (off_t)(off + SIZE)), MIB(1));
		c.fd = dup(f.fd);
		assert_int_equal(raw_create(&f.blk, f.engine, &c), 0);
		assert_int_equal(f.blk->size, SIZE);
		blk_stress_zeroed(f.blk, f.loop, 30000, 32);
		assert_int_equal(pread(f.fd, back, MIB(1), BLK_SECTOR), MIB(1));
		assert_memory_equal(back, around, MIB(1));
		assert_int_equal(pread(f.fd, back, MIB(1), (off_t)(off + SIZE)), MIB(1));
		assert_memory_equal(back, around, MIB(1));
		assert_int_equal(blk_remeasure(f.blk), 0);
		assert_int_equal(ftruncate(f.fd, (off_t)(off + SIZE - BLK_SECTOR)), 0);
		assert_int_equal(blk_remeasure(f.blk), -EINVAL);
		finish(&f);
	}
}

static int try_fd(struct blk_engine *e, int fd, bool read_only)
{
	struct raw_config c = {.name = "it", .fd = fd, .read_only = read_only};
	struct blk *b;
	int rc = raw_create(&b, e, &c);

	if (rc)
		close(fd);
	else
		blk_destroy(b);
	return rc;
}

static void check_refused(struct blk_engine *e, int fd, const char *why)
{
	assert_true(fd >= 0);
	assert_true(try_fd(e, fd, false) < 0);
	if (!strstr(last_error(), why))
		fail_msg("\"%s\" does not say \"%s\"", last_error(), why);
}

/* A format's file ends amid a block, is read past its end and grows. */
static void check_format_file(enum engine_kind kind, enum raw_cache cache)
{
	static _Alignas(4096) uint8_t buf[KIB(16)], zero[KIB(16)];
	struct raw_config c = {.name = "scratch", .cache = cache, .holds_format = true};
	struct fixture f;

	start(&f, kind, cache);
	f.fd = scratch_file(4608);
	memset(buf, 7, sizeof(buf));
	assert_int_equal(pwrite(f.fd, buf, 4608, 0), 4608);
	c.fd = dup(f.fd);
	assert_int_equal(raw_create(&f.blk, f.engine, &c), 0);
	assert_int_equal(f.blk->size, RAW_SIZE_MAX);
	assert_int_equal(raw_file_size(f.blk), 4608);
	assert_int_equal(blk_read_now(f.blk, 0, buf, sizeof(buf)), 0);
	assert_int_equal(buf[4607], 7);
	assert_memory_equal(buf + 4608, zero, sizeof(buf) - 4608);
	assert_int_equal(blk_write_now(f.blk, KIB(64), buf, KIB(4)), 0);
	assert_int_equal(raw_file_size(f.blk), KIB(68));
	assert_int_equal(blk_read_now(f.blk, MIB(1), buf, sizeof(buf)), 0);
	assert_memory_equal(buf, zero, sizeof(buf));
	assert_int_equal(blk_clear_now(f.blk, BLK_WRITE_ZEROES, 0, 0, KIB(4)), 0);
	assert_int_equal(blk_read_now(f.blk, 0, buf, KIB(8)), 0);
	assert_memory_equal(buf, zero, KIB(4));
	assert_int_equal(buf[KIB(4)], 7);
	assert_int_equal(blk_flush_now(f.blk), 0);
	assert_int_equal(blk_resize(f.blk, KIB(4)), 0);
	assert_int_equal(raw_file_size(f.blk), KIB(4));
	assert_int_equal(f.blk->size, RAW_SIZE_MAX);
	finish(&f);
}

static void test_format_file(void **state)
{
	check_format_file(ENGINE_IO_URING, RAW_WRITEBACK);
	check_format_file(ENGINE_IO_URING, RAW_NONE);
	check_format_file(ENGINE_SYNC, RAW_WRITEBACK);
	check_format_file(ENGINE_SYNC, RAW_NONE);
}

static void test_map(void **state)
{
	static const uint8_t byte = 1;
	struct blk_extent e;
	struct fixture f;

	start(&f, ENGINE_SYNC, RAW_WRITEBACK);
	assert_int_equal(open_disk(&f, SIZE), 0);
	assert_int_equal(pwrite(f.fd, &byte, 1, (off_t)MIB(1)), 1);
	assert_int_equal(blk_map(f.blk, 0, SIZE, &e), 0);
	assert_int_equal(e.kind, BLK_EXTENT_ZERO);
	assert_int_equal(e.len, MIB(1));
	assert_int_equal(blk_map(f.blk, MIB(1), SIZE - MIB(1), &e), 0);
	assert_int_equal(e.kind, BLK_EXTENT_DATA);
	assert_true(e.placed && e.at == MIB(1) && e.len < MIB(1));
	assert_int_equal(blk_map(f.blk, MIB(2), KIB(64), &e), 0);
	assert_int_equal(e.kind, BLK_EXTENT_ZERO);
	assert_int_equal(e.len, KIB(64));
	assert_int_equal(blk_resize(f.blk, 2 * SIZE), 0);
	assert_int_equal(f.blk->size, 2 * SIZE);
	assert_int_equal(lseek(f.fd, 0, SEEK_END), 2 * SIZE);
	finish(&f);
}

static void test_refused(void **state)
{
	struct fixture f;
	int pipes[2], sockets[2], fd;

	start(&f, ENGINE_SYNC, RAW_WRITEBACK);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	check_refused(f.engine, open(".", O_RDONLY | O_CLOEXEC), "a directory");
	check_refused(f.engine, open("/dev/null", O_RDWR | O_CLOEXEC), "a character device");
	check_refused(f.engine, pipes[0], "a FIFO");
	check_refused(f.engine, sockets[0], "a socket");
	check_refused(f.engine, scratch_file(0), "is empty");
	check_refused(f.engine, scratch_file(513), "not whole blocks");
	fd = scratch_file(SIZE);
	assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
	check_refused(f.engine, fd, "for appending");
	check_refused(f.engine, open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "and writing");
	close(pipes[1]);
	close(sockets[1]);
	f.fd = -1;
	finish(&f);
}

/* The engine's table of files ends: disks past it work, and a place that is free is used again. */
static void test_many_disks(void **state)
{
	static struct blk *disk[100];
	uint8_t buf[BLK_SECTOR];
	struct fixture f;

	start(&f, ENGINE_IO_URING, RAW_WRITEBACK);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(disk); i++) {
			struct raw_config c = {.name = "one", .fd = scratch_file(SIZE)};

			assert_int_equal(raw_create(&disk[i], f.engine, &c), 0);
			memset(buf, (int)i, sizeof(buf));
			assert_int_equal(blk_now(disk[i], BLK_WRITE, 0, buf, sizeof(buf)), 0);
		}
		for (unsigned i = 0; i < ARRAY_SIZE(disk); i++) {
			assert_int_equal(blk_now(disk[i], BLK_READ, 0, buf, sizeof(buf)), 0);
			assert_int_equal(buf[9], i);
			blk_destroy(disk[i]);
		}
	}
	f.fd = -1;
	finish(&f);
}

/* No descriptor is left for a ring. */
static void test_without_io_uring(void **state)
{
	struct rlimit was, none;
	struct fixture f;
	struct loop *loop;
	int rc[2];

	assert_int_equal(loop_create(&loop, "test"), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = (struct rlimit){3, was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rc[0] = engine_create(&f.engine, loop, ENGINE_IO_URING);
	rc[1] = engine_create(&f.engine, loop, ENGINE_AUTO);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_int_equal(rc[0], -EMFILE);
	assert_int_equal(rc[1], 0);
	assert_string_equal(engine_name(f.engine), "sync");
	engine_destroy(f.engine);
	loop_destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_in_memory),
		cmocka_unit_test(test_writethrough),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_zeroes_written),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_many_pieces),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_punch),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_layers),
		cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_part),
		cmocka_unit_test(test_format_file),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_many_disks),
		cmocka_unit_test(test_without_io_uring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
