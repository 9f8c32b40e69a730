// SPDX-License-Identifier: MIT
// Requests to a file or a device: which system call each is, and what follows when it fails.
#include "blk/raw_parts.h"

#include "base/log.h"
#include "blk/lock.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

const char *const raw_cache_names[] = {"writeback", "none", "writethrough", "unsafe", NULL};

static bool durable(const struct raw *w, const struct blk_request *r)
{
	if (w->cache == RAW_UNSAFE)
		return false;
	return w->cache == RAW_WRITETHROUGH || (r->flags & BLK_FUA);
}

enum engine_op raw_write_op(const struct raw *w, const struct blk_request *r)
{
	return durable(w, r) ? ENGINE_WRITE_DURABLE : ENGINE_WRITE;
}

static void finish(struct raw *w, struct blk_request *r, int rc)
{
	r->done(r, rc);
	raw_slow_next(w);
}

/*
 * Whole blocks of the range. There is no asynchronous way that old kernels have: fallocate has a
 * device zero the range or fail, where many that can discard cannot promise zeroes; the mode that
 * would be a discard, FALLOC_FL_NO_HIDE_STALE, is closed to programs.
 */
static void discard_device(struct raw *w, struct blk_request *r)
{
	uint64_t block = w->blk.physical_block;
	uint64_t off = w->file.base + r->off;
	uint64_t start = align_up(off, block), end = align_down(off + r->len, block);
	uint64_t range[2] = {start, end - start};
	int rc = 0;

	if (end > start && ioctl(w->file.fd, BLKDISCARD, range) < 0)
		rc = -errno;
	if (rc == -EOPNOTSUPP)
		w->blk.discard_align = 0;
	finish(w, r, w->blk.discard_align ? rc : 0);
}

void raw_send(struct raw *w, struct blk_request *r)
{
	switch (r->op) {
	case BLK_READ:
		engine_submit(&w->file, r, ENGINE_READ);
		break;
	case BLK_WRITE:
		engine_submit(&w->file, r, raw_write_op(w, r));
		break;
	case BLK_FLUSH:
		if (w->cache == RAW_UNSAFE)
			finish(w, r, 0);
		else
			engine_submit(&w->file, r, ENGINE_SYNC_DATA);
		break;
	case BLK_DISCARD:
		if (w->device)
			discard_device(w, r);
		else
			engine_submit(&w->file, r, ENGINE_PUNCH);
		break;
	case BLK_WRITE_ZEROES:
		engine_submit(&w->file, r, r->flags & BLK_UNMAP ? ENGINE_PUNCH : ENGINE_ZERO);
		break;
	}
}

static void raw_submit(struct blk *b, struct blk_request *r)
{
	struct raw *w = container_of(b, struct raw, blk);

	if (!raw_slow_take(w, r))
		raw_send(w, r);
}

/* Whether the host has no such operation: noted, so that it is not asked again. */
static bool cannot(struct raw *w, const struct blk_request *r, int rc)
{
	if (rc != -EOPNOTSUPP && rc != -ENOSYS && rc != -EINVAL)
		return false;
	if (r->step == ENGINE_PUNCH)
		w->no_punch = true;
	if (r->step == ENGINE_ZERO)
		w->no_zero = true;
	return r->step == ENGINE_PUNCH || r->step == ENGINE_ZERO;
}

static void raw_done(struct engine_file *f, struct blk_request *r, int rc)
{
	struct raw *w = container_of(f, struct raw, file);
	bool unable = cannot(w, r, rc);

	if (r == &w->slow.part) {
		raw_slow_done(w, rc);
	} else if (unable && r->op == BLK_WRITE_ZEROES) {
		raw_slow_append(w, r);
	} else if (unable) {
		w->blk.discard_align = 0;
		finish(w, r, 0);
	} else if (!rc && r->op == BLK_WRITE_ZEROES && r->step != ENGINE_SYNC_DATA &&
		   durable(w, r)) {
		engine_submit(f, r, ENGINE_SYNC_DATA);
	} else {
		finish(w, r, rc);
	}
}

static void raw_commit(struct blk *b)
{
	engine_commit(container_of(b, struct raw, blk)->file.engine);
}

static int raw_drain(struct blk *b)
{
	return engine_drain(&container_of(b, struct raw, blk)->file);
}

static int64_t measure(struct blk *b)
{
	return raw_measure(container_of(b, struct raw, blk));
}

static void raw_destroy(struct blk *b)
{
	struct raw *w = container_of(b, struct raw, blk);

	engine_remove(&w->file);
	lock_release(w->lock_fd);
	close(w->file.fd);
	raw_slow_finish(w);
	free(w->own_name);
	free(w);
}

static const struct blk_ops ops = {
	.submit = raw_submit,
	.commit = raw_commit,
	.drain = raw_drain,
	.measure = measure,
	.map = raw_map,
	.resize = raw_resize,
	.destroy = raw_destroy,
};

int *raw_lock(struct blk *b)
{
	return b->ops == &ops ? &container_of(b, struct raw, blk)->lock_fd : NULL;
}

int raw_create(struct blk **out, struct blk_engine *e, const struct raw_config *c)
{
	struct raw *w = calloc(1, sizeof(*w));
	int rc = w ? 0 : fail(ENOMEM, "disk %s: no memory", c->name);

	if (!rc) {
		w->file.fd = c->fd;
		w->file.base = c->off;
		w->file.endless = c->holds_format;
		w->len = c->len;
		w->file.done = raw_done;
		rc = raw_open(w, c);
	}
	rc = rc ? rc : raw_slow_init(w);
	if (rc) {
		free(w);
		return rc;
	}
	w->lock_fd = c->lock_fd;
	w->own_name = c->own_name;
	w->file.buffered = c->cache != RAW_NONE;
	engine_add(e, &w->file);
	w->blk.ops = &ops;
	*out = &w->blk;
	return 0;
}
