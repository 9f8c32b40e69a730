// SPDX-License-Identifier: MIT
// Writes that the ring's engine makes by itself, on a file system that cannot tell whether they
// would wait: one that has waited sends the next second's to the kernel's workers, then they come
// back. The calls are real and so is the file; how long they take, and what time it is, are ours.
#include "tests/unit/test.h"

#include "base/loop.h"
#include "base/util.h"
#include "blk/engine_kinds.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK 4096u
#define BLOCKS 64u
#define MS 1000000ull

struct fixture {
	struct loop *loop;
	struct blk_engine *engine;
	struct engine_file file;
	unsigned done;     /* requests */
	unsigned here;     /* calls that may wait, made by the engine itself */
	uint64_t takes_ns; /* each of those */
	uint64_t at_ns;    /* what time it is */
	bool tells;        /* the file system knows RWF_NOWAIT for writes */
	bool grows; /* the next read meets the end, where a write goes on before it is looked at */
	uint8_t next; /* what the next block is filled with */
	uint8_t want[BLOCKS];
};

static struct fixture fixture;

/* Of the linker: who calls the function comes to the first, which calls the second. */
int64_t __wrap_engine_move(const struct blk_request *r, int flags);
int64_t __real_engine_move(const struct blk_request *r, int flags);
uint64_t __wrap_now_ns(void);

uint64_t __wrap_now_ns(void)
{
	return fixture.at_ns;
}

int64_t __wrap_engine_move(const struct blk_request *r, int flags)
{
	if (r->step == ENGINE_WRITE && flags && !fixture.tells)
		return -EOPNOTSUPP;
	if (r->step == ENGINE_READ && fixture.grows) {
		int64_t n = __real_engine_move(r, flags);
		uint8_t data[BLOCK];

		fixture.grows = false;
		memset(data, 5, sizeof(data));
		assert_int_equal(pwrite(r->file->fd, data, BLOCK, BLOCKS * BLOCK), BLOCK);
		return n;
	}
	if (!flags) {
		fixture.here++;
		fixture.at_ns += fixture.takes_ns;
	}
	return __real_engine_move(r, 0);
}

static void on_done(struct engine_file *f, struct blk_request *r, int rc)
{
	assert_int_equal(rc, 0);
	fixture.done++;
}

static void submit(struct blk_request *r, enum engine_op op, struct iovec *iov, unsigned block)
{
	*r = (struct blk_request){
		.off = block * BLOCK, .len = iov->iov_len, .iov = iov, .iovcnt = 1};
	engine_submit(&fixture.file, r, op);
	engine_commit(fixture.engine);
	assert_int_equal(engine_drain(&fixture.file), 0);
}

/* Writes `count` blocks, one after the other: how many the engine made by itself. */
static unsigned write_blocks(unsigned count)
{
	struct fixture *f = &fixture;
	unsigned before = f->here, done = f->done;

	for (unsigned i = 0; i < count; i++) {
		unsigned block = f->next % BLOCKS;
		uint8_t data[BLOCK];
		struct iovec iov = {data, sizeof(data)};
		struct blk_request r;

		memset(data, ++f->next, sizeof(data));
		f->want[block] = f->next;
		submit(&r, ENGINE_WRITE, &iov, block);
	}
	assert_int_equal(f->done, done + count);
	return f->here - before;
}

static int setup(void **state)
{
	struct fixture *f = &fixture;
	char name[] = "./engine.XXXXXX";

	*f = (struct fixture){.at_ns = NSEC_PER_SEC};
	f->file = (struct engine_file){.fd = mkstemp(name), .buffered = true, .done = on_done};
	assert_true(f->file.fd >= 0);
	unlink(name);
	assert_int_equal(ftruncate(f->file.fd, BLOCKS * BLOCK), 0);
	assert_int_equal(loop_create(&f->loop, "test"), 0);
	assert_int_equal(engine_create(&f->engine, f->loop, ENGINE_IO_URING), 0);
	engine_add(f->engine, &f->file);
	return 0;
}

/* Whoever made it, what was written is there. */
static int teardown(void **state)
{
	struct fixture *f = &fixture;
	uint8_t data[BLOCK];

	for (unsigned i = 0; i < BLOCKS; i++) {
		assert_int_equal(pread(f->file.fd, data, BLOCK, i * BLOCK), BLOCK);
		assert_int_equal(data[0], f->want[i]);
		assert_int_equal(data[BLOCK - 1], f->want[i]);
	}
	engine_remove(&f->file);
	engine_destroy(f->engine);
	loop_destroy(f->loop);
	close(f->file.fd);
	return 0;
}

/* The first is how it is found out, and goes to the ring. */
static void quick(void **state)
{
	fixture.takes_ns = 5 * MS;
	assert_int_equal(write_blocks(1), 0);
	assert_int_equal(write_blocks(20), 20);
}

/* Those that are to wait never are the engine's own. */
static void durable(void **state)
{
	struct fixture *f = &fixture;
	uint8_t data[BLOCK];
	struct iovec iov = {data, sizeof(data)};
	struct blk_request r;

	write_blocks(2);
	f->here = 0;
	memset(data, 0x77, sizeof(data));
	f->want[1] = 0x77;
	submit(&r, ENGINE_WRITE_DURABLE, &iov, 1);
	submit(&r, ENGINE_SYNC_DATA, &iov, 0);
	assert_int_equal(f->here, 0);
}

static void slow_then_back(void **state)
{
	struct fixture *f = &fixture;
	uint64_t start;

	write_blocks(1);
	assert_int_equal(write_blocks(5), 5);
	f->takes_ns = 5 * MS + 1;
	start = f->at_ns + f->takes_ns;        /* of the second */
	assert_int_equal(write_blocks(20), 2); /* one may be a thread that was not let run */
	f->at_ns = start + NSEC_PER_SEC - 1;
	assert_int_equal(write_blocks(20), 0);
	f->at_ns = start + NSEC_PER_SEC;
	assert_int_equal(write_blocks(20), 2); /* slow still */
	f->at_ns += NSEC_PER_SEC;
	f->takes_ns = MS;
	assert_int_equal(write_blocks(20), 20);
}

/* Reads, which it can tell of, are not held up by those that cannot. */
static void others(void **state)
{
	struct fixture *f = &fixture;
	uint8_t data[BLOCK];
	struct iovec iov = {data, sizeof(data)};
	struct blk_request r;
	unsigned here;

	f->takes_ns = 50 * MS;
	assert_int_equal(write_blocks(3), 2);
	here = f->here;
	submit(&r, ENGINE_READ, &iov, 1); /* is in the page cache */
	assert_int_equal(f->here, here);
	assert_int_equal(data[0], f->want[1]);
}

static void that_tells(void **state)
{
	fixture.tells = true;
	fixture.takes_ns = 50 * MS;
	assert_int_equal(write_blocks(20), 0); /* never one that may wait */
}

/* A read that met the end of a format's file, which has grown since: it has what is there now. */
static void grows(void **state)
{
	struct fixture *f = &fixture;
	struct engine_file file = f->file;
	struct blk_engine *sync;
	uint8_t data[BLOCK] = {0};
	struct iovec iov = {data, sizeof(data)};
	struct blk_request r = {
		.off = BLOCKS * BLOCK, .len = sizeof(data), .iov = &iov, .iovcnt = 1};

	assert_int_equal(engine_create(&sync, f->loop, ENGINE_SYNC), 0);
	file.endless = true;
	engine_add(sync, &file);
	f->grows = true;
	engine_submit(&file, &r, ENGINE_READ);
	assert_int_equal(engine_drain(&file), 0);
	assert_false(f->grows);
	assert_int_equal(f->done, 1);
	assert_int_equal(data[0], 5);
	assert_int_equal(data[BLOCK - 1], 5);
	engine_remove(&file);
	engine_destroy(sync);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(quick, setup, teardown),
		cmocka_unit_test_setup_teardown(durable, setup, teardown),
		cmocka_unit_test_setup_teardown(slow_then_back, setup, teardown),
		cmocka_unit_test_setup_teardown(others, setup, teardown),
		cmocka_unit_test_setup_teardown(that_tells, setup, teardown),
		cmocka_unit_test_setup_teardown(grows, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
