// SPDX-License-Identifier: MIT
// What was written becomes durable, for all who wait for it at once.
//
// A grain that was added is known to the table in memory only. A cycle first flushes the files, so
// that the grains are durable; then writes the tables, as they were when that flush began, to both
// of their places; then flushes once more. So whatever a crash leaves of a table points to grains
// that are there. What is added meanwhile waits for the next cycle.
//
// Before the first change of all, the image is marked, durably: its CID becomes another, so that
// no one takes what is about to be written for the content that the old one stood for; and each
// sparse extent says that someone writes to it. VMware looks such an extent over when it finds one
// that is not in use, and makes the two copies of its tables one. (QEMU does neither.) When the
// disk is closed, extents that were not found so are set right again.
#include "blk/vmdk_parts.h"

void vmdk_dirty(struct vmdk_table *t)
{
	struct vmdk *d = t->part->disk;

	if (t->dirty)
		return;
	t->dirty = true;
	t->next_dirty = d->dirty;
	d->dirty = t;
}

static void advance(struct vmdk *d);

static void cycle_done(struct blk_request *r, int rc)
{
	struct vmdk_part *p = container_of(r, struct vmdk_io, r)->part;
	struct vmdk *d = p->disk;
	struct vmdk_cycle *c = &d->cycle;

	if (r->op == BLK_FLUSH ? rc != 0 : !(r->flags & BLK_FUA))
		p->unflushed = true;
	if (rc && !c->rc)
		c->rc = rc;
	if (--c->busy)
		return;
	advance(d);
	vmdk_commit(&d->blk);
}

static void start(struct vmdk_io *io, enum blk_op op, unsigned flags, uint64_t off, uint64_t len)
{
	io->part->disk->cycle.busy++;
	io->r.done = cycle_done;
	vmdk_io(io, op, flags, off, len);
}

/* ---- the phases ---- */

static void mark(struct vmdk *d)
{
	if (d->marked || !d->mark_wanted)
		return;
	d->mark.iov[0] = (struct iovec){d->cid, d->cid_len};
	start(&d->mark, BLK_WRITE, BLK_FUA, d->cid_at, d->cid_len);
	for (struct vmdk_part *p = d->part; p < d->part + d->count; p++) {
		if (p->kind != VMDK_SPARSE)
			continue;
		p->header[VMDK_UNCLEAN_AT] = 1;
		p->mark.part = p;
		p->mark.iov[0] = (struct iovec){p->header, BLK_SECTOR};
		start(&p->mark, BLK_WRITE, BLK_FUA, 0, BLK_SECTOR);
	}
}

static void flush_files(struct vmdk *d)
{
	for (struct vmdk_part *p = d->part; p < d->part + d->files; p++) {
		if (!p->file || !p->unflushed)
			continue;
		p->unflushed = false;
		p->flush.part = p;
		start(&p->flush, BLK_FLUSH, 0, 0, 0);
	}
}

static void flush_data(struct vmdk *d)
{
	struct vmdk_cycle *c = &d->cycle;

	if (d->mark_wanted)
		d->marked = true;
	d->mark_wanted = false;
	c->serving = d->flushes;
	d->flushes = (struct blk_line){0};
	c->out = d->dirty;
	d->dirty = NULL;
	for (struct vmdk_table *t = c->out; t; t = t->next_out) {
		memcpy(t->out, t->entry, sizeof(t->out));
		t->dirty = false;
		t->writing = true;
		t->next_out = t->next_dirty;
	}
	if (c->out || c->serving.first)
		flush_files(d);
}

static void write_tables(struct vmdk *d)
{
	for (struct vmdk_table *t = d->cycle.out; t; t = t->next_out) {
		const struct vmdk_part *p = t->part;
		uint32_t at[2] = {p->gd[t->index], p->rgd ? p->rgd[t->index] : 0};

		for (unsigned i = 0; i < 2; i++) {
			if (!at[i])
				continue;
			t->io[i].iov[0] = (struct iovec){t->out, p->gtes * 4ull};
			start(&t->io[i], BLK_WRITE, 0, (uint64_t)le32toh(at[i]) * BLK_SECTOR,
				p->gtes * 4ull);
		}
	}
}

static void settle(struct vmdk *d)
{
	if (d->cycle.out)
		flush_files(d);
}

static void end(struct vmdk *d)
{
	struct vmdk_cycle c = d->cycle;
	struct blk_request *r;

	for (struct vmdk_table *t = c.out; t; t = t->next_out) {
		t->writing = false;
		if (c.rc)
			vmdk_dirty(t);
	}
	d->mark_wanted = false;
	d->cycle = (struct vmdk_cycle){.phase = VMDK_IDLE};
	while ((r = line_take(&c.serving)))
		r->done(r, c.rc);
	vmdk_wake(&d->room, c.rc);
	if (d->flushes.first)
		vmdk_cycle(d);
}

/* Goes on as long as there is nothing to wait for. */
static void advance(struct vmdk *d)
{
	static void (*const phases[])(struct vmdk * d) = {
		[VMDK_MARKING] = mark,
		[VMDK_FLUSHING] = flush_data,
		[VMDK_WRITING] = write_tables,
		[VMDK_SETTLING] = settle,
	};
	struct vmdk_cycle *c = &d->cycle;

	while (!c->busy) {
		if (c->rc || c->phase == VMDK_SETTLING) {
			end(d);
			return;
		}
		c->phase++;
		/* What is completed at once does not come here. */
		c->busy = 1;
		phases[c->phase](d);
		c->busy--;
	}
}

void vmdk_cycle(struct vmdk *d)
{
	if (d->cycle.phase == VMDK_IDLE)
		advance(d);
}
