// SPDX-License-Identifier: MIT
#include "blk/now.h"

#include "base/util.h"

struct now {
	struct blk_request r;
	int rc;
};

static void now_done(struct blk_request *r, int rc)
{
	container_of(r, struct now, r)->rc = rc;
}

static int run(struct blk *b, struct blk_request r)
{
	struct now n = {.r = r};
	int rc;

	n.r.done = now_done;
	blk_submit(b, &n.r);
	blk_commit(b);
	rc = blk_drain(b);
	return rc ? rc : n.rc;
}

static int move(struct blk *b, enum blk_op op, uint64_t off, const struct iovec *iov)
{
	return run(b, (struct blk_request){
			      .op = op, .off = off, .len = iov->iov_len, .iov = iov, .iovcnt = 1});
}

int blk_read_now(struct blk *b, uint64_t off, void *buf, uint64_t len)
{
	return move(b, BLK_READ, off, &(struct iovec){buf, len});
}

int blk_write_now(struct blk *b, uint64_t off, const void *buf, uint64_t len)
{
	return move(b, BLK_WRITE, off, &(struct iovec){(void *)(uintptr_t)buf, len});
}

int blk_flush_now(struct blk *b)
{
	return run(b, (struct blk_request){.op = BLK_FLUSH});
}

int blk_clear_now(struct blk *b, enum blk_op op, unsigned flags, uint64_t off, uint64_t len)
{
	return run(b, (struct blk_request){.op = op, .flags = flags, .off = off, .len = len});
}
