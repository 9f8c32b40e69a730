// SPDX-License-Identifier: MIT
// Where the clusters of the disk are, and L2 tables that are made or copied so that they may be
// changed.
//
// What the tables say may be anything: an entry is checked each time that it is used, and one that
// cannot be fails the request and nothing else.
#include "blk/qcow2_parts.h"

#include <errno.h>

int qcow2_broken(struct qcow2 *q, const char *what, uint64_t entry, uint64_t off)
{
	qcow2_log(q, "%s 0x%llx, for byte %llu of the disk, cannot be: the image is damaged", what,
		(unsigned long long)entry, (unsigned long long)off);
	return -EIO;
}

/* The bytes of a table that nobody may have as data. */
static bool within(const struct qcow2_table *t, uint64_t host, uint64_t len)
{
	return host < t->at + t->count * 8ull && host + len > t->at;
}

/* A whole cluster of the file, which is not the header's or one of the large tables'. */
bool qcow2_host_ok(const struct qcow2 *q, uint64_t host)
{
	return !(host & (q->cluster - 1)) && host && host >> q->cluster_bits < q->tail &&
	       !within(&q->l1, host, q->cluster) && !within(&q->refs, host, q->cluster);
}

static int decode_packed(struct qcow2 *q, uint64_t entry, struct qcow2_map *out)
{
	unsigned bits = 62 - (q->cluster_bits - 8);
	uint64_t at = entry & ((1ull << bits) - 1);

	out->kind = QCOW2_PACKED;
	out->host = at;
	return at >> q->cluster_bits && at >> q->cluster_bits < q->tail ? 0 : -EIO;
}

static int decode(struct qcow2 *q, uint64_t entry, struct qcow2_map *out)
{
	uint64_t reserved = QCOW2_L2_RESERVED | (q->h.info.version == 2 ? QCOW2_ZERO : 0);

	out->entry = entry;
	out->copied = entry & QCOW2_COPIED;
	out->host = entry & QCOW2_OFFSET_MASK;
	if (!(entry & ~QCOW2_ZERO)) {
		out->kind = entry ? QCOW2_ZEROES : QCOW2_ABSENT;
		return entry & reserved ? -EIO : 0;
	}
	if (entry & QCOW2_COMPRESSED)
		return entry & QCOW2_COPIED ? -EIO : decode_packed(q, entry, out);
	out->kind = entry & QCOW2_ZERO ? QCOW2_PLACED : QCOW2_DATA;
	return (entry & reserved) || !qcow2_host_ok(q, out->host) ? -EIO : 0;
}

int qcow2_decode(struct qcow2 *q, uint64_t entry, uint64_t cluster, struct qcow2_map *out)
{
	if (decode(q, entry, out))
		return qcow2_broken(q, "L2 entry", entry, cluster << q->cluster_bits);
	return 0;
}

/* Whether the cluster of the next entry goes on where this one ended. */
static bool goes_on(const struct qcow2_map *m, uint64_t first, uint64_t entry, uint64_t distance)
{
	switch (m->kind) {
	case QCOW2_ABSENT:
	case QCOW2_ZEROES:
		return entry == first;
	case QCOW2_DATA:
	case QCOW2_PLACED:
		return entry == first + distance;
	case QCOW2_PACKED:
		break;
	}
	return false;
}

/* All entries of a run are as sound as the first, but that they may be those of tables. */
static uint64_t run_length(struct qcow2 *q, const struct qcow2_slice *s, unsigned index,
	uint64_t clusters, const struct qcow2_map *m)
{
	uint64_t n = 1, most = MIN(clusters, (1ull << q->slice_bits) - index);
	bool placed = m->kind == QCOW2_DATA || m->kind == QCOW2_PLACED;

	while (n < most &&
		goes_on(m, m->entry, get_be64(s->data + 8 * (index + n)), n << q->cluster_bits)) {
		if (placed && !qcow2_host_ok(q, m->host + (n << q->cluster_bits)))
			break;
		n++;
	}
	return n;
}

/* The table of that L1 entry: bytes, 0: none; or -EIO. */
static int table_at(struct qcow2 *q, uint64_t cluster, uint64_t *at)
{
	uint64_t entry = q->l1.entries[cluster >> q->l2_bits];

	*at = entry & QCOW2_OFFSET_MASK;
	if (!entry)
		return 0;
	if ((entry & QCOW2_L1_RESERVED) || !qcow2_host_ok(q, *at))
		return qcow2_broken(q, "L1 entry", entry, cluster << q->cluster_bits);
	return 0;
}

/* The byte of the file where the slice with the cluster's entry begins. */
static uint64_t slice_at(const struct qcow2 *q, uint64_t table, uint64_t cluster)
{
	uint64_t index = cluster & ((1ull << q->l2_bits) - 1);

	return table + (index >> q->slice_bits << (q->slice_bits + 3));
}

static unsigned index_in(const struct qcow2 *q, uint64_t cluster)
{
	return (unsigned)(cluster & ((1ull << q->slice_bits) - 1));
}

int qcow2_lookup(
	struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_waiter *w, struct qcow2_map *out)
{
	uint64_t cluster = off >> q->cluster_bits, within_it = off & (q->cluster - 1), table;
	uint64_t clusters = (within_it + len + q->cluster - 1) >> q->cluster_bits, n;
	struct qcow2_slice *s;
	int rc = table_at(q, cluster, &table);

	if (rc)
		return rc;
	if (!table) {
		n = (1ull << q->l2_bits) - (cluster & ((1ull << q->l2_bits) - 1));
		*out = (struct qcow2_map){.kind = QCOW2_ABSENT};
		out->len = MIN(len, (n << q->cluster_bits) - within_it);
		return 0;
	}
	rc = qcow2_slice_get(&q->l2_cache, slice_at(q, table, cluster), w, &s);
	if (rc)
		return rc;
	rc = qcow2_decode(q, get_be64(s->data + 8 * index_in(q, cluster)), cluster, out);
	if (rc)
		return rc;
	n = run_length(q, s, index_in(q, cluster), clusters, out);
	out->len = MIN(len, (n << q->cluster_bits) - within_it);
	out->lasts = !s->dirty && !s->cycle && !q->l1.dirty_count;
	if (out->kind == QCOW2_DATA)
		out->host += within_it;
	return 0;
}

int qcow2_entry(struct qcow2 *q, uint64_t cluster, struct qcow2_waiter *w, struct qcow2_slice **out,
	unsigned *index)
{
	uint64_t table;
	int rc = table_at(q, cluster, &table);

	if (rc)
		return rc;
	if (!table || !(q->l1.entries[cluster >> q->l2_bits] & QCOW2_COPIED))
		return -ENOENT;
	*index = index_in(q, cluster);
	rc = qcow2_slice_get(&q->l2_cache, slice_at(q, table, cluster), w, out);
	return rc ? rc : qcow2_slice_keep(*out, w);
}

/* ---- tables that are made ---- */

static void make_end(struct qcow2 *q, int rc)
{
	if (q->make.bounce)
		qcow2_bounce_give(q, q->make.bounce);
	q->make.bounce = NULL;
	q->make.rc = rc;
	q->make.busy = false;
	qcow2_line_wake(&q->make.waiting, rc);
}

static void make_failed(struct qcow2 *q, int rc)
{
	qcow2_unalloc(q, &q->make.place);
	make_end(q, rc);
}

/* The table is in the file as it is to be. The L1 table does not change while it is written. */
static void make_install(struct qcow2_waiter *w, int rc)
{
	struct qcow2 *q = container_of(w, struct qcow2, make.w);
	uint64_t at = q->make.place.first << q->cluster_bits;
	struct qcow2_slice *s = NULL;

	if (!rc && q->cycle.running) {
		qcow2_line_add(&q->cycle.ended, w);
		return;
	}
	if (!rc && q->make.old && !qcow2_may_free(q, 1, w))
		return;
	qcow2_cache_forget(&q->l2_cache, at, q->cluster);
	if (!rc && !q->make.old)
		rc = qcow2_slice_zero(&q->l2_cache, at, w, &s);
	if (rc < 0)
		make_failed(q, rc);
	if (rc)
		return;
	qcow2_table_set(&q->l1, q->make.index, at | QCOW2_COPIED);
	if (q->make.old)
		qcow2_free_later(q, q->make.old >> q->cluster_bits, 1);
	/* Written even if nothing comes into it: no table is past the file's end. */
	if (s)
		qcow2_slice_dirty(s);
	make_end(q, 0);
}

static void make_written(struct blk_request *r, int rc)
{
	struct qcow2 *q = container_of(r, struct qcow2, make.r);

	q->make.w.go = make_install;
	make_install(&q->make.w, rc);
}

static void make_send(
	struct qcow2 *q, enum blk_op op, uint64_t at, void (*done)(struct blk_request *r, int rc))
{
	q->make.iov = (struct iovec){q->make.bounce, q->cluster};
	q->make.r = (struct blk_request){.op = op,
		.off = at,
		.len = q->cluster,
		.iov = &q->make.iov,
		.iovcnt = op == BLK_WRITE_ZEROES ? 0 : 1,
		.done = done};
	blk_submit(q->file, &q->make.r);
}

static void make_read(struct blk_request *r, int rc)
{
	struct qcow2 *q = container_of(r, struct qcow2, make.r);

	if (rc)
		make_failed(q, rc);
	else
		make_send(q, BLK_WRITE, q->make.place.first << q->cluster_bits, make_written);
}

/* There is a place for it: with what is to be in it. */
static void make_fill(struct qcow2_waiter *w, int rc)
{
	struct qcow2 *q = container_of(w, struct qcow2, make.w);

	if (!q->make.old && q->make.place.zeroes) {
		w->go = make_install;
		make_install(w, 0);
		return;
	}
	if (q->make.old && !q->make.bounce) {
		q->make.bounce = qcow2_bounce_take(q, w);
		if (!q->make.bounce)
			return;
	}
	if (q->make.old)
		make_send(q, BLK_READ, q->make.old, make_read);
	else
		make_send(
			q, BLK_WRITE_ZEROES, q->make.place.first << q->cluster_bits, make_written);
}

static void make_start(struct qcow2_waiter *w, int rc)
{
	struct qcow2 *q = container_of(w, struct qcow2, make.w);

	rc = rc ? rc : qcow2_alloc(q, 1, w, &q->make.place);
	if (rc < 0)
		make_end(q, rc);
	if (rc)
		return;
	w->go = make_fill;
	make_fill(w, 0);
}

int qcow2_table_make(struct qcow2 *q, uint64_t cluster, struct qcow2_waiter *w)
{
	uint64_t table;
	int rc = table_at(q, cluster, &table);

	if (rc)
		return rc;
	if (!q->make.busy) {
		q->make.busy = true;
		q->make.index = (uint32_t)(cluster >> q->l2_bits);
		q->make.old = table;
		q->make.w.go = make_start;
		make_start(&q->make.w, 0);
		if (!q->make.busy)
			return q->make.rc;
	}
	qcow2_line_add(&q->make.waiting, w);
	return QCOW2_WAIT;
}
