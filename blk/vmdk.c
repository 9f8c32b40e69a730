// SPDX-License-Identifier: MIT
// A request is split into pieces, each for one row of grains that lie one after the other in one
// file; what is allocated goes there with the caller's own memory. A few are under way at a time.
//
// A grain that is not there reads as zeroes, and there is no parent that would have it: so zeroes
// are written and storage is given back only where there are grains, in place. A grain is never
// taken away again, so that where it lies need not be asked twice.
//
// A grain is added where nothing of the file ever was, past all of what is there: the rest of it
// reads as zeroes without being written. The table has it when its data is written, and the file
// has the table as blk/vmdk_flush.c says. A place where that failed is not used again by this disk.
// Others that want the grain wait, and find it then.
#include "base/iov.h"
#include "blk/vmdk_parts.h"

#include <errno.h>
#include <string.h>

/* Entries of tables are numbers of sectors in 32 bits. */
#define FILE_MAX (BLK_SECTOR * (1ull << 32))

static struct vmdk *of(struct blk *b)
{
	return container_of(b, struct vmdk, blk);
}

struct vmdk_part *vmdk_part_at(const struct vmdk *d, uint64_t off)
{
	unsigned low = 0, high = d->count;

	while (high - low > 1) {
		unsigned mid = (low + high) / 2;

		if (d->part[mid].start <= off)
			low = mid;
		else
			high = mid;
	}
	return &d->part[low];
}

void vmdk_io(struct vmdk_io *io, enum blk_op op, unsigned flags, uint64_t off, uint64_t len)
{
	void (*done)(struct blk_request *, int) = io->r.done;

	io->r = (struct blk_request){
		.op = op,
		.flags = flags,
		.off = off,
		.len = len,
		.iov = io->iov,
		.done = done,
	};
	for (uint64_t all = 0; all < len; io->r.iovcnt++)
		all += io->iov[io->r.iovcnt].iov_len;
	io->part->touched = true;
	blk_submit(io->part->file, &io->r);
}

void vmdk_commit(struct blk *b)
{
	struct vmdk *d = of(b);

	for (struct vmdk_part *p = d->part; p < d->part + d->files; p++)
		if (p->touched) {
			p->touched = false;
			blk_commit(p->file);
		}
}

/* ---- waiting ---- */

static void go_on(struct vmdk_split *s);

void vmdk_stall(struct vmdk_split *s, struct vmdk_line *l)
{
	s->stalled = true;
	s->next = NULL;
	if (l->first)
		l->last->next = s;
	else
		l->first = s;
	l->last = s;
}

void vmdk_wake(struct vmdk_line *l, int rc)
{
	struct vmdk_split *s = l->first, *next;

	l->first = NULL;
	for (; s; s = next) {
		next = s->next;
		s->stalled = false;
		if (rc && !s->rc)
			s->rc = rc;
		if (!s->splitting)
			go_on(s);
	}
}

/* ---- pieces ---- */

static void added(struct vmdk_piece *p, int rc)
{
	struct vmdk_table *t = p->table;
	struct vmdk_part *part = p->part;
	struct vmdk *d = part->disk;
	struct vmdk_piece **at = &d->adding;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	t->pins--;
	for (unsigned i = 0; !rc && i < p->count; i++)
		t->entry[(p->grain & (part->gtes - 1)) + i] = htole32(
			(uint32_t)((p->at + ((uint64_t)i << part->grain_bits)) / BLK_SECTOR));
	if (!rc) {
		part->linked = MAX(part->linked, p->at + (uint64_t)p->count * part->grain);
		vmdk_dirty(t);
	}
	p->table = NULL;
	vmdk_wake(&p->line, 0);
	if (!t->pins)
		vmdk_wake(&d->room, 0);
}

static void piece_done(struct blk_request *r, int rc)
{
	struct vmdk_piece *p = container_of(r, struct vmdk_piece, r);
	struct vmdk_split *s = p->split;
	struct vmdk *d = s->disk;

	if (r->op != BLK_READ)
		p->part->unflushed = true;
	if (p->table)
		added(p, rc);
	if (rc && !s->rc)
		s->rc = rc;
	p->busy = false;
	s->busy--;
	if (s->splitting)
		return;
	go_on(s);
	vmdk_commit(&d->blk);
}

static void send(struct vmdk_piece *p, const struct vmdk_run *run)
{
	struct vmdk_split *s = p->split;
	const struct blk_request *w = s->whole;
	struct iovec *iov = s->iov[p - s->piece];
	bool whole = run->len == w->len;

	p->r = (struct blk_request){
		.op = w->op,
		.flags = w->flags,
		.off = run->at,
		.len = run->len,
		.iov = whole ? w->iov : iov,
		.iovcnt = w->iovcnt,
		.done = piece_done,
	};
	if (!whole)
		p->r.iovcnt = iov_slice(iov, w->iov, w->iovcnt, s->pos, run->len);
	if (run->table && (run->table->dirty || run->table->writing || p->table)) {
		s->settles = s->settles || w->flags & BLK_FUA;
		p->r.flags &= ~(unsigned)BLK_FUA;
	}
	s->pos += run->len;
	s->busy++;
	p->busy = true;
	if (run->kind == VMDK_PACKED) {
		vmdk_unpack_add(p);
		return;
	}
	p->part->touched = true;
	blk_submit(p->part->file, &p->r);
}

/* The grains from byte `off` of the part on; as many as no one else is adding. */
static void add(struct vmdk_piece *p, uint64_t off, struct vmdk_run *run)
{
	struct vmdk_part *part = p->part;
	struct vmdk *d = part->disk;
	unsigned bits = part->grain_bits;
	uint64_t first = off >> bits, end = ((off + run->len - 1) >> bits) + 1;

	for (struct vmdk_piece *q = d->adding; q; q = q->next) {
		if (q->part != part || q->grain >= end || q->grain + q->count <= first)
			continue;
		if (q->grain <= first) {
			vmdk_stall(p->split, &q->line);
			return;
		}
		end = q->grain;
	}
	p->grain = first;
	p->count = (unsigned)(end - first);
	p->at = part->next;
	if (p->at + ((end - first) << bits) > FILE_MAX) {
		p->split->rc = -EFBIG;
		return;
	}
	part->next += (end - first) << bits;
	p->table = run->table;
	p->table->pins++;
	p->next = d->adding;
	d->adding = p;
	run->len = MIN(run->len, (end << bits) - off);
	run->at = p->at + (off & (part->grain - 1));
	run->kind = VMDK_DATA;
	send(p, run);
}

/* What is at byte `off` of the part; false: the split waits, or has failed. */
static bool find(struct vmdk_piece *p, uint64_t off, struct vmdk_run *run)
{
	struct vmdk_split *s = p->split;
	struct vmdk_part *part = p->part;
	uint64_t left;
	uint32_t index;

	run->kind = part->file ? VMDK_DATA : VMDK_ZEROES;
	run->at = part->at + off;
	if (part->kind != VMDK_SPARSE)
		return true;
	left = vmdk_table_left(part, off);
	index = (uint32_t)(off >> part->covers_bits);
	run->len = MIN(run->len, left);
	run->kind = VMDK_ABSENT;
	if (!part->gd[index] && s->whole->op != BLK_WRITE)
		return true;
	run->table = vmdk_table_get(part, index, s);
	if (run->table)
		s->rc = vmdk_table_run(part, run->table->entry, off, run);
	return run->table && !s->rc;
}

static bool may_change(struct vmdk_split *s)
{
	struct vmdk *d = s->disk;

	if (s->whole->op == BLK_READ || d->marked)
		return true;
	vmdk_stall(s, &d->room);
	d->mark_wanted = true;
	vmdk_cycle(d);
	return false;
}

static void start_piece(struct vmdk_split *s, struct vmdk_piece *p)
{
	const struct blk_request *w = s->whole;
	uint64_t off = w->off + s->pos;
	struct vmdk_run run = {.table = NULL};

	p->split = s;
	p->part = vmdk_part_at(s->disk, off);
	off -= p->part->start;
	run.len = MIN(w->len - s->pos, p->part->end - p->part->start - off);
	if (!may_change(s) || !find(p, off, &run))
		return;
	if (run.kind == VMDK_PACKED) {
		p->grain = off >> p->part->grain_bits;
		p->at = off & (p->part->grain - 1);
	}
	if (run.kind >= VMDK_DATA) {
		send(p, &run);
	} else if (w->op != BLK_WRITE) {
		if (w->op == BLK_READ)
			iov_zero(w->iov, w->iovcnt, s->pos, run.len);
		s->pos += run.len;
	} else if (run.table) {
		add(p, off, &run);
	} else {
		s->rc = -EROFS;
	}
}

/* ---- requests ---- */

static struct vmdk_split *take_split(struct vmdk *d)
{
	struct vmdk_split *s = d->idle;

	if (s)
		d->idle = s->next;
	else if (d->fresh)
		s = &d->splits[--d->fresh];
	if (s)
		d->busy++;
	return s;
}

static void start_waiting(struct vmdk *d);

static void end(struct vmdk_split *s)
{
	struct blk_request *r = s->whole;
	struct vmdk *d = s->disk;
	int rc = s->rc;

	s->next = d->idle;
	d->idle = s;
	d->busy--;
	if (!rc && s->settles) {
		line_append(&d->flushes, r);
		vmdk_cycle(d);
	} else {
		r->done(r, rc);
	}
	start_waiting(d);
}

static void go_on(struct vmdk_split *s)
{
	s->splitting = true;
	for (unsigned i = 0; i < VMDK_PIECES; i++)
		while (!s->piece[i].busy && !s->stalled && !s->rc && s->pos < s->whole->len)
			start_piece(s, &s->piece[i]);
	s->splitting = false;
	if (!s->busy && !s->stalled)
		end(s);
}

/* One that is completed at once is not the end of it: whoever calls this for it comes back here. */
static void start_waiting(struct vmdk *d)
{
	struct vmdk_split *s;

	if (d->starting)
		return;
	d->starting = true;
	while (d->line.first && (s = take_split(d))) {
		s->disk = d;
		s->whole = line_take(&d->line);
		s->pos = 0;
		s->rc = 0;
		s->settles = false;
		go_on(s);
	}
	d->starting = false;
}

static void vmdk_submit(struct blk *b, struct blk_request *r)
{
	struct vmdk *d = of(b);

	if (r->op == BLK_FLUSH) {
		line_append(&d->flushes, r);
		vmdk_cycle(d);
		return;
	}
	line_append(&d->line, r);
	start_waiting(d);
}

static int vmdk_drain(struct blk *b)
{
	struct vmdk *d = of(b);
	int rc = 0;

	do {
		for (struct vmdk_part *p = d->part; !rc && p < d->part + d->files; p++)
			rc = p->file ? blk_drain(p->file) : 0;
		if (!rc && d->unpack.d)
			rc = d->unpack.d->drain(d->unpack.d);
	} while (!rc && (d->busy || d->cycle.phase != VMDK_IDLE));
	return rc;
}

/* What others have added to a file is no part of the image. */
static int64_t vmdk_measure(struct blk *b)
{
	return (int64_t)b->size;
}

struct blk_ops vmdk_ops = {
	.submit = vmdk_submit,
	.commit = vmdk_commit,
	.drain = vmdk_drain,
	.measure = vmdk_measure,
	.destroy = vmdk_destroy,
};
