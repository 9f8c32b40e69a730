// SPDX-License-Identifier: MIT
// Image files on a medium with a volatile cache, and plain ones for what is left on it. In place of
// blk/engine.c, as tests/unit/medium_engine.h; the real raw disk stands on both.
//
// The size of a file is as volatile as the rest: what is written past it counts from the flush on.
#ifndef TESTS_UNIT_MEDIUM_IMAGE_H
#define TESTS_UNIT_MEDIUM_IMAGE_H

#include "blk/layer.h"
#include "blk/raw_parts.h"
#include "tests/unit/medium.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct blk_engine {
	struct medium *medium; /* NULL: the file itself is all there is */
	struct blk_line line;
	uint64_t kept; /* bytes: the size that the file has for certain */
};

/* A request on its way to the medium. */
struct via {
	struct blk_request r;
	struct blk_request *for_whom;
	uint64_t size; /* of the file when it was submitted */
};

void engine_add(struct blk_engine *e, struct engine_file *f)
{
	f->engine = e;
	f->inflight = 0;
}

void engine_remove(struct engine_file *f)
{
	assert_int_equal(f->inflight, 0);
}

static uint64_t size_of(const struct engine_file *f)
{
	struct stat st;

	assert_int_equal(fstat(f->fd, &st), 0);
	return (uint64_t)st.st_size;
}

static int move_all(const struct blk_request *r, bool write)
{
	uint64_t off = r->file->base + r->off;

	for (unsigned i = 0; i < r->iovcnt; off += r->iov[i++].iov_len) {
		const struct iovec *v = &r->iov[i];
		ssize_t n = write ? pwrite(r->file->fd, v->iov_base, v->iov_len, (off_t)off)
				  : pread(r->file->fd, v->iov_base, v->iov_len, (off_t)off);

		if (n < 0)
			return -errno;
		if ((size_t)n < v->iov_len)
			memset((char *)v->iov_base + n, 0, v->iov_len - (size_t)n);
	}
	return 0;
}

/* On the file, at once. What it has as zeroes is a hole. */
static int do_now(const struct blk_request *r)
{
	switch ((enum engine_op)r->step) {
	case ENGINE_READ:
		return move_all(r, false);
	case ENGINE_WRITE:
	case ENGINE_WRITE_DURABLE:
		return move_all(r, true);
	case ENGINE_SYNC_DATA:
		return 0;
	default:
		return fallocate(r->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)(r->file->base + r->off), (off_t)r->len)
			       ? -errno
			       : 0;
	}
}

static void via_done(struct blk_request *r, int rc)
{
	struct via *v = container_of(r, struct via, r);
	struct blk_request *whom = v->for_whom;
	struct engine_file *f = whom->file;

	if (!rc && whom->step == ENGINE_SYNC_DATA)
		f->engine->kept = MAX(f->engine->kept, v->size);
	/* So that the file has the size, and the holes. */
	if (!rc && whom->step != ENGINE_READ)
		assert_int_equal(do_now(whom), 0);
	if (!rc && whom->step == ENGINE_WRITE_DURABLE)
		f->engine->kept = MAX(f->engine->kept, f->base + whom->off + whom->len);
	f->inflight--;
	f->done(f, whom, rc);
	free(v);
}

static void submit_via(struct engine_file *f, struct blk_request *r, enum engine_op op)
{
	static const struct {
		enum blk_op op;
		unsigned flags;
	} as[] = {
		[ENGINE_READ] = {BLK_READ, 0},
		[ENGINE_WRITE] = {BLK_WRITE, 0},
		[ENGINE_WRITE_DURABLE] = {BLK_WRITE, BLK_FUA},
		[ENGINE_SYNC_DATA] = {BLK_FLUSH, 0},
		[ENGINE_PUNCH] = {BLK_WRITE_ZEROES, BLK_UNMAP},
		[ENGINE_ZERO] = {BLK_WRITE_ZEROES, 0},
	};
	struct via *v = calloc(1, sizeof(*v));

	assert_non_null(v);
	v->for_whom = r;
	v->size = size_of(f);
	v->r = (struct blk_request){.op = as[op].op,
		.flags = as[op].flags,
		.off = op == ENGINE_SYNC_DATA ? 0 : f->base + r->off,
		.len = op == ENGINE_SYNC_DATA ? 0 : r->len,
		.iov = r->iov,
		.iovcnt = r->iovcnt,
		.done = via_done};
	blk_submit(&f->engine->medium->blk, &v->r);
}

void engine_submit(struct engine_file *f, struct blk_request *r, enum engine_op op)
{
	r->file = f;
	r->step = op;
	f->inflight++;
	if (f->engine->medium)
		submit_via(f, r, op);
	else
		line_append(&f->engine->line, r);
}

void engine_commit(struct blk_engine *e)
{
	struct blk_request *r;

	while ((r = line_take(&e->line))) {
		int rc = do_now(r);

		r->file->inflight--;
		r->file->done(r->file, r, rc);
	}
}

int engine_drain(struct engine_file *f)
{
	engine_commit(f->engine);
	while (f->inflight)
		assert_true(medium_step(f->engine->medium));
	return 0;
}

/* An image file with these bytes, on the medium where the engine has one. */
static inline struct blk *image_on(struct blk_engine *e, const uint8_t *bytes, uint64_t len)
{
	struct raw_config c = {.name = "image", .holds_format = true};
	struct blk *b;

	c.fd = memfd_create("image", MFD_CLOEXEC);
	assert_true(c.fd >= 0);
	assert_int_equal(ftruncate(c.fd, (off_t)len), 0);
	assert_int_equal(pwrite(c.fd, bytes, len, 0), len);
	assert_int_equal(raw_create(&b, e, &c), 0);
	e->kept = len;
	if (e->medium)
		medium_fill(e->medium, 0, bytes, len);
	return b;
}

/* Its descriptor, for a look behind the disk's back. */
static inline int image_fd(struct blk *file)
{
	return container_of(file, struct raw, blk)->file.fd;
}

#endif
