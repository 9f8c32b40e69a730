// SPDX-License-Identifier: MIT
// What tools do with an open image: they ask what is where, change its size, and write clusters
// that they have compressed. All of it blocks.
#include "blk/qcow2_parts.h"

#include "blk/now.h"
#include "blk/raw.h"

#include <errno.h>
#include <stdlib.h>

/* ---- map ---- */

struct map {
	uint64_t off, len;
	struct qcow2_map found;
};

static int try_lookup(struct qcow2 *q, void *arg, struct qcow2_waiter *w)
{
	struct map *m = arg;

	return qcow2_lookup(q, m->off, m->len, w, &m->found);
}

static int map_absent(struct qcow2 *q, uint64_t off, uint64_t len, struct blk_extent *out)
{
	int rc;

	*out = (struct blk_extent){.len = len, .kind = BLK_EXTENT_ABSENT};
	if (!q->backing || off >= q->backing->size)
		return 0;
	rc = blk_map(q->backing, off, MIN(len, q->backing->size - off), out);
	out->depth += out->kind != BLK_EXTENT_ABSENT;
	return rc;
}

static int map_image(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	struct qcow2 *q = qcow2_of(b);
	struct map m = {.off = off, .len = len};
	int rc = qcow2_wait_for(q, try_lookup, &m);

	if (rc)
		return rc;
	*out = (struct blk_extent){.len = m.found.len, .kind = BLK_EXTENT_DATA};
	switch (m.found.kind) {
	case QCOW2_ABSENT:
		return map_absent(q, off, m.found.len, out);
	case QCOW2_ZEROES:
	case QCOW2_PLACED:
		out->kind = BLK_EXTENT_ZERO;
		break;
	case QCOW2_PACKED:
		out->compressed = true;
		break;
	case QCOW2_DATA:
		out->placed = true;
		out->at = m.found.host;
		break;
	}
	return 0;
}

/* ---- another size ---- */

struct room {
	uint64_t count; /* clusters */
	struct qcow2_place place;
};

static int try_room(struct qcow2 *q, void *arg, struct qcow2_waiter *w)
{
	const struct room *r = arg;

	return qcow2_make_room(q, r->count, w);
}

static int try_place(struct qcow2 *q, void *arg, struct qcow2_waiter *w)
{
	struct room *r = arg;

	while (r->place.count < r->count) {
		struct qcow2_place p;
		int rc = qcow2_alloc(q, r->count - r->place.count, w, &p);

		if (rc)
			return rc;
		if (r->place.count && p.first != r->place.first + r->place.count)
			return -ENOSPC;
		r->place.first = r->place.count ? r->place.first : p.first;
		r->place.count += p.count;
	}
	return 0;
}

/* Until nothing is dirty and nothing to be freed. */
static int flush_all(struct qcow2 *q)
{
	int rc = 0;

	for (unsigned i = 0; i < 3 && !rc; i++)
		rc = blk_flush_now(&q->blk);
	return rc;
}

/* Writes the table to where it is to be, with what is new as zeroes. */
static int write_l1(struct qcow2 *q, const struct qcow2_table *t)
{
	size_t len = align_up(t->count * 8ull, q->cluster);
	uint8_t *buf = aligned_alloc(4096, align_up(len, 4096));
	int rc;

	if (!buf)
		return -ENOMEM;
	memset(buf, 0, len);
	for (uint32_t i = 0; i < t->count; i++)
		put_be64(buf + 8ull * i, t->entries[i]);
	rc = blk_write_now(q->file, t->at, buf, len);
	free(buf);
	return rc;
}

/* A larger L1 table somewhere else. The header has it when the next cycle has ended. */
static int grow_l1(struct qcow2 *q, uint32_t count)
{
	uint64_t old = q->l1.at >> q->cluster_bits;
	uint64_t old_count = (q->l1.count * 8ull + q->cluster - 1) >> q->cluster_bits;
	struct room r = {.count = (count * 8ull + q->cluster - 1) >> q->cluster_bits};
	struct qcow2_table t;
	int rc = flush_all(q);

	rc = rc ? rc : qcow2_wait_for(q, try_room, &r);
	rc = rc ? rc : qcow2_wait_for(q, try_place, &r);
	rc = rc ? rc : flush_all(q);
	rc = rc ? rc : qcow2_table_init(&t, count, count * 8ull);
	if (rc)
		return rc;
	t.at = r.place.first << q->cluster_bits;
	memcpy(t.entries, q->l1.entries, q->l1.count * 8ull);
	rc = write_l1(q, &t);
	if (rc) {
		qcow2_table_finish(&t);
		return rc;
	}
	qcow2_table_finish(&q->l1);
	q->l1 = t;
	put_be64(q->header + QCOW2_AT_L1, t.at);
	put_be32(q->header + QCOW2_AT_L1_ENTRIES, count);
	q->header_dirty = true;
	qcow2_free_later(q, old, old_count);
	return 0;
}

static int write_size(struct qcow2 *q, uint64_t size)
{
	put_be64(q->header + QCOW2_AT_SIZE, size);
	q->header_dirty = true;
	return flush_all(q);
}

/* What is new is zeroes, also where there was something in the last cluster, is in the backing
 * file, or was left by one that made it smaller and was interrupted. */
static int grow(struct qcow2 *q, uint64_t size)
{
	uint64_t old = q->blk.size, needed = qcow2_l1_needed(size, q->cluster_bits, false);
	int rc = needed > q->l1.count ? grow_l1(q, (uint32_t)needed) : 0;

	if (rc)
		return rc;
	q->blk.size = size;
	rc = blk_clear_now(&q->blk, BLK_WRITE_ZEROES, BLK_UNMAP, old, size - old);
	rc = rc ? rc : write_size(q, size);
	if (rc)
		q->blk.size = old;
	return rc;
}

/* The tables stay as large as they were. */
static int shrink(struct qcow2 *q, uint64_t size)
{
	uint64_t whole = align_up(size, q->cluster);
	int rc = write_size(q, size);

	if (!rc && whole < q->blk.size)
		rc = blk_clear_now(&q->blk, BLK_DISCARD, 0, whole, q->blk.size - whole);
	rc = rc ? rc : flush_all(q);
	if (!rc)
		q->blk.size = size;
	return rc;
}

static int resize_image(struct blk *b, uint64_t size)
{
	struct qcow2 *q = qcow2_of(b);
	int rc;

	if (b->read_only)
		return fail(EROFS, "disk %s: is open for reading only", b->name);
	if (size % BLK_SECTOR || size > RAW_SIZE_MAX ||
		qcow2_l1_needed(size, q->cluster_bits, false) > QCOW2_L1_BYTES_MAX / 8)
		return fail(EINVAL, "disk %s: qcow2: cannot be %llu bytes", b->name,
			(unsigned long long)size);
	rc = size >= b->size ? grow(q, size) : shrink(q, size);
	return rc ? failno(-rc, "disk %s", b->name) : 0;
}

/* ---- compressed clusters ---- */

struct pack {
	uint64_t cluster, len;
	uint64_t at; /* bytes: where it goes */
	struct qcow2_place place;
};

static int try_absent(struct qcow2 *q, void *arg, struct qcow2_waiter *w)
{
	const struct pack *p = arg;
	struct qcow2_map m;
	int rc = qcow2_lookup(q, p->cluster << q->cluster_bits, q->cluster, w, &m);

	return !rc && m.kind != QCOW2_ABSENT ? -EEXIST : rc;
}

static int try_alloc(struct qcow2 *q, void *arg, struct qcow2_waiter *w)
{
	struct pack *p = arg;

	return qcow2_alloc(q, 1, w, &p->place);
}

static int try_again(struct qcow2 *q, void *arg, struct qcow2_waiter *w)
{
	const struct pack *p = arg;

	return qcow2_ref_again(q, p->at >> q->cluster_bits, w);
}

static int try_link(struct qcow2 *q, void *arg, struct qcow2_waiter *w)
{
	const struct pack *p = arg;
	unsigned bits = 62 - (q->cluster_bits - 8), index;
	uint64_t sectors = (p->at + p->len - 1) / BLK_SECTOR - p->at / BLK_SECTOR;
	struct qcow2_slice *slice;
	int rc = qcow2_entry(q, p->cluster, w, &slice, &index);

	if (rc == -ENOENT) {
		rc = qcow2_table_make(q, p->cluster, w);
		rc = rc ? rc : qcow2_entry(q, p->cluster, w, &slice, &index);
	}
	if (rc)
		return rc;
	put_be64(slice->data + 8 * index, QCOW2_COMPRESSED | sectors << bits | p->at);
	qcow2_slice_dirty(slice);
	return 0;
}

/* Right after what was written last, where the cluster goes on or the next is free. */
static int find_place(struct qcow2 *q, struct pack *p)
{
	uint64_t left = -q->packed_at & (q->cluster - 1);
	int rc = 0;

	p->at = q->packed_at;
	if (!left || left < p->len)
		rc = qcow2_wait_for(q, try_alloc, p);
	if (rc)
		return rc;
	if (p->place.count && (!left || p->place.first != (p->at >> q->cluster_bits) + 1)) {
		p->at = p->place.first << q->cluster_bits;
		left = 0;
	}
	if (left)
		rc = qcow2_wait_for(q, try_again, p);
	/* It has as many references as there may be: in a cluster of its own. */
	if (rc == -ERANGE) {
		q->packed_at = 0;
		rc = p->place.count ? 0 : qcow2_wait_for(q, try_alloc, p);
		p->at = p->place.first << q->cluster_bits;
	}
	return rc;
}

/* With what is before it in its first sector. */
static int write_packed(struct qcow2 *q, const struct pack *p, const void *packed)
{
	uint64_t start = align_down(p->at, BLK_SECTOR), skip = p->at - start;
	uint64_t len = align_up(skip + p->len, BLK_SECTOR);
	uint8_t *buf = aligned_alloc(4096, align_up(len, 4096));
	int rc;

	if (!buf)
		return -ENOMEM;
	memset(buf, 0, len);
	memcpy(buf, q->packed, skip);
	memcpy(buf + skip, packed, p->len);
	rc = blk_write_now(q->file, start, buf, len);
	q->packed_at = p->at + p->len;
	memcpy(q->packed, buf + len - BLK_SECTOR, BLK_SECTOR);
	free(buf);
	return rc;
}

int qcow2_write_compressed(struct blk *b, uint64_t off, const void *packed, uint64_t len)
{
	struct qcow2 *q = qcow2_of(b);
	struct pack p = {.cluster = off >> q->cluster_bits, .len = len};
	int rc;

	if (off & (q->cluster - 1) || off >= b->size || !len || len >= q->cluster)
		return fail(EINVAL, "disk %s: %llu bytes are no compressed cluster", b->name,
			(unsigned long long)len);
	rc = b->read_only ? -EROFS : qcow2_wait_for(q, try_absent, &p);
	rc = rc ? rc : find_place(q, &p);
	rc = rc ? rc : write_packed(q, &p, packed);
	rc = rc ? rc : qcow2_wait_for(q, try_link, &p);
	if (rc && p.place.count)
		qcow2_unalloc(q, &p.place);
	return rc ? failno(-rc, "disk %s: compressed cluster at byte %llu", b->name,
			    (unsigned long long)off)
		  : 0;
}

void qcow2_use_tools(void)
{
	qcow2_ops.map = map_image;
	qcow2_ops.resize = resize_image;
}
