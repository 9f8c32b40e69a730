// SPDX-License-Identifier: MIT
// A request is split into pieces, each for one of the two disks: what is written is one piece, what
// is read is one for each run of sectors that lie on the same disk. A few are under way at a time.
// A sector counts as written when its write is completed, so that one that fails leaves what was
// there.
#include "blk/overlay.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/layer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Requests that are under way; more of them wait. */
#define SPLITS 128u
/* Pieces of one request that are under way. */
#define PIECES 4u
#define WORD_BITS 64u

struct split;

struct piece {
	struct blk_request r;
	struct split *split;
	bool busy;
};

/* Of these, memory is touched as far as there ever were so many, and such pieces. */
struct split {
	struct overlay *overlay;
	struct blk_request *whole;
	struct split *next; /* while idle */
	uint64_t pos;       /* how much of it is split */
	unsigned busy;      /* pieces */
	int rc;
	bool splitting;
	struct piece piece[PIECES];
	struct iovec iov[PIECES][BLK_IOV_MAX];
};

struct overlay {
	struct layer layer;
	struct blk *upper;
	uint64_t *map; /* a bit a sector: the upper disk has it */
	uint64_t map_bytes;
	struct split *splits, *idle;
	unsigned fresh; /* of the splits, how many have never been used */
	unsigned busy;
	struct blk_line line; /* what waits for a split */
	bool starting;
};

static struct overlay *of(struct blk *b)
{
	return container_of(b, struct overlay, layer.blk);
}

/* ---- the map ---- */

static bool has(const struct overlay *o, uint64_t off)
{
	uint64_t sector = off / BLK_SECTOR;

	return o->map[sector / WORD_BITS] >> (sector % WORD_BITS) & 1;
}

static void set_has(struct overlay *o, uint64_t off, uint64_t len)
{
	uint64_t sector = off / BLK_SECTOR, end = sector + len / BLK_SECTOR;

	while (sector < end) {
		unsigned bit = sector % WORD_BITS;
		uint64_t n = MIN(end - sector, WORD_BITS - bit);

		o->map[sector / WORD_BITS] |= UINT64_MAX >> (WORD_BITS - n) << bit;
		sector += n;
	}
}

/* How many bytes from `off` on, at most `len`, are on the same disk. */
static uint64_t run_length(const struct overlay *o, uint64_t off, uint64_t len)
{
	uint64_t first = off / BLK_SECTOR, sector = first, end = first + len / BLK_SECTOR;
	uint64_t kind = has(o, off) ? UINT64_MAX : 0;

	while (sector < end) {
		uint64_t other = (o->map[sector / WORD_BITS] ^ kind) >> (sector % WORD_BITS);

		if (other) {
			sector += (unsigned)__builtin_ctzll(other);
			break;
		}
		sector = align_down(sector, WORD_BITS) + WORD_BITS;
	}
	return (MIN(sector, end) - first) * BLK_SECTOR;
}

/* ---- requests ---- */

static struct split *take_split(struct overlay *o)
{
	struct split *s = o->idle;

	if (s)
		o->idle = s->next;
	else if (o->fresh)
		s = &o->splits[--o->fresh];
	if (s)
		o->busy++;
	return s;
}

static void start_waiting(struct overlay *o);

static void end(struct split *s)
{
	struct blk_request *r = s->whole;
	struct overlay *o = s->overlay;
	int rc = s->rc;

	s->next = o->idle;
	o->idle = s;
	o->busy--;
	r->done(r, rc);
	start_waiting(o);
}

static void go_on(struct split *s);

static void overlay_commit(struct blk *b)
{
	blk_commit(of(b)->layer.below);
	blk_commit(of(b)->upper);
}

static void piece_done(struct blk_request *r, int rc)
{
	struct piece *p = container_of(r, struct piece, r);
	struct split *s = p->split;
	struct overlay *o = s->overlay;

	if (!rc && (r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES))
		set_has(o, r->off, r->len);
	if (rc && !s->rc)
		s->rc = rc;
	p->busy = false;
	s->busy--;
	if (s->splitting)
		return;
	go_on(s);
	overlay_commit(&o->layer.blk);
}

static void cut(struct split *s, unsigned index, uint64_t len)
{
	const struct blk_request *w = s->whole;
	struct blk_request *r = &s->piece[index].r;
	bool whole = len == w->len;

	*r = (struct blk_request){
		.op = w->op,
		.off = w->off + s->pos,
		.len = len,
		.iov = whole ? w->iov : s->iov[index],
		.iovcnt = w->iovcnt,
		.done = piece_done,
	};
	if (!whole)
		r->iovcnt = iov_slice(s->iov[index], w->iov, w->iovcnt, s->pos, len);
	/* Zeroes need no storage here: what was never written had none either. */
	if (w->op == BLK_WRITE_ZEROES)
		r->flags = BLK_UNMAP;
}

static void start_piece(struct split *s, unsigned index)
{
	const struct blk_request *w = s->whole;
	struct overlay *o = s->overlay;
	struct piece *p = &s->piece[index];
	bool reads = w->op == BLK_READ;
	uint64_t off = w->off + s->pos, left = w->len - s->pos;
	bool above = !reads || has(o, off);

	cut(s, index, reads ? run_length(o, off, left) : left);
	s->pos += p->r.len;
	p->split = s;
	p->busy = true;
	s->busy++;
	blk_submit(above ? o->upper : o->layer.below, &p->r);
}

static void go_on(struct split *s)
{
	s->splitting = true;
	for (unsigned i = 0; i < PIECES; i++)
		while (!s->piece[i].busy && !s->rc && s->pos < s->whole->len)
			start_piece(s, i);
	s->splitting = false;
	if (!s->busy)
		end(s);
}

/* One that is completed at once is not the end of it: whoever calls this for it comes back here. */
static void start_waiting(struct overlay *o)
{
	struct split *s;

	if (o->starting)
		return;
	o->starting = true;
	while (o->line.first && (s = take_split(o))) {
		s->overlay = o;
		s->whole = line_take(&o->line);
		s->pos = 0;
		s->rc = 0;
		go_on(s);
	}
	o->starting = false;
}

static void overlay_submit(struct blk *b, struct blk_request *r)
{
	struct overlay *o = of(b);

	if (r->op == BLK_FLUSH) {
		r->done(r, 0);
		return;
	}
	line_append(&o->line, r);
	start_waiting(o);
}

static int overlay_drain(struct blk *b)
{
	struct overlay *o = of(b);
	int rc;

	do {
		rc = blk_drain(o->layer.below);
		rc = rc ? rc : blk_drain(o->upper);
	} while (!rc && o->busy);
	return rc;
}

/* ---- birth and death ---- */

/* There is no room for more than there was at first. */
static int64_t overlay_measure(struct blk *b)
{
	return (int64_t)b->size;
}

static void release(struct overlay *o)
{
	if (o->map)
		munmap(o->map, o->map_bytes);
	free(o->splits);
	free(o);
}

static void overlay_destroy(struct blk *b)
{
	struct overlay *o = of(b);

	blk_destroy(o->layer.below);
	blk_destroy(o->upper);
	release(o);
}

/* Mapped, so that what no one writes near takes no memory. */
static int create_map(struct overlay *o, uint64_t size)
{
	void *p;

	o->map_bytes = (size / BLK_SECTOR / WORD_BITS + 1) * sizeof(*o->map);
	p = mmap(NULL, o->map_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	o->map = p;
	return 0;
}

static void describe(struct overlay *o)
{
	struct blk *b = &o->layer.blk;

	b->physical_block = MAX(b->physical_block, o->upper->physical_block);
	b->discard_align = o->upper->discard_align;
	b->read_only = false;
	b->can_zero = true;
}

int overlay_create(struct blk **out, struct blk *below, struct blk *upper)
{
	static const struct blk_ops ops = {
		.submit = overlay_submit,
		.commit = overlay_commit,
		.drain = overlay_drain,
		.measure = overlay_measure,
		.destroy = overlay_destroy,
	};
	struct overlay *o;

	if (upper->size < below->size)
		return fail(EINVAL, "disk %s: its overlay is smaller", below->name);
	o = calloc(1, sizeof(*o));
	if (!o)
		return fail(ENOMEM, "disk %s: no memory", below->name);
	o->splits = calloc(SPLITS, sizeof(*o->splits)); /* whose pages are not touched yet */
	if (!o->splits || create_map(o, below->size)) {
		release(o);
		return fail(ENOMEM, "disk %s: no memory", below->name);
	}
	layer_init(&o->layer, &ops, below);
	o->upper = upper;
	o->fresh = SPLITS;
	describe(o);
	*out = &o->layer.blk;
	return 0;
}
