// SPDX-License-Identifier: MIT
#include "tests/fuzz/memory_file.h"

#include "base/util.h"
#include "blk/raw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct view {
	struct blk blk;
	struct memory_file *file;
	struct blk_request *first;
};

static void grow(struct memory_file *f, size_t len)
{
	if (len <= f->len)
		return;
	memset(f->bytes + f->len, 0, len - f->len);
	f->len = len;
}

static void read_bytes(const struct memory_file *f, uint64_t off, uint8_t *to, size_t len)
{
	size_t there = off < f->len ? MIN(len, f->len - off) : 0;

	if (there)
		memcpy(to, f->bytes + off, there);
	memset(to + there, 0, len - there);
}

static int move(struct memory_file *f, const struct blk_request *r)
{
	uint64_t off = r->off;

	if (r->op == BLK_WRITE && !range_ok(off, r->len, f->room))
		return -ENOSPC;
	if (r->op == BLK_WRITE)
		grow(f, off + r->len);
	for (unsigned i = 0; i < r->iovcnt; off += r->iov[i++].iov_len) {
		if (r->op == BLK_READ)
			read_bytes(f, off, r->iov[i].iov_base, r->iov[i].iov_len);
		else
			memcpy(f->bytes + off, r->iov[i].iov_base, r->iov[i].iov_len);
	}
	return 0;
}

static int perform(struct memory_file *f, const struct blk_request *r)
{
	if (r->op == BLK_FLUSH)
		return 0;
	if (r->op <= BLK_WRITE)
		return move(f, r);
	if (r->off < f->len)
		memset(f->bytes + r->off, 0, MIN(r->len, f->len - r->off));
	return 0;
}

static void submit(struct blk *b, struct blk_request *r)
{
	struct view *v = container_of(b, struct view, blk);
	struct blk_request **at = &v->first;

	while (!v->file->backwards && *at)
		at = &(*at)->next;
	r->next = *at;
	*at = r;
}

static int drain(struct blk *b)
{
	struct view *v = container_of(b, struct view, blk);
	struct blk_request *r;

	while ((r = v->first)) {
		v->first = r->next;
		r->done(r, perform(v->file, r));
	}
	return 0;
}

static int resize(struct blk *b, uint64_t size)
{
	struct memory_file *f = container_of(b, struct view, blk)->file;

	if (size > f->room)
		return -ENOSPC;
	grow(f, size);
	f->len = size;
	return 0;
}

static void destroy(struct blk *b)
{
	struct view *v = container_of(b, struct view, blk);

	if (v->first)
		abort();
	free(v);
}

struct blk *memory_file_open(struct memory_file *f, bool holds_format)
{
	static const struct blk_ops ops = {
		.submit = submit, .drain = drain, .resize = resize, .destroy = destroy};
	struct view *v = calloc(1, sizeof(*v));

	if (!v)
		abort();
	v->file = f;
	v->blk = (struct blk){.ops = &ops,
		.name = "image",
		.size = holds_format ? RAW_SIZE_MAX : align_down(f->len, BLK_SECTOR),
		.physical_block = 4096,
		.discard_align = 4096,
		.can_zero = true};
	return &v->blk;
}

int64_t raw_file_size(struct blk *b)
{
	return (int64_t)container_of(b, struct view, blk)->file->len;
}
