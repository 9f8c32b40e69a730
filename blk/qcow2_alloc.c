// SPDX-License-Identifier: MIT
// How often each cluster of the file is referred to: clusters are taken here and given back.
//
// Order. A reference is counted before it is made durable: taking a cluster changes its count in
// memory, and a cycle writes counts before entries. It is counted no more only after it is gone
// from the medium, and after everything that used the cluster as it was found there is over: what
// is to be freed waits in a ring until a cycle has ended and the requests of the time before it
// have too. So a crash leaves at worst clusters that are counted and not referred to, counts may be
// written at any time, and a cluster that is taken is nobody else's in any sense.
//
// Which are free. New clusters come from the file's end, `tail`, unless some are known to be free
// before it: those that were freed, and those that a sweep finds, one slice of refcounts at a time
// as clusters are taken. Nothing is ever scanned as a whole.
#include "blk/qcow2_parts.h"

#include <errno.h>

/* ---- counts ---- */

static unsigned order(const struct qcow2 *q)
{
	return q->h.refcount_order;
}

/* In bits: how many counts a block has, and a slice. */
static unsigned block_bits(const struct qcow2 *q)
{
	return q->cluster_bits + 3 - order(q);
}

static unsigned in_slice(const struct qcow2 *q)
{
	return q->slice * 8 >> order(q);
}

static uint64_t count_of(const struct qcow2 *q, const uint8_t *data, unsigned i)
{
	switch (order(q)) {
	case 3:
		return data[i];
	case 4:
		return get_be16(data + 2 * i);
	case 5:
		return get_be32(data + 4 * i);
	case 6:
		return get_be64(data + 8 * i);
	default:
		break;
	}
	return data[i >> (3 - order(q))] >> (i << order(q) & 7) & ((1u << (1u << order(q))) - 1);
}

static void set_count(const struct qcow2 *q, uint8_t *data, unsigned i, uint64_t count)
{
	unsigned shift = i << order(q) & 7, mask = (1u << (1u << (order(q) & 3))) - 1;
	uint8_t *byte;

	switch (order(q)) {
	case 3:
		data[i] = (uint8_t)count;
		break;
	case 4:
		put_be16(data + 2 * i, (uint16_t)count);
		break;
	case 5:
		put_be32(data + 4 * i, (uint32_t)count);
		break;
	case 6:
		put_be64(data + 8 * i, count);
		break;
	default:
		byte = data + (i >> (3 - order(q)));
		*byte = (uint8_t)((*byte & ~(mask << shift)) | (unsigned)count << shift);
	}
}

/* Where the slice with a cluster's count lies in the block at `block`; its index in the slice. */
static uint64_t slice_at(const struct qcow2 *q, uint64_t block, uint64_t cluster, unsigned *index)
{
	uint64_t i = cluster & ((1ull << block_bits(q)) - 1);

	*index = (unsigned)(i & (in_slice(q) - 1));
	return block + i / in_slice(q) * q->slice;
}

/* The same of a block that there is; else -ENOENT. */
static int locate(struct qcow2 *q, uint64_t cluster, uint64_t *at, unsigned *index)
{
	uint64_t block, i = cluster >> block_bits(q);

	if (i >= q->refs.count || !q->refs.entries[i])
		return -ENOENT;
	block = q->refs.entries[i];
	if (!qcow2_host_ok(q, block)) {
		qcow2_log(q, "refcount table entry %llu is 0x%llx, which cannot be",
			(unsigned long long)i, (unsigned long long)block);
		return -EIO;
	}
	*at = slice_at(q, block, cluster, index);
	return 0;
}

static int get(struct qcow2 *q, uint64_t cluster, struct qcow2_waiter *w, struct qcow2_slice **out,
	unsigned *index)
{
	uint64_t at;
	int rc = locate(q, cluster, &at, index);

	return rc ? rc : qcow2_slice_get(&q->refs_cache, at, w, out);
}

/* How many from there on, at most `most` and within the slice, have that count. */
static unsigned run_of(const struct qcow2 *q, const struct qcow2_slice *s, unsigned i,
	uint64_t most, uint64_t count)
{
	unsigned n = 0;

	while (n < most && i + n < in_slice(q) && count_of(q, s->data, i + n) == count)
		n++;
	return n;
}

static void set_run(struct qcow2 *q, struct qcow2_slice *s, unsigned i, uint64_t n, uint64_t count)
{
	while (n--)
		set_count(q, s->data, i++, count);
	qcow2_slice_dirty(s);
}

int qcow2_ref_again(struct qcow2 *q, uint64_t cluster, struct qcow2_waiter *w)
{
	struct qcow2_slice *s;
	unsigned i;
	uint64_t count;
	int rc = get(q, cluster, w, &s, &i);

	if (rc)
		return rc;
	count = count_of(q, s->data, i);
	if (!count || count == UINT64_MAX >> (64 - q->h.info.refcount_bits))
		return -ERANGE;
	set_run(q, s, i, 1, count + 1);
	return 0;
}

/* ---- holes ---- */

static void hole_add(struct qcow2 *q, uint64_t first, uint64_t count)
{
	struct qcow2_run *last = &q->hole[q->holes ? q->holes - 1 : 0];

	if (q->holes && last->first + last->count == first) {
		last->count += count;
	} else if (q->holes && first + count == last->first) {
		last->first = first;
		last->count += count;
	} else if (q->holes < QCOW2_HOLES) {
		q->hole[q->holes++] = (struct qcow2_run){first, count};
	} else {
		q->sweep = MIN(q->sweep, first);
		q->sweep_end = q->tail;
	}
}

static int take_hole(
	struct qcow2 *q, uint64_t want, struct qcow2_waiter *w, struct qcow2_place *out)
{
	while (q->holes) {
		struct qcow2_run *h = &q->hole[q->holes - 1];
		struct qcow2_slice *s;
		unsigned i, n;
		int rc = get(q, h->first, w, &s, &i);

		if (rc == QCOW2_WAIT)
			return rc;
		n = rc ? 0 : run_of(q, s, i, MIN(want, h->count), 0);
		/* What is in use after all is no hole. */
		if (!n) {
			q->holes--;
			continue;
		}
		*out = (struct qcow2_place){.first = h->first, .count = n};
		h->first += n;
		h->count -= n;
		q->holes -= h->count == 0;
		set_run(q, s, i, n, 1);
		return 0;
	}
	return -ENOENT;
}

/* Looks for holes in one slice. QCOW2_WAIT, or 0. */
static int sweep(struct qcow2 *q, struct qcow2_waiter *w)
{
	struct qcow2_slice *s;
	unsigned i, n;
	uint64_t at, end;

	if (q->sweep >= q->sweep_end)
		return 0;
	end = MIN(align_down(q->sweep, in_slice(q)) + in_slice(q), q->sweep_end);
	if (locate(q, q->sweep, &at, &i) ||
		(q->sweep_waited && !qcow2_slice_find(&q->refs_cache, at))) {
		/* There is none, or it cannot be read. */
		q->sweep = end;
		q->sweep_waited = false;
		return 0;
	}
	q->sweep_waited = true;
	if (qcow2_slice_get(&q->refs_cache, at, w, &s))
		return QCOW2_WAIT;
	q->sweep_waited = false;
	while (q->sweep < end && q->holes < QCOW2_HOLES) {
		n = run_of(q, s, i, end - q->sweep, 0);
		if (n)
			hole_add(q, q->sweep, n);
		n = n ? n : 1;
		q->sweep += n;
		i += n;
	}
	return 0;
}

/* ---- the file's end ---- */

static void zeroed(struct blk_request *r, int rc)
{
	struct qcow2 *q = container_of(r, struct qcow2, zero.r);

	q->zero.busy = false;
	if (rc)
		q->zero.count = 0;
	qcow2_line_wake(&q->zero.waiting, rc);
}

/* Has zeroes in the file there, where it had none: on a device. */
static int make_zero(struct qcow2 *q, uint64_t first, uint64_t count, struct qcow2_waiter *w)
{
	if (first >= q->zeroes ||
		(!q->zero.busy && q->zero.first == first && q->zero.count == count))
		return 0;
	qcow2_line_add(&q->zero.waiting, w);
	if (q->zero.busy)
		return QCOW2_WAIT;
	q->zero.busy = true;
	q->zero.first = first;
	q->zero.count = count;
	q->zero.r = (struct blk_request){.op = BLK_WRITE_ZEROES,
		.off = first << q->cluster_bits,
		.len = count << q->cluster_bits,
		.done = zeroed};
	blk_submit(q->file, &q->zero.r);
	return QCOW2_WAIT;
}

/* The refcount table is not changed while it is written. */
static int wait_for_cycle(struct qcow2 *q, struct qcow2_waiter *w)
{
	if (!q->cycle.running)
		return 0;
	qcow2_line_add(&q->cycle.ended, w);
	return QCOW2_WAIT;
}

static int full(struct qcow2 *q)
{
	qcow2_log(q, "cannot become larger than %llu bytes",
		(unsigned long long)(q->tail << q->cluster_bits));
	return -ENOSPC;
}

/* The slice with the count of the cluster at the tail, where `block` is a new block. */
static int tail_slice(struct qcow2 *q, uint64_t index, struct qcow2_waiter *w,
	struct qcow2_slice **out, unsigned *i)
{
	uint64_t block = q->tail << q->cluster_bits;

	if (q->tail >> block_bits(q) != index)
		return get(q, q->tail, w, out, i);
	qcow2_cache_forget(&q->refs_cache, block, q->cluster);
	return qcow2_slice_zero(&q->refs_cache, slice_at(q, block, q->tail, i), w, out);
}

/* The table's block of that index, at the tail: most often it counts that cluster, itself. */
static int make_block(struct qcow2 *q, uint64_t index, struct qcow2_waiter *w)
{
	struct qcow2_slice *s;
	unsigned i;
	int rc = make_zero(q, q->tail, 1, w);

	rc = rc ? rc : wait_for_cycle(q, w);
	rc = rc ? rc : tail_slice(q, index, w, &s, &i);
	if (rc)
		return rc;
	qcow2_table_set(&q->refs, (uint32_t)index, q->tail << q->cluster_bits);
	q->tail++;
	set_run(q, s, i, 1, 1);
	return 0;
}

/* How large a table there is to be, and with how many new blocks, so that these count all of both.
 */
static int grow_plan(struct qcow2 *q)
{
	uint64_t first = MAX(q->tail >> block_bits(q), q->refs.count), before = 0,
		 most = QCOW2_REFS_BYTES_MAX / q->cluster;

	/* What the table has blocks for stays in them: the new ones count from there on. */
	q->tail = MAX(q->tail, first << block_bits(q));
	q->grow.blocks = 1;
	while (q->grow.blocks != before) {
		uint64_t entries = first + q->grow.blocks;

		before = q->grow.blocks;
		q->grow.table = (entries + entries / 2) * 8 / q->cluster + 1;
		if (q->grow.table > most && entries * 8 > QCOW2_REFS_BYTES_MAX)
			return full(q);
		q->grow.table = MIN(q->grow.table, most);
		q->grow.blocks =
			((q->tail + before + q->grow.table - 1) >> block_bits(q)) - first + 1;
	}
	if (q->tail + q->grow.blocks + q->grow.table > q->limit)
		return full(q);
	q->grow.first = q->tail;
	q->grow.at = 0;
	q->grow.busy = true;
	q->tail += q->grow.blocks + q->grow.table;
	return 0;
}

/* Counts the new blocks and the new table in those blocks, which nothing refers to yet. */
static int grow_count(struct qcow2 *q, struct qcow2_waiter *w)
{
	uint64_t base = q->grow.first >> block_bits(q);

	for (; q->grow.at < q->grow.blocks + q->grow.table; q->grow.at++) {
		uint64_t cluster = q->grow.first + q->grow.at;
		uint64_t block = q->grow.first + (cluster >> block_bits(q)) - base;
		struct qcow2_slice *s;
		unsigned i;
		uint64_t at = slice_at(q, block << q->cluster_bits, cluster, &i);
		int rc = qcow2_slice_zero(&q->refs_cache, at, w, &s);

		if (rc)
			return rc;
		set_run(q, s, i, 1, 1);
	}
	return 0;
}

static void grow_install(struct qcow2 *q)
{
	uint64_t base = q->grow.first >> block_bits(q), old = q->refs.at >> q->cluster_bits;
	uint32_t entries = (uint32_t)(q->grow.table * q->cluster / 8);

	q->refs.at = (q->grow.first + q->grow.blocks) << q->cluster_bits;
	q->refs.count = entries;
	for (uint32_t i = 0; i < entries; i += QCOW2_SLICE / 8)
		qcow2_table_set(&q->refs, i, q->refs.entries[i]);
	for (uint64_t i = 0; i < q->grow.blocks; i++)
		qcow2_table_set(
			&q->refs, (uint32_t)(base + i), (q->grow.first + i) << q->cluster_bits);
	put_be64(q->header + QCOW2_AT_REFS, q->refs.at);
	put_be32(q->header + QCOW2_AT_REFS_CLUSTERS, (uint32_t)q->grow.table);
	q->header_dirty = true;
	qcow2_free_later(q, old, q->h.refs_clusters);
	q->h.refs_clusters = (uint32_t)q->grow.table;
	q->grow.busy = false;
}

/* Whoever comes goes on with it. */
static int grow(struct qcow2 *q, struct qcow2_waiter *w)
{
	int rc = q->grow.busy ? 0 : grow_plan(q);

	rc = rc ? rc : make_zero(q, q->grow.first, q->grow.blocks, w);
	rc = rc ? rc : grow_count(q, w);
	rc = rc ? rc : wait_for_cycle(q, w);
	if (rc)
		return rc;
	if (!qcow2_may_free(q, 1, w))
		return QCOW2_WAIT;
	grow_install(q);
	return 0;
}

static int take_tail(
	struct qcow2 *q, uint64_t want, struct qcow2_waiter *w, struct qcow2_place *out)
{
	while (q->tail < q->limit) {
		struct qcow2_slice *s;
		unsigned i, n = 0;
		int rc;

		if (q->grow.busy || q->tail >> block_bits(q) >= q->refs.count) {
			rc = grow(q, w);
		} else if (!q->refs.entries[q->tail >> block_bits(q)]) {
			rc = make_block(q, q->tail >> block_bits(q), w);
		} else {
			rc = get(q, q->tail, w, &s, &i);
			n = rc ? 0 : run_of(q, s, i, MIN(want, q->limit - q->tail), 0);
			q->tail += !rc && !n;
		}
		if (rc)
			return rc;
		if (!n)
			continue;
		*out = (struct qcow2_place){q->tail, n, q->tail >= q->zeroes};
		q->tail += n;
		set_run(q, s, i, n, 1);
		return 0;
	}
	return full(q);
}

int qcow2_make_room(struct qcow2 *q, uint64_t count, struct qcow2_waiter *w)
{
	q->holes = 0;
	q->sweep = q->sweep_end;
	for (uint64_t i = q->tail >> block_bits(q); i <= (q->tail + count) >> block_bits(q); i++) {
		int rc = 0;

		if (q->grow.busy || i >= q->refs.count)
			rc = grow(q, w);
		if (!rc && i < q->refs.count && !q->refs.entries[i])
			rc = make_block(q, i, w);
		if (rc)
			return rc;
	}
	return 0;
}

int qcow2_alloc(struct qcow2 *q, uint64_t want, struct qcow2_waiter *w, struct qcow2_place *out)
{
	int rc = q->holes ? 0 : sweep(q, w);

	rc = rc ? rc : take_hole(q, want, w, out);
	return rc == -ENOENT ? take_tail(q, want, w, out) : rc;
}

void qcow2_unalloc(struct qcow2 *q, const struct qcow2_place *p)
{
	for (uint64_t c = p->first; c < p->first + p->count; c++) {
		struct qcow2_slice *s = NULL;
		uint64_t at;
		unsigned i;

		if (!locate(q, c, &at, &i))
			s = qcow2_slice_find(&q->refs_cache, at);
		if (s && s->valid) {
			set_run(q, s, i, 1, 0);
			hole_add(q, c, 1);
		} else if (q->free_tail - q->free_head < QCOW2_FREES) {
			qcow2_free_later(q, c, 1);
		}
	}
}

/* ---- what is freed ---- */

bool qcow2_may_free(struct qcow2 *q, unsigned runs, struct qcow2_waiter *w)
{
	if (QCOW2_FREES - (q->free_tail - q->free_head) >= runs)
		return true;
	qcow2_line_add(&q->free_room, w);
	qcow2_cycle_start(q);
	return false;
}

void qcow2_free_later(struct qcow2 *q, uint64_t first, uint64_t count)
{
	struct qcow2_run *last = &q->free[(q->free_tail - 1) % QCOW2_FREES];
	/* What a cycle has seen, or is freed, is not made longer. */
	bool open = q->free_tail > MAX(q->cycle.frees, MAX(q->free_guarded, q->free_durable)) &&
		    q->free_tail > q->free_head;

	if (open && last->first + last->count == first)
		last->count += count;
	else
		q->free[q->free_tail++ % QCOW2_FREES] = (struct qcow2_run){first, count};
}

void qcow2_free_entry(struct qcow2 *q, const struct qcow2_map *m)
{
	unsigned bits = 62 - (q->cluster_bits - 8);
	uint64_t end;

	if (m->kind == QCOW2_DATA || m->kind == QCOW2_PLACED) {
		qcow2_free_later(q, m->host >> q->cluster_bits, 1);
	} else if (m->kind == QCOW2_PACKED) {
		end = align_down(m->host, BLK_SECTOR) +
		      (((m->entry & (QCOW2_COMPRESSED - 1)) >> bits) + 1) * BLK_SECTOR - 1;
		qcow2_free_later(q, m->host >> q->cluster_bits,
			(end >> q->cluster_bits) - (m->host >> q->cluster_bits) + 1);
		qcow2_unpack_forget(q, m->entry);
		q->packed_at = 0;
	}
}

static void punched(struct blk_request *r, int rc)
{
	struct qcow2 *q = container_of(r, struct qcow2, punch);

	q->punched = r->len >> q->cluster_bits;
	q->release.go(&q->release, 0);
}

/* Gives the storage back before anyone else may take the clusters. True where that takes time. */
static bool punch(struct qcow2 *q, uint64_t first, uint64_t count)
{
	uint64_t len = count << q->cluster_bits;

	if (q->punched || !q->file->discard_align || len < q->file->discard_align)
		return false;
	q->punch = (struct blk_request){
		.op = BLK_DISCARD, .off = first << q->cluster_bits, .len = len, .done = punched};
	blk_submit(q->file, &q->punch);
	return true;
}

/* The next few clusters of the run. 0, QCOW2_WAIT or -errno: the rest of it is lost. */
static int release_some(struct qcow2 *q, struct qcow2_run *run)
{
	struct qcow2_slice *s;
	unsigned i, n;
	uint64_t count;
	int rc = get(q, run->first, &q->release, &s, &i);

	if (rc)
		return rc;
	count = count_of(q, s->data, i);
	n = run_of(q, s, i, q->punched ? q->punched : run->count, count);
	if (count == 1 && punch(q, run->first, n))
		return QCOW2_WAIT;
	q->punched = 0;
	if (!count)
		return -ERANGE;
	set_run(q, s, i, n, count - 1);
	if (count == 1)
		hole_add(q, run->first, n);
	run->first += n;
	run->count -= n;
	return 0;
}

static void release(struct qcow2_waiter *w, int rc)
{
	struct qcow2 *q = container_of(w, struct qcow2, release);
	bool any = false;

	q->releasing = true;
	while (q->free_head < MIN(q->free_durable, q->free_guarded) && !q->inflight[!q->epoch]) {
		struct qcow2_run *run = &q->free[q->free_head % QCOW2_FREES];

		rc = rc ? rc : release_some(q, run);
		if (rc == QCOW2_WAIT)
			return;
		if (rc)
			qcow2_log(q, "%llu clusters from byte %llu on are lost: %s",
				(unsigned long long)run->count,
				(unsigned long long)(run->first << q->cluster_bits), strerror(-rc));
		if (rc || !run->count) {
			q->free_head++;
			any = true;
		}
		rc = 0;
	}
	q->releasing = false;
	if (any)
		qcow2_line_wake(&q->free_room, 0);
}

void qcow2_release(struct qcow2 *q)
{
	q->release.go = release;
	if (q->releasing || q->inflight[!q->epoch])
		return;
	release(&q->release, 0);
	/* What waits for room may have come too late for the cycle that has ended. */
	if (!q->releasing && q->free_room.first)
		qcow2_cycle_start(q);
}
