// SPDX-License-Identifier: MIT
// A chunk of memory knows which of its sectors have been written. So a write that is less than a
// chunk needs nothing from below, and a read is one of three: all from memory, all from below, or
// from below with what is in memory laid over it when that is there.
#include "blk/overlay_memory.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/layer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK KIB(64)
#define SECTORS (CHUNK / BLK_SECTOR)
/* Reads of both kinds of sectors that are under way; more of them wait. */
#define MIXED 32u

struct chunk {
	uint8_t *data; /* NULL until written to */
	uint64_t have[SECTORS / 64];
};

struct overlay;

struct mixed {
	struct blk_request r; /* the read from below */
	struct blk_request *upper;
	struct overlay *overlay;
};

struct overlay {
	struct layer layer;
	struct chunk *chunks;
	uint64_t count;
	struct mixed mixed[MIXED];
	struct blk_line idle, waiting;
	unsigned busy;
};

/* A part of a request that lies within one chunk. */
struct part {
	struct chunk *chunk;
	uint64_t pos;     /* in the request */
	uint64_t at, len; /* in the chunk */
};

static struct overlay *of(struct blk *b)
{
	return container_of(b, struct overlay, layer.blk);
}

static struct part part_at(const struct overlay *o, const struct blk_request *r, uint64_t pos)
{
	struct part p = {.pos = pos, .at = (r->off + pos) % CHUNK};

	p.chunk = &o->chunks[(r->off + pos) / CHUNK];
	p.len = MIN(CHUNK - p.at, r->len - pos);
	return p;
}

static bool has(const struct chunk *c, uint64_t at)
{
	uint64_t sector = at / BLK_SECTOR;

	return c->have[sector / 64] >> (sector % 64) & 1;
}

static void set_has(struct chunk *c, uint64_t at, uint64_t len)
{
	for (uint64_t sector = at / BLK_SECTOR; sector < (at + len) / BLK_SECTOR; sector++)
		c->have[sector / 64] |= 1ull << (sector % 64);
}

/* How much of the part is of one kind from its start on: written here, or not. */
static uint64_t run_length(const struct part *p)
{
	uint64_t n = BLK_SECTOR;

	while (n < p->len && has(p->chunk, p->at + n) == has(p->chunk, p->at))
		n += BLK_SECTOR;
	return n;
}

/* Fresh memory is zeroes, which count as written. */
static int get_memory(struct chunk *c)
{
	void *p;

	if (c->data)
		return 0;
	p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	c->data = p;
	return 0;
}

static int write_part(const struct part *p, const struct blk_request *r)
{
	int rc = get_memory(p->chunk);

	if (rc)
		return rc;
	iov_read(r->iov, r->iovcnt, p->pos, p->chunk->data + p->at, p->len);
	set_has(p->chunk, p->at, p->len);
	return 0;
}

/* Gives the memory of a whole chunk back: it reads as zeroes. */
static void clear(struct chunk *c)
{
	if (c->data && madvise(c->data, CHUNK, MADV_DONTNEED) < 0)
		memset(c->data, 0, CHUNK);
}

static int zero_part(const struct part *p, const struct blk_request *r)
{
	int rc;

	if (p->len == CHUNK)
		clear(p->chunk);
	rc = get_memory(p->chunk);
	if (rc)
		return rc;
	if (p->len != CHUNK)
		memset(p->chunk->data + p->at, 0, p->len);
	set_has(p->chunk, p->at, p->len);
	return 0;
}

static int discard_part(const struct part *p, const struct blk_request *r)
{
	if (p->len == CHUNK)
		clear(p->chunk);
	return 0;
}

static int for_parts(const struct overlay *o, const struct blk_request *r,
	int (*fn)(const struct part *p, const struct blk_request *r))
{
	int rc = 0;

	for (uint64_t pos = 0; !rc && pos < r->len;) {
		struct part p = part_at(o, r, pos);

		rc = fn(&p, r);
		pos += p.len;
	}
	return rc;
}

/* Puts what is in memory where the request wants it. Returns how many bytes that were. */
static uint64_t lay_over(const struct overlay *o, const struct blk_request *r)
{
	uint64_t sum = 0;

	for (uint64_t pos = 0; pos < r->len;) {
		struct part p = part_at(o, r, pos);
		uint64_t len = run_length(&p);

		if (has(p.chunk, p.at)) {
			iov_write(r->iov, r->iovcnt, pos, p.chunk->data + p.at, len);
			sum += len;
		}
		pos += len;
	}
	return sum;
}

/* Whether any of the range has been written to here. */
static bool any_here(const struct overlay *o, const struct blk_request *r)
{
	for (uint64_t pos = 0; pos < r->len;) {
		struct part p = part_at(o, r, pos);

		if (has(p.chunk, p.at) || run_length(&p) < p.len)
			return true;
		pos += p.len;
	}
	return false;
}

static void start_mixed(struct overlay *o);

static void mixed_done(struct blk_request *below, int rc)
{
	struct mixed *m = container_of(below, struct mixed, r);
	struct blk_request *r = m->upper;
	struct overlay *o = m->overlay;

	if (!rc)
		lay_over(o, r);
	o->busy--;
	line_append(&o->idle, below);
	r->done(r, rc);
	if (o->waiting.first) {
		start_mixed(o);
		blk_commit(o->layer.below);
	}
}

static void start_mixed(struct overlay *o)
{
	while (o->waiting.first && o->idle.first) {
		struct mixed *m = container_of(line_take(&o->idle), struct mixed, r);
		struct blk_request *r = line_take(&o->waiting);

		m->upper = r;
		m->r = (struct blk_request){
			.op = BLK_READ,
			.off = r->off,
			.len = r->len,
			.iov = r->iov,
			.iovcnt = r->iovcnt,
			.done = mixed_done,
		};
		o->busy++;
		blk_submit(o->layer.below, &m->r);
	}
}

static void read_both(struct overlay *o, struct blk_request *r)
{
	if (!any_here(o, r)) {
		blk_submit(o->layer.below, r);
	} else if (lay_over(o, r) == r->len) {
		r->done(r, 0);
	} else {
		line_append(&o->waiting, r);
		start_mixed(o);
	}
}

static void overlay_submit(struct blk *b, struct blk_request *r)
{
	struct overlay *o = of(b);

	switch (r->op) {
	case BLK_READ:
		read_both(o, r);
		break;
	case BLK_WRITE:
		r->done(r, for_parts(o, r, write_part));
		break;
	case BLK_WRITE_ZEROES:
		r->done(r, for_parts(o, r, zero_part));
		break;
	case BLK_DISCARD:
		r->done(r, for_parts(o, r, discard_part));
		break;
	case BLK_FLUSH:
		r->done(r, 0);
		break;
	}
}

static int overlay_drain(struct blk *b)
{
	struct overlay *o = of(b);
	int rc;

	do
		rc = blk_drain(o->layer.below);
	while (!rc && o->busy);
	return rc;
}

/* There is no room for more than there was at first. */
static int64_t overlay_measure(struct blk *b)
{
	return (int64_t)b->size;
}

static void overlay_destroy(struct blk *b)
{
	struct overlay *o = of(b);

	for (uint64_t i = 0; i < o->count; i++)
		if (o->chunks[i].data)
			munmap(o->chunks[i].data, CHUNK);
	munmap(o->chunks, o->count * sizeof(*o->chunks));
	blk_destroy(o->layer.below);
	free(o);
}

/* Mapped, so that what no one writes near takes no memory. */
static int create_table(struct overlay *o, const struct blk *below)
{
	void *p;

	o->count = (below->size + CHUNK - 1) / CHUNK;
	p = mmap(NULL, o->count * sizeof(*o->chunks), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	o->chunks = p;
	return 0;
}

int overlay_memory_create(struct blk **out, struct blk *below)
{
	static const struct blk_ops ops = {
		.submit = overlay_submit,
		.commit = layer_commit,
		.drain = overlay_drain,
		.measure = overlay_measure,
		.destroy = overlay_destroy,
	};
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o || create_table(o, below)) {
		free(o);
		return fail(ENOMEM, "disk %s: no memory", below->name);
	}
	layer_init(&o->layer, &ops, below);
	o->layer.blk.read_only = false;
	o->layer.blk.can_zero = true;
	o->layer.blk.discard_align = CHUNK;
	for (unsigned i = 0; i < MIXED; i++) {
		o->mixed[i].overlay = o;
		line_append(&o->idle, &o->mixed[i].r);
	}
	*out = &o->layer.blk;
	return 0;
}
