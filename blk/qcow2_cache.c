// SPDX-License-Identifier: MIT
// L2 tables and refcount blocks in memory: slices of them, as many as there is room for.
//
// A slice that was changed is not written until a cycle writes it (blk/qcow2_flush.c), and stays
// until then: where all are changed, a cycle is begun and waited for. A cycle writes what a slice
// was when it began; who changes one in between leaves a copy for it.
#include "blk/qcow2_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Copies that the cycle has for itself, so that it always goes on. */
#define COPIES_KEPT 4u
#define HASH 0x9e3779b97f4a7c15ull

void qcow2_line_add(struct qcow2_line *l, struct qcow2_waiter *w)
{
	w->next = NULL;
	if (l->first)
		l->last->next = w;
	else
		l->first = w;
	l->last = w;
}

void qcow2_line_wake(struct qcow2_line *l, int rc)
{
	struct qcow2_waiter *w = l->first;

	l->first = NULL;
	while (w) {
		struct qcow2_waiter *next = w->next;

		w->go(w, rc);
		w = next;
	}
}

static struct qcow2_slice **bucket_of(const struct qcow2_cache *c, uint64_t at)
{
	return &c->bucket[(at >> 9) * HASH >> 32 & (c->buckets - 1)];
}

struct qcow2_slice *qcow2_slice_find(const struct qcow2_cache *c, uint64_t at)
{
	struct qcow2_slice *s = *bucket_of(c, at);

	while (s && s->at != at)
		s = s->chain;
	return s;
}

static void unlink_slice(struct qcow2_slice *s)
{
	struct qcow2_slice **p = bucket_of(s->cache, s->at);

	while (*p != s)
		p = &(*p)->chain;
	*p = s->chain;
	s->linked = s->valid = false;
}

static void link_slice(struct qcow2_slice *s, uint64_t at)
{
	struct qcow2_slice **p = bucket_of(s->cache, at);

	s->at = at;
	s->chain = *p;
	*p = s;
	s->linked = s->used = true;
}

static bool may_go(const struct qcow2_slice *s)
{
	return !s->linked || (s->valid && !s->dirty && !s->cycle);
}

/* One that is not in use; of those that are, one that was not lately. */
static struct qcow2_slice *take(struct qcow2_cache *c)
{
	for (unsigned n = 0; n < 2 * c->count && c->fresh == c->count; n++) {
		struct qcow2_slice *s = &c->slice[c->hand];

		c->hand = c->hand + 1 == c->count ? 0 : c->hand + 1;
		if (!may_go(s))
			continue;
		if (s->linked && s->used) {
			s->used = false;
			continue;
		}
		if (s->linked)
			unlink_slice(s);
		return s;
	}
	if (c->fresh < c->count) {
		struct qcow2_slice *s = &c->slice[c->fresh];

		s->data = c->memory + (size_t)c->fresh++ * c->q->slice;
		s->cache = c;
		list_init(&s->changed);
		return s;
	}
	return NULL;
}

static int wait_for_room(struct qcow2_cache *c, struct qcow2_waiter *w)
{
	qcow2_line_add(&c->full, w);
	if (c->dirty_count)
		qcow2_cycle_start(c->q);
	return QCOW2_WAIT;
}

static void read_done(struct blk_request *r, int rc)
{
	struct qcow2_slice *s = container_of(r, struct qcow2_slice, r);
	struct qcow2_cache *c = s->cache;

	s->valid = !rc;
	if (rc) {
		qcow2_log(c->q, "%s at byte %llu: %s", c->what, (unsigned long long)s->at,
			strerror(-rc));
		unlink_slice(s);
	}
	qcow2_line_wake(&s->waiting, rc);
	qcow2_line_wake(&c->full, 0);
}

static void start_read(struct qcow2_slice *s)
{
	struct qcow2 *q = s->cache->q;

	s->iov = (struct iovec){s->data, q->slice};
	s->r = (struct blk_request){.op = BLK_READ,
		.off = s->at,
		.len = q->slice,
		.iov = &s->iov,
		.iovcnt = 1,
		.done = read_done};
	blk_submit(q->file, &s->r);
}

int qcow2_slice_get(
	struct qcow2_cache *c, uint64_t at, struct qcow2_waiter *w, struct qcow2_slice **out)
{
	struct qcow2_slice *s = qcow2_slice_find(c, at);

	if (!w && (!s || !s->valid))
		return QCOW2_WAIT;
	if (!s) {
		s = take(c);
		if (!s)
			return wait_for_room(c, w);
		link_slice(s, at);
		start_read(s);
		if (!s->linked)
			return -EIO;
	}
	if (!s->valid) {
		qcow2_line_add(&s->waiting, w);
		return QCOW2_WAIT;
	}
	s->used = true;
	*out = s;
	return 0;
}

int qcow2_slice_zero(
	struct qcow2_cache *c, uint64_t at, struct qcow2_waiter *w, struct qcow2_slice **out)
{
	struct qcow2_slice *s = qcow2_slice_find(c, at);

	if (s)
		return qcow2_slice_get(c, at, w, out);
	s = take(c);
	if (!s)
		return wait_for_room(c, w);
	link_slice(s, at);
	memset(s->data, 0, c->q->slice);
	s->valid = true;
	*out = s;
	return 0;
}

int qcow2_slice_keep(struct qcow2_slice *s, struct qcow2_waiter *w)
{
	struct qcow2 *q = s->cache->q;

	if (!s->cycle || s->sent || s->copy)
		return 0;
	if (q->cycle.copies <= COPIES_KEPT) {
		qcow2_line_add(&q->cycle.copied, w);
		return QCOW2_WAIT;
	}
	s->copy = q->cycle.copy[--q->cycle.copies];
	memcpy(s->copy, s->data, q->slice);
	return 0;
}

void qcow2_slice_dirty(struct qcow2_slice *s)
{
	struct qcow2_cache *c = s->cache;

	if (s->dirty)
		return;
	s->dirty = true;
	c->dirty_count++;
	if (!s->cycle)
		list_append(&c->dirty, &s->changed);
	/* Before there is nothing but to wait for it. */
	if (c->dirty_count > c->count / 4 * 3)
		qcow2_cycle_start(c->q);
}

void qcow2_cache_forget(struct qcow2_cache *c, uint64_t at, uint64_t len)
{
	for (uint64_t end = at + len; at < end; at += c->q->slice) {
		struct qcow2_slice *s = qcow2_slice_find(c, at);

		if (s && may_go(s))
			unlink_slice(s);
	}
}

void qcow2_table_set(struct qcow2_table *t, uint32_t index, uint64_t entry)
{
	uint32_t chunk = index / (QCOW2_SLICE / 8);
	uint64_t bit = 1ull << chunk % 64;

	t->entries[index] = entry;
	if (!(t->dirty[chunk / 64] & bit))
		t->dirty_count++;
	t->dirty[chunk / 64] |= bit;
}

static void *map_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int qcow2_cache_init(struct qcow2_cache *c, struct qcow2 *q, const char *what, uint64_t bytes)
{
	c->q = q;
	c->what = what;
	c->count = (unsigned)(bytes / q->slice);
	for (c->buckets = 1; c->buckets < c->count; c->buckets *= 2)
		;
	list_init(&c->dirty);
	list_init(&c->cycle);
	c->slice = calloc(c->count, sizeof(*c->slice));
	c->bucket = calloc(c->buckets, sizeof(struct qcow2_slice *));
	c->memory = map_memory((size_t)c->count * q->slice);
	return c->slice && c->bucket && c->memory ? 0 : -ENOMEM;
}

void qcow2_cache_finish(struct qcow2_cache *c)
{
	free(c->slice);
	free(c->bucket);
	if (c->memory)
		munmap(c->memory, (size_t)c->count * c->q->slice);
}
