// SPDX-License-Identifier: MIT
// An image becomes a disk, and ends as one.
#include "blk/qcow2_parts.h"

#include "base/loop.h"
#include "blk/now.h"
#include "blk/raw.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define L2_CACHE_MAX MIB(16)
#define CACHE_MIN KIB(128)
#define BOUNCE_BYTES MIB(4)

void qcow2_log(struct qcow2 *q, const char *fmt, ...)
{
	uint64_t now = now_ns();
	char text[256];
	va_list args;

	if (now < q->log_again_ns)
		return;
	q->log_again_ns = now + NSEC_PER_SEC;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_error("disk %s: qcow2: %s", q->blk.name, text);
}

/* ---- parts ---- */

static void *map_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int qcow2_table_init(struct qcow2_table *t, uint32_t count, size_t room)
{
	*t = (struct qcow2_table){.count = count, .mapped = align_up(MAX(room, 1), 4096)};
	t->entries = map_memory(t->mapped);
	t->dirty = calloc(t->mapped / QCOW2_SLICE / 64 + 1, sizeof(*t->dirty));
	if (t->entries && t->dirty)
		return 0;
	qcow2_table_finish(t);
	return -ENOMEM;
}

void qcow2_table_finish(struct qcow2_table *t)
{
	if (t->entries)
		munmap(t->entries, t->mapped);
	free(t->dirty);
	t->entries = t->dirty = NULL;
}

/* What the file, of `size` bytes, has of the table; the rest is zeroes. */
static int read_table(struct qcow2 *q, struct qcow2_table *t, uint64_t at, uint64_t size)
{
	uint64_t len = MIN(t->count * 8ull, size > at ? size - at : 0);
	int rc = 0;

	t->at = at;
	if (len)
		rc = blk_read_now(q->file, at, t->entries, align_up(len, BLK_SECTOR));
	for (uint32_t i = 0; i < (len + 7) / 8; i++)
		t->entries[i] = be64toh(t->entries[i]);
	return rc ? failno(-rc, "disk %s: qcow2: the table at byte %llu", q->blk.name,
			    (unsigned long long)at)
		  : 0;
}

static int read_tables(struct qcow2 *q)
{
	int64_t size = raw_file_size(q->file);
	int rc = (int)MIN(size, 0);

	rc = rc ? rc : read_table(q, &q->l1, q->h.l1, (uint64_t)size);
	return rc ? rc : read_table(q, &q->refs, q->h.refs, (uint64_t)size);
}

static int make_tables(struct qcow2 *q)
{
	int rc = qcow2_table_init(&q->l1, q->h.l1_entries, q->h.l1_entries * 8ull);

	return rc ? rc
		  : qcow2_table_init(&q->refs, (uint32_t)(q->h.refs_clusters * q->cluster / 8),
			    QCOW2_REFS_BYTES_MAX);
}

static int make_bounces(struct qcow2 *q)
{
	size_t each = 2 * q->cluster;
	unsigned n = (unsigned)MIN(MAX(BOUNCE_BYTES / each, 2), QCOW2_BOUNCES_MAX);

	q->bounces = map_memory(n * each);
	if (!q->bounces)
		return -ENOMEM;
	q->bounce_count = q->bounce_idle = n;
	for (unsigned i = 0; i < n; i++)
		q->bounce[i] = q->bounces + i * each;
	return 0;
}

void qcow2_bounce_give(struct qcow2 *q, uint8_t *bounce)
{
	struct qcow2_waiter *w = q->bounced.first;

	q->bounce[q->bounce_idle++] = bounce;
	if (!w)
		return;
	q->bounced.first = w->next;
	w->go(w, 0);
}

/* As much as there are tables, within bounds. */
static int make_caches(struct qcow2 *q, uint64_t bytes)
{
	uint64_t tables = (q->blk.size >> q->cluster_bits) * 8;
	int rc;

	if (!bytes)
		bytes = MIN(tables, L2_CACHE_MAX);
	bytes = MAX(bytes, CACHE_MIN);
	rc = qcow2_cache_init(&q->l2_cache, q, "the L2 table", bytes);
	return rc ? rc
		  : qcow2_cache_init(
			    &q->refs_cache, q, "the refcount block", MAX(bytes / 8, CACHE_MIN));
}

static int make_parts(struct qcow2 *q, const struct qcow2_config *c)
{
	int rc = make_caches(q, c->cache_bytes);

	rc = rc ? rc : make_tables(q);
	rc = rc ? rc : make_bounces(q);
	rc = rc ? rc : qcow2_cycle_init(q);
	/* Of these, pages are not touched until they are used. */
	q->splits = map_memory(QCOW2_SPLITS * sizeof(*q->splits));
	q->inner = map_memory(QCOW2_INNER * sizeof(*q->inner));
	q->passes = calloc(QCOW2_PASSES, sizeof(*q->passes));
	q->header = aligned_alloc(4096, 4096);
	for (unsigned i = 0; q->passes && i < QCOW2_PASSES; i++) {
		q->passes[i].q = q;
		q->passes[i].next = q->pass_idle;
		q->pass_idle = &q->passes[i];
	}
	if (rc || !q->passes || !q->splits || !q->inner || !q->header)
		return fail(ENOMEM, "disk %s: no memory", q->blk.name);
	q->fresh = QCOW2_SPLITS;
	q->inner_fresh = QCOW2_INNER;
	list_init(&q->changing);
	return 0;
}

static void release_parts(struct qcow2 *q)
{
	qcow2_table_finish(&q->l1);
	qcow2_table_finish(&q->refs);
	qcow2_cache_finish(&q->l2_cache);
	qcow2_cache_finish(&q->refs_cache);
	if (q->bounces)
		munmap(q->bounces, q->bounce_count * 2 * q->cluster);
	if (q->cycle.memory)
		munmap(q->cycle.memory, QCOW2_COPIES * QCOW2_SLICE);
	if (q->splits)
		munmap(q->splits, QCOW2_SPLITS * sizeof(*q->splits));
	if (q->inner)
		munmap(q->inner, QCOW2_INNER * sizeof(*q->inner));
	free(q->passes);
	free(q->header);
	free(q);
}

/* ---- as a disk ---- */

static bool is_busy(const struct qcow2 *q)
{
	return q->busy || q->cycle.running || q->releasing || q->make.busy || q->zero.busy;
}

int qcow2_drain_op(struct blk *b)
{
	struct qcow2 *q = qcow2_of(b);
	int rc;

	do {
		rc = blk_drain(q->file);
		if (!rc && q->backing)
			rc = blk_drain(q->backing);
		if (!rc && q->decompressor)
			rc = q->decompressor->drain(q->decompressor);
	} while (!rc && is_busy(q));
	return rc;
}

/* Its size is in the header, and nobody else changes that. */
int64_t qcow2_measure_op(struct blk *b)
{
	return (int64_t)b->size;
}

/* What is freed in one cycle is counted no more in the next. */
static void write_all(struct qcow2 *q)
{
	int rc = 0;

	for (unsigned i = 0; i < 4 && !rc; i++)
		if (qcow2_is_dirty(q) || q->free_head != q->free_tail)
			rc = blk_flush_now(&q->blk);
	if (rc)
		log_error("disk %s: qcow2: what was not flushed is lost: %s", q->blk.name,
			strerror(-rc));
}

void qcow2_destroy_op(struct blk *b)
{
	struct qcow2 *q = qcow2_of(b);

	write_all(q);
	blk_destroy(q->file);
	blk_destroy(q->backing);
	release_parts(q);
}

struct now {
	struct qcow2_waiter w;
	bool woken;
	int rc;
};

static void woken(struct qcow2_waiter *w, int rc)
{
	struct now *n = container_of(w, struct now, w);

	n->woken = true;
	n->rc = rc;
}

int qcow2_wait_for(
	struct qcow2 *q, int (*try)(struct qcow2 *q, void *arg, struct qcow2_waiter *w), void *arg)
{
	struct now n = {.w.go = woken};
	int rc;

	for (;;) {
		n.woken = false;
		rc = try(q, arg, &n.w);
		if (rc != QCOW2_WAIT)
			return rc;
		while (!n.woken) {
			blk_commit(&q->blk);
			rc = blk_drain(&q->blk);
			if (rc)
				return rc;
		}
		if (n.rc)
			return n.rc;
	}
}

/* ---- opening ---- */

static int check_header(const struct qcow2 *q, bool read_only)
{
	const struct qcow2_info *i = &q->h.info;

	if (i->extended_l2)
		return fail(ENOTSUP,
			"disk %s: qcow2: has extended L2 entries (subclusters), which are not "
			"supported; convert it with extended_l2=off",
			q->blk.name);
	if (i->corrupt && !read_only)
		return fail(EIO,
			"disk %s: qcow2: is marked corrupt: repair it with `kvick image check "
			"--repair`, or open it read-only",
			q->blk.name);
	if (i->dirty && !read_only)
		return fail(EIO,
			"disk %s: qcow2: was not closed by who wrote to it last: repair it with "
			"`kvick image check --repair`",
			q->blk.name);
	if (!q->backing != !i->backing[0])
		return fail(EINVAL, "disk %s: qcow2: %s", q->blk.name,
			q->backing ? "has no backing file"
				   : "its backing file has not been opened");
	return 0;
}

/* Others look at what we do not know of as at something that is right. */
static int clear_unknown(struct qcow2 *q)
{
	int rc = blk_read_now(q->file, 0, q->header, BLK_SECTOR);

	if (!rc && q->h.autoclear && !q->blk.read_only) {
		put_be64(q->header + QCOW2_AT_AUTOCLEAR, 0);
		rc = blk_write_now(q->file, 0, q->header, BLK_SECTOR);
		rc = rc ? rc : blk_flush_now(q->file);
	}
	return rc ? failno(-rc, "disk %s: qcow2 header", q->blk.name) : 0;
}

/* The file ends where what is in use does; a device may have anything after it. */
static int find_tail(struct qcow2 *q)
{
	int64_t size = raw_file_size(q->file);
	uint64_t last = q->refs.count, counted = q->cluster * 8 >> q->h.refcount_order;

	if (size < 0)
		return (int)size;
	q->limit = MIN(q->file->size, QCOW2_HOST_MAX) >> q->cluster_bits;
	q->tail = ((uint64_t)size + q->cluster - 1) >> q->cluster_bits;
	q->zeroes = q->tail;
	if (q->file->size != RAW_SIZE_MAX) {
		q->zeroes = UINT64_MAX;
		while (last && !q->refs.entries[last - 1])
			last--;
		q->tail = MIN(q->limit, last * counted);
	}
	q->sweep_end = q->tail;
	return 0;
}

static void describe(struct qcow2 *q, bool read_only)
{
	struct blk *b = &q->blk;

	b->size = align_down(q->h.info.size, BLK_SECTOR);
	b->physical_block = (uint32_t)MIN(q->file->physical_block, q->cluster);
	b->optimal_io = (uint32_t)q->cluster;
	b->discard_align = read_only ? 0 : (uint32_t)q->cluster;
	b->read_only = read_only;
	b->can_zero = !read_only;
}

static int init(struct qcow2 *q, const struct qcow2_config *c)
{
	int rc = qcow2_read_header(&q->h, q->file);

	if (rc)
		return rc;
	q->cluster_bits = q->h.info.cluster_bits;
	q->cluster = 1ull << q->cluster_bits;
	q->slice = (uint32_t)MIN(q->cluster, QCOW2_SLICE);
	q->l2_bits = q->cluster_bits - 3;
	q->slice_bits = (unsigned)__builtin_ctz(q->slice) - 3;
	q->decompressor = c->decompressor;
	rc = check_header(q, c->read_only);
	if (rc)
		return rc;
	describe(q, c->read_only);
	rc = make_parts(q, c);
	rc = rc ? rc : read_tables(q);
	rc = rc ? rc : clear_unknown(q);
	return rc ? rc : find_tail(q);
}

int qcow2_open(
	struct blk **out, struct blk *file, struct blk *backing, const struct qcow2_config *c)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return fail(ENOMEM, "disk %s: no memory", file->name);
	q->blk.name = file->name;
	q->blk.ops = &qcow2_ops;
	q->file = file;
	q->backing = backing;
	rc = init(q, c);
	if (rc)
		release_parts(q);
	else
		*out = &q->blk;
	return rc;
}

struct blk *qcow2_file(struct blk *b)
{
	return b->ops == &qcow2_ops ? qcow2_of(b)->file : NULL;
}

struct blk *qcow2_backing(struct blk *b)
{
	return b->ops == &qcow2_ops ? qcow2_of(b)->backing : NULL;
}

void qcow2_stand_on(struct blk *b, struct blk *backing)
{
	qcow2_of(b)->backing = backing;
}
