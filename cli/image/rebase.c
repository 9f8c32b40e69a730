// SPDX-License-Identifier: MIT
// kvick image rebase: where the old backing file and the new one differ, the image gets the old
// one's data; then its header names the new one.
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/now.h"
#include "blk/qcow2.h"
#include "blk/qcow2_rebase.h"
#include "cli/image/copy.h"
#include "cli/image/progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Where clusters are smaller. */
#define PIECE_MIN KIB(64)

struct rebase {
	struct blk *image;     /* without its backing file */
	struct blk *old, *new; /* NULL: none, all zeroes */
	uint64_t piece;        /* bytes: whole clusters of the image, which it then has all of */
	uint8_t *buf[2];
};

/* Zeroes past the end, and where there is nothing. */
static int read_piece(struct blk *b, uint64_t off, uint64_t len, uint8_t *buf)
{
	uint64_t there = b && off < b->size ? MIN(len, b->size - off) : 0;
	int rc = there ? blk_read_now(b, off, buf, there) : 0;

	memset(buf + there, 0, len - there);
	return rc ? failno(-rc, "%s: byte %llu: reading", b->name, (unsigned long long)off) : 0;
}

/* How much from there on is surely zeroes. */
static int zeroes(struct blk *b, uint64_t off, uint64_t len, uint64_t *zero)
{
	struct blk_extent x;
	int rc;

	*zero = len;
	if (!b || off >= b->size)
		return 0;
	rc = blk_map(b, off, MIN(len, b->size - off), &x);
	if (!rc && x.kind == BLK_EXTENT_DATA)
		*zero = 0;
	else if (!rc && off + x.len < b->size)
		*zero = x.len;
	return rc ? failno(-rc, "%s: byte %llu: what is there", b->name, (unsigned long long)off)
		  : 0;
}

static int take_over(const struct rebase *r, uint64_t off, uint64_t len)
{
	int rc = read_piece(r->old, off, len, r->buf[0]);

	rc = rc ? rc : read_piece(r->new, off, len, r->buf[1]);
	if (rc || !memcmp(r->buf[0], r->buf[1], len))
		return rc;
	if (copy_is_zero(r->buf[0], len))
		rc = blk_clear_now(r->image, BLK_WRITE_ZEROES, BLK_UNMAP, off, len);
	else
		rc = blk_write_now(r->image, off, r->buf[0], len);
	return rc ? failno(-rc, "%s: byte %llu: writing", r->image->name, (unsigned long long)off)
		  : 0;
}

/* Up to where nothing is to be done from `off` on, in whole pieces, so that what follows is whole
 * clusters. */
static int skip_zeroes(const struct rebase *r, uint64_t off, uint64_t end, uint64_t *to)
{
	uint64_t old, new;
	int rc = zeroes(r->old, off, end - off, &old);

	rc = rc ? rc : zeroes(r->new, off, end - off, &new);
	if (!rc && off + MIN(old, new) < end)
		end = align_down(off + MIN(old, new), r->piece);
	*to = MAX(off, end);
	return rc;
}

/* A stretch that the image does not have. */
static int take_over_all(const struct rebase *r, uint64_t off, uint64_t end)
{
	int rc = 0;

	while (!rc && off < end) {
		uint64_t from = off, len;

		rc = skip_zeroes(r, from, end, &off);
		if (rc || off > from)
			continue;
		len = MIN(end, align_down(off, r->piece) + r->piece) - off;
		rc = take_over(r, off, len);
		off += len;
	}
	return rc;
}

static int differences(const struct rebase *r, bool quiet)
{
	struct progress p;
	uint64_t off = 0;
	int rc = 0;

	progress_start(&p, r->image->size, !quiet);
	while (!rc && off < r->image->size) {
		struct blk_extent x;

		progress_at(&p, off);
		rc = blk_map(r->image, off, r->image->size - off, &x);
		if (rc)
			failno(-rc, "%s: byte %llu: what is there", r->image->name,
				(unsigned long long)off);
		else if (x.depth || x.kind == BLK_EXTENT_ABSENT)
			rc = take_over_all(r, off, off + x.len);
		off += rc ? 0 : x.len;
	}
	progress_end(&p);
	return rc ? rc : blk_flush_now(r->image);
}

/* ---- what it stands on ---- */

static int open_old(struct tool *t, struct rebase *r)
{
	struct tool_image i = {0};
	CLEANUP_FREE char *path = NULL;
	int rc = tool_backing(t, t->o->words.items[0], &path, &i.format);

	i.path = path;
	return rc || !path ? rc : tool_open(t, &r->old, &i);
}

/* And which format it is. Without a look where that is said and nothing else is to be known. */
static int open_new(struct tool *t, struct rebase *r, const char **format)
{
	const struct image_options *o = t->o;
	CLEANUP_FREE char *path = tool_beside(o->words.items[0], o->backing);
	struct tool_image i = {.path = path, .format = o->backing_format, .alone = o->force};
	struct chain *c;
	int rc;

	if (o->backing_format)
		*format = image_format_names[o->backing_format];
	if (!*o->backing || (o->force && o->backing_format))
		return path ? 0 : -ENOMEM;
	rc = path ? tool_chain(t, &c, &i) : -ENOMEM;
	if (rc)
		return fail_context(rc, "new backing file");
	*format = image_format_names[chain_format(c)];
	rc = chain_create(&r->new, c, t->engine, t->decompressor);
	return rc ? fail_context(rc, "new backing file") : 0;
}

static int find_piece(struct tool *t, struct rebase *r)
{
	struct tool_file f = {.path = t->o->words.items[0], .format = IMAGE_QCOW2};
	struct qcow2_info q = {0};
	int rc = tool_open_file(t, &f);

	if (rc)
		return rc;
	rc = qcow2_look(&q, f.blk);
	blk_destroy(f.blk);
	r->piece = MAX(1ull << q.cluster_bits, PIECE_MIN);
	return rc;
}

static int compare(struct tool *t, struct rebase *r)
{
	uint8_t *buf;
	int rc = find_piece(t, r);

	if (rc)
		return rc;
	buf = aligned_alloc(4096, 2 * r->piece);
	rc = buf ? open_old(t, r) : fail(ENOMEM, "out of memory");
	r->buf[0] = buf;
	r->buf[1] = buf + r->piece;
	rc = rc ? rc : differences(r, t->o->json);
	free(buf);
	return rc;
}

static int set_backing(struct tool *t, const char *format)
{
	const struct image_options *o = t->o;
	struct tool_file f = {
		.path = o->words.items[0], .format = IMAGE_QCOW2, .write = true, .lock = true};
	int rc = tool_open_file(t, &f);

	if (rc)
		return rc;
	rc = qcow2_set_backing(f.blk, *o->backing ? o->backing : NULL, format);
	blk_destroy(f.blk);
	return rc;
}

int image_rebase(struct tool *t)
{
	const struct image_options *o = t->o;
	const struct tool_image i = {
		.path = o->words.items[0], .format = IMAGE_QCOW2, .write = true, .alone = true};
	struct rebase r = {0};
	const char *format = NULL;
	int rc;

	if (!o->backing)
		return fail(EINVAL, "which file? --backing, or --backing '' for none");
	rc = tool_check_name(o->backing);
	rc = rc ? rc : tool_open(t, &r.image, &i);
	rc = rc ? rc : open_new(t, &r, &format);
	if (!rc && !o->force)
		rc = compare(t, &r);
	blk_destroy(r.new);
	blk_destroy(r.old);
	blk_destroy(r.image);
	return rc ? rc : set_backing(t, format);
}
