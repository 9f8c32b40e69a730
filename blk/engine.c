// SPDX-License-Identifier: MIT
// What does not depend on how the kernel is asked: the list of what waits, progress, completion.
#include "blk/engine_kinds.h"

#include "base/iov.h"
#include "base/log.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *const engine_kind_names[] = {"auto", "io_uring", "sync", NULL};

static bool moves(const struct blk_request *r)
{
	return r->step <= ENGINE_WRITE_DURABLE;
}

/*
 * Whether a read that was cut short has met its file's end, where that is no error. The kernel has
 * said how much of the last block there is, from where it cannot be gone on past the page cache.
 */
static bool past_end(const struct blk_request *r)
{
	const struct engine_file *f = r->file;
	struct stat st;

	return f->endless && r->step == ENGINE_READ && r->moved < r->len &&
	       fstat(f->fd, &st) == 0 && f->base + r->off + r->moved >= (uint64_t)st.st_size;
}

/* A write past the end, completed since the read met it: it is read again. */
static bool grown(const struct blk_request *r)
{
	return r->file->endless && r->step == ENGINE_READ;
}

void engine_result(struct blk_engine *e, struct blk_request *r, int64_t result)
{
	int rc = result < 0 ? (int)result : 0;

	if (rc == -EINTR || rc == -EAGAIN) {
		line_prepend(&e->line, r);
		return;
	}
	if (!rc && moves(r)) {
		r->moved += (uint64_t)result;
		if (past_end(r)) {
			iov_zero(r->iov, r->iovcnt, r->moved, r->len - r->moved);
		} else if ((result > 0 || grown(r)) && r->moved < r->len) {
			line_prepend(&e->line, r);
			return;
		} else if (!result) {
			rc = -EIO;
		}
	}
	r->file->inflight--;
	r->file->done(r->file, r, rc);
}

unsigned engine_rest(const struct blk_request *r, struct iovec *part, const struct iovec **iov)
{
	uint64_t skip = r->moved;
	unsigned i = 0;

	while (i + 1 < r->iovcnt && skip >= r->iov[i].iov_len)
		skip -= r->iov[i++].iov_len;
	*iov = r->iov + i;
	if (!skip)
		return r->iovcnt - i;
	part->iov_base = (char *)r->iov[i].iov_base + skip;
	part->iov_len = r->iov[i].iov_len - skip;
	*iov = part;
	return 1;
}

/* By their numbers, as musl has no names for them yet. The 0 is the offset's upper half. */
int64_t engine_move(const struct blk_request *r, int flags)
{
	long call = r->step == ENGINE_READ ? SYS_preadv2 : SYS_pwritev2, n;
	struct iovec part;
	const struct iovec *iov;
	unsigned count = engine_rest(r, &part, &iov);

	if (r->step == ENGINE_WRITE_DURABLE)
		flags |= RWF_DSYNC;
	n = syscall(call, r->file->fd, iov, count, r->file->base + r->off + r->moved, 0, flags);
	return n < 0 ? -errno : n;
}

int engine_fallocate_mode(const struct blk_request *r)
{
	int kind = r->step == ENGINE_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

	return kind | FALLOC_FL_KEEP_SIZE;
}

static void again(void *arg)
{
	engine_commit(arg);
}

static int create_kind(struct blk_engine **out, struct loop *loop, enum engine_kind kind)
{
	int rc = -ENOSYS;

	if (kind != ENGINE_SYNC)
		rc = engine_uring_create(out, loop, kind == ENGINE_WORKERS);
	if (rc && (kind == ENGINE_AUTO || kind == ENGINE_WORKERS))
		log_info("%s: disks are read and written one request at a time", last_error());
	if (rc && kind != ENGINE_IO_URING)
		rc = engine_sync_create(out);
	return rc;
}

int engine_create(struct blk_engine **out, struct loop *loop, enum engine_kind kind)
{
	struct blk_engine *e;
	int rc = create_kind(&e, loop, kind);

	if (rc)
		return rc;
	e->loop = loop;
	e->again = TIMER_INIT(again, e);
	*out = e;
	return 0;
}

void engine_destroy(struct blk_engine *e)
{
	if (!e)
		return;
	loop_disarm(e->loop, &e->again);
	e->ops->destroy(e);
}

void engine_leave(struct blk_engine *e)
{
	if (e->ops->leave)
		e->ops->leave(e);
}

const char *engine_name(const struct blk_engine *e)
{
	return e->ops->name;
}

void engine_add(struct blk_engine *e, struct engine_file *f)
{
	f->engine = e;
	f->slot = -1;
	f->inflight = 0;
	f->reads = f->writes = TELLS_UNKNOWN;
	if (e->ops->add)
		e->ops->add(e, f);
}

void engine_remove(struct engine_file *f)
{
	if (f->engine && f->engine->ops->remove)
		f->engine->ops->remove(f);
	f->engine = NULL;
}

void engine_submit(struct engine_file *f, struct blk_request *r, enum engine_op op)
{
	r->file = f;
	r->moved = 0;
	r->step = op;
	f->inflight++;
	line_append(&f->engine->line, r);
}

void engine_commit(struct blk_engine *e)
{
	if (!e->running)
		e->ops->run(e, false);
}

int engine_drain(struct engine_file *f)
{
	int rc = 0;

	while (!rc && f->inflight)
		rc = f->engine->ops->run(f->engine, true);
	return rc;
}
