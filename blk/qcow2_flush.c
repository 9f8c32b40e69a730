// SPDX-License-Identifier: MIT
// How what was changed in memory comes to the medium: in cycles, one at a time.
//
// A cycle writes what was dirty when it began, in an order in which each prefix of it is sound:
//
//   1  refcount blocks                       counts that went up come before what is counted,
//      and, where blocks are new:            those that went down are of what is gone already
//   2  flush, the refcount table's entries   a block is whole before the table has it
//   3  flush, the header                     where the table lies somewhere else now
//   4  flush                                 with it the data, which was completed before
//   5  L2 entries
//   6  flush, L1 entries                     where L2 tables are new
//   7  flush
//
// A cycle for a disk on which no table has changed is the flush of step 4 alone. Requests go on
// meanwhile, and entries change; the cycle writes slices as they were when it began, so that none
// comes to the medium before its count and its data: see qcow2_slice_keep. L1 and refcount tables
// do not change while there is a cycle: who would change them waits for its end.
//
// One that fails leaves all that it was to write dirty, and whoever waited has the error; the next
// tries all of it again.
#include "blk/qcow2_parts.h"

#include <errno.h>
#include <sys/mman.h>

enum sent { SENT, NO_MORE, NO_ROOM };

static void advance(struct qcow2 *q);

static void out_done(struct blk_request *r, int rc)
{
	struct qcow2_out *o = container_of(r, struct qcow2_out, r);
	struct qcow2 *q = o->q;
	struct qcow2_cycle *c = &q->cycle;

	c->rc = c->rc ? c->rc : rc;
	c->inflight--;
	c->copy[c->copies++] = o->copy;
	c->idle[c->idle_count++] = o;
	qcow2_line_wake(&c->copied, 0);
	advance(q);
}

/* Takes `copy`, which is one of the cycle's. */
static enum sent send(struct qcow2 *q, uint64_t at, uint8_t *copy, uint64_t len)
{
	struct qcow2_cycle *c = &q->cycle;
	struct qcow2_out *o = c->idle[--c->idle_count];

	o->q = q;
	o->copy = copy;
	o->iov = (struct iovec){copy, len};
	o->r = (struct blk_request){.op = BLK_WRITE,
		.off = at,
		.len = len,
		.iov = &o->iov,
		.iovcnt = 1,
		.done = out_done};
	c->inflight++;
	blk_submit(q->file, &o->r);
	return SENT;
}

static uint8_t *take_copy(struct qcow2_cycle *c)
{
	return c->copies && c->idle_count ? c->copy[--c->copies] : NULL;
}

static enum sent send_slice(struct qcow2 *q, struct qcow2_cache *cache)
{
	struct qcow2_cycle *c = &q->cycle;
	struct qcow2_slice *s;
	uint8_t *copy;

	if (!c->begun)
		c->slice = cache->cycle.next;
	c->begun = true;
	if (c->slice == &cache->cycle)
		return NO_MORE;
	s = container_of(c->slice, struct qcow2_slice, changed);
	copy = s->copy;
	if (!copy) {
		copy = take_copy(c);
		if (!copy)
			return NO_ROOM;
		memcpy(copy, s->data, q->slice);
	} else if (!c->idle_count) {
		return NO_ROOM;
	}
	s->copy = NULL;
	s->sent = true;
	c->slice = c->slice->next;
	return send(q, s->at, copy, q->slice);
}

static enum sent send_refs(struct qcow2 *q)
{
	return send_slice(q, &q->refs_cache);
}

static enum sent send_l2(struct qcow2 *q)
{
	return send_slice(q, &q->l2_cache);
}

static enum sent send_chunk(struct qcow2 *q, struct qcow2_table *t)
{
	struct qcow2_cycle *c = &q->cycle;
	uint32_t each = QCOW2_SLICE / 8, first;
	uint8_t *copy;

	if (!c->begun)
		c->chunk = 0;
	c->begun = true;
	while (t->dirty_count && c->chunk * each < t->count &&
		!(t->dirty[c->chunk / 64] >> c->chunk % 64 & 1))
		c->chunk++;
	first = c->chunk * each;
	if (!t->dirty_count || first >= t->count)
		return NO_MORE;
	copy = take_copy(c);
	if (!copy)
		return NO_ROOM;
	memset(copy, 0, QCOW2_SLICE);
	for (uint32_t i = 0; i < each && first + i < t->count; i++)
		put_be64(copy + 8 * i, t->entries[first + i]);
	c->chunk++;
	return send(q, t->at + first * 8ull, copy,
		MIN(QCOW2_SLICE, align_up((t->count - first) * 8ull, BLK_SECTOR)));
}

static enum sent send_refs_table(struct qcow2 *q)
{
	return send_chunk(q, &q->refs);
}

static enum sent send_l1(struct qcow2 *q)
{
	return send_chunk(q, &q->l1);
}

static enum sent send_header(struct qcow2 *q)
{
	uint8_t *copy;

	if (q->cycle.begun || !q->header_dirty)
		return NO_MORE;
	copy = take_copy(&q->cycle);
	if (!copy)
		return NO_ROOM;
	q->cycle.begun = true;
	memcpy(copy, q->header, BLK_SECTOR);
	return send(q, 0, copy, BLK_SECTOR);
}

static void flush_done(struct blk_request *r, int rc)
{
	struct qcow2 *q = container_of(r, struct qcow2, cycle.flush);

	q->cycle.rc = q->cycle.rc ? q->cycle.rc : rc;
	q->cycle.inflight--;
	advance(q);
}

static enum sent flush_if(struct qcow2 *q, bool needed)
{
	struct qcow2_cycle *c = &q->cycle;

	if (c->begun || !needed)
		return NO_MORE;
	c->begun = true;
	c->inflight++;
	c->flush = (struct blk_request){.op = BLK_FLUSH, .done = flush_done};
	blk_submit(q->file, &c->flush);
	return SENT;
}

static enum sent flush_blocks(struct qcow2 *q)
{
	return flush_if(q, q->refs.dirty_count);
}

static enum sent flush_refs_table(struct qcow2 *q)
{
	return flush_if(q, q->header_dirty);
}

static enum sent flush_counts(struct qcow2 *q)
{
	return flush_if(q, true);
}

static enum sent flush_l2(struct qcow2 *q)
{
	return flush_if(q, q->l1.dirty_count);
}

static enum sent flush_all(struct qcow2 *q)
{
	return flush_if(q, q->cycle.changes);
}

static enum sent (*const phases[])(struct qcow2 *q) = {
	send_refs,
	flush_blocks,
	send_refs_table,
	flush_refs_table,
	send_header,
	flush_counts,
	send_l2,
	flush_l2,
	send_l1,
	flush_all,
};

/* ---- beginning and end ---- */

static void begin_cache(struct qcow2_cache *c)
{
	struct list *node;

	while ((node = list_take(&c->dirty))) {
		struct qcow2_slice *s = container_of(node, struct qcow2_slice, changed);

		s->dirty = s->sent = false;
		s->cycle = true;
		list_append(&c->cycle, node);
	}
	c->dirty_count = 0;
}

static void end_cache(struct qcow2_cache *c, int rc)
{
	struct list *node;

	while ((node = list_take(&c->cycle))) {
		struct qcow2_slice *s = container_of(node, struct qcow2_slice, changed);

		if (s->copy)
			c->q->cycle.copy[c->q->cycle.copies++] = s->copy;
		s->copy = NULL;
		s->cycle = false;
		if (rc && !s->dirty) {
			s->dirty = true;
			c->dirty_count++;
		}
		if (s->dirty)
			list_append(&c->dirty, node);
	}
}

static void clean_table(struct qcow2_table *t)
{
	for (uint32_t i = 0; t->dirty_count && i * (QCOW2_SLICE / 8) * 64ull < t->count; i++)
		t->dirty[i] = 0;
	t->dirty_count = 0;
}

static void begin(struct qcow2 *q)
{
	struct qcow2_cycle *c = &q->cycle;

	c->running = true;
	c->rc = 0;
	c->phase = 0;
	c->begun = false;
	c->now = c->next;
	c->next.first = NULL;
	c->frees = q->free_tail;
	if (!q->inflight[!q->epoch]) {
		q->epoch = !q->epoch;
		q->free_guarded = q->free_tail;
	}
	begin_cache(&q->refs_cache);
	begin_cache(&q->l2_cache);
	c->changes = !list_empty(&q->l2_cache.cycle) || q->l1.dirty_count;
	advance(q);
}

static void end(struct qcow2 *q)
{
	struct qcow2_cycle *c = &q->cycle;
	struct qcow2_line now = c->now; /* who is woken may begin another */
	int rc = c->rc;

	if (rc) {
		qcow2_log(q, "its tables could not be written: %s", strerror(-rc));
	} else {
		clean_table(&q->refs);
		clean_table(&q->l1);
		q->header_dirty = false;
		q->free_durable = c->frees;
	}
	end_cache(&q->refs_cache, rc);
	end_cache(&q->l2_cache, rc);
	c->running = false;
	qcow2_line_wake(&c->ended, 0);
	qcow2_line_wake(&c->copied, 0);
	qcow2_line_wake(&q->refs_cache.full, rc);
	qcow2_line_wake(&q->l2_cache.full, rc);
	if (rc)
		qcow2_line_wake(&q->free_room, rc);
	qcow2_line_wake(&now, rc);
	qcow2_release(q);
	if (c->next.first)
		qcow2_cycle_start(q);
}

/* Goes on as far as that can be now. */
static void advance(struct qcow2 *q)
{
	struct qcow2_cycle *c = &q->cycle;

	if (c->advancing)
		return;
	c->advancing = true;
	while (c->phase < ARRAY_SIZE(phases)) {
		enum sent sent = c->rc ? NO_MORE : phases[c->phase](q);

		if (sent == SENT)
			continue;
		if (c->inflight)
			break;
		c->phase = c->rc ? ARRAY_SIZE(phases) : c->phase + 1;
		c->begun = false;
	}
	c->advancing = false;
	if (c->phase == ARRAY_SIZE(phases) && !c->inflight)
		end(q);
}

void qcow2_cycle_start(struct qcow2 *q)
{
	if (!q->cycle.running)
		begin(q);
}

void qcow2_flush(struct qcow2 *q, struct qcow2_waiter *w)
{
	qcow2_line_add(&q->cycle.next, w);
	qcow2_cycle_start(q);
}

bool qcow2_is_dirty(const struct qcow2 *q)
{
	return !list_empty(&q->refs_cache.dirty) || !list_empty(&q->l2_cache.dirty) ||
	       q->refs.dirty_count || q->l1.dirty_count || q->header_dirty || q->cycle.running;
}

int qcow2_cycle_init(struct qcow2 *q)
{
	struct qcow2_cycle *c = &q->cycle;
	void *p = mmap(NULL, QCOW2_COPIES * QCOW2_SLICE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	c->memory = p;
	for (unsigned i = 0; i < QCOW2_COPIES; i++) {
		c->idle[i] = &c->out[i];
		c->copy[i] = c->memory + (size_t)i * QCOW2_SLICE;
	}
	c->idle_count = c->copies = QCOW2_COPIES;
	return 0;
}
