// SPDX-License-Identifier: MIT
#include "blk/qcow2_refs.h"

#include "base/fd.h"
#include "base/log.h"
#include "blk/now.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t entries(const struct qcow2_count *c)
{
	return c->h.refs_clusters * c->cluster / 8;
}

/* Clusters whose refcounts one block has. */
static uint64_t per_block(const struct qcow2_count *c)
{
	return c->cluster * 8 >> c->h.refcount_order;
}

static uint64_t most(const struct qcow2_count *c)
{
	return c->h.refcount_order == 6 ? UINT64_MAX : (1ull << (1u << c->h.refcount_order)) - 1;
}

/* ---- refcounts in a block ---- */

/* Those of less than a byte lie in it from its least significant bit on. */
static unsigned shift_of(uint64_t i, unsigned order)
{
	return (unsigned)(i & (7u >> order)) << order;
}

static uint64_t get(const uint8_t *block, uint64_t i, unsigned order)
{
	switch (order) {
	case 3:
		return block[i];
	case 4:
		return get_be16(block + 2 * i);
	case 5:
		return get_be32(block + 4 * i);
	case 6:
		return get_be64(block + 8 * i);
	default:
		return block[i >> (3 - order)] >> shift_of(i, order) & ((1u << (1u << order)) - 1);
	}
}

static void put(uint8_t *block, uint64_t i, unsigned order, uint64_t v)
{
	uint8_t *byte = block + (i >> (3 - MIN(order, 3u)));
	unsigned mask;

	switch (order) {
	case 3:
		block[i] = (uint8_t)v;
		break;
	case 4:
		put_be16(block + 2 * i, (uint16_t)v);
		break;
	case 5:
		put_be32(block + 4 * i, (uint32_t)v);
		break;
	case 6:
		put_be64(block + 8 * i, v);
		break;
	default:
		mask = ((1u << (1u << order)) - 1) << shift_of(i, order);
		*byte = (uint8_t)((*byte & ~mask) | (unsigned)v << shift_of(i, order));
	}
}

/* ---- the table ---- */

static void load_entry(struct qcow2_count *c, uint64_t i)
{
	const struct qcow2_claim by = {QCOW2_IS_BLOCK, c->h.refs + 8 * i, 1, false};
	uint64_t off = be64toh(c->refs[i]);

	c->refs[i] = off;
	if (!off)
		return;
	if (off % c->cluster) {
		qcow2_found(c, by.at, "the refcount table has %#llx, which is no cluster's begin",
			(unsigned long long)off);
		c->report->corruptions++;
		c->refs[i] = QCOW2_REFS_BAD;
	} else if (!qcow2_claim(c, &by, off, c->cluster)) {
		c->refs[i] = QCOW2_REFS_BAD;
	}
}

int qcow2_refs_load(struct qcow2_count *c)
{
	const struct qcow2_claim by = {QCOW2_IS_REFS, QCOW2_AT_REFS, 1, false};
	uint64_t len = c->h.refs_clusters * c->cluster;
	bool doubt = c->doubt;
	int rc = 0;

	c->refs = calloc(1, len);
	if (!c->refs)
		return fail(ENOMEM, "disk %s: no memory for a check", c->file->name);
	if (qcow2_claim(c, &by, c->h.refs, len)) {
		rc = blk_read_now(c->file, c->h.refs, c->refs, len);
		for (uint64_t i = 0; !rc && i < entries(c); i++)
			load_entry(c, i);
	} else {
		c->refs[0] = QCOW2_REFS_BAD;
	}
	/* What is wrong here can be made anew, and hides nothing. */
	c->doubt = doubt;
	return rc ? failno(-rc, "disk %s: the refcount table", c->file->name) : 0;
}

/* ---- one block after another ---- */

static int read_block(struct qcow2_count *c, uint64_t off)
{
	memset(c->block, 0, c->cluster);
	if (!off || off & QCOW2_REFS_NEW || qcow2_is_hole(c->file, off, c->cluster))
		return 0;
	return blk_read_now(c->file, off, c->block, c->cluster);
}

static void tell(struct qcow2_count *c, uint64_t i, uint64_t stored, uint64_t times)
{
	if (stored == times)
		return;
	qcow2_found(c, i * c->cluster,
		"the cluster's refcount is %llu, it is referred to %llu times",
		(unsigned long long)stored, (unsigned long long)times);
	if (stored > times)
		c->report->leaks++;
	else
		c->report->corruptions++;
}

/* What becomes of a refcount. */
static uint64_t outcome(struct qcow2_count *c, uint64_t stored, uint64_t times, unsigned how)
{
	if (stored > times)
		return how & QCOW2_REFS_LOWER ? times : stored;
	if (stored == times || !(how & QCOW2_REFS_RAISE))
		return stored;
	c->overflow |= times > most(c);
	return MIN(times, most(c));
}

/* One cluster, whose refcount is the n-th of the block: whether it has changed. */
static bool pass_one(struct qcow2_count *c, uint64_t i, uint64_t n, unsigned how)
{
	uint64_t stored = get(c->block, n, c->h.refcount_order), times = qcow2_times(c, i);
	uint64_t after = outcome(c, stored, times, how);

	if (how & QCOW2_REFS_TELL)
		tell(c, i, stored, times);
	if (stored || times)
		c->report->image_end = MAX(c->report->image_end, (i + 1) * c->cluster);
	if (i < c->room && c->of[i]) {
		c->of[i] &= ~QCOW2_STORED_ONE;
		c->of[i] |= after == 1 ? QCOW2_STORED_ONE : 0;
	}
	if (after == stored)
		return false;
	put(c->block, n, c->h.refcount_order, after);
	return true;
}

/* Whether the block is all zeroes and for clusters past all that there are: a table may have a
 * million of them. */
static bool is_over(struct qcow2_count *c, uint64_t first, uint64_t off)
{
	return first >= c->room && (!off || qcow2_is_hole(c->file, off, c->cluster));
}

/* How many refcounts of the block there is anything to say of: what is past all clusters that there
 * are is zeroes nearly always, in the last block. */
static uint64_t block_end(const struct qcow2_count *c, uint64_t first)
{
	uint64_t n = c->room > first ? c->room - first : 0;
	uint64_t from = align_up(n << c->h.refcount_order, 64) / 8;

	if (from >= c->cluster)
		return per_block(c);
	if (c->block[from] || memcmp(c->block + from, c->block + from + 1, c->cluster - from - 1))
		return per_block(c);
	return from * 8 >> c->h.refcount_order;
}

static int pass_block(struct qcow2_count *c, uint64_t b, unsigned how)
{
	uint64_t first = b * per_block(c), off = b < entries(c) ? c->refs[b] : 0, end;
	bool changed = false;
	int rc;

	if (off == QCOW2_REFS_BAD || is_over(c, first, off))
		return 0;
	rc = read_block(c, off);
	if (rc) {
		qcow2_unread(c, off, "a refcount block", rc);
		return how & QCOW2_REFS_WRITE ? rc : 0;
	}
	end = block_end(c, first);
	for (uint64_t n = 0; n < end; n++)
		changed |= pass_one(c, first + n, n, how);
	if (!off || !(how & QCOW2_REFS_WRITE) || !(changed || off & QCOW2_REFS_NEW))
		return 0;
	return blk_write_now(c->file, off & ~QCOW2_REFS_NEW, c->block, c->cluster);
}

/* The table's sectors that have new entries. */
static int write_entries(struct qcow2_count *c)
{
	uint64_t raw[BLK_SECTOR / 8], n = ARRAY_SIZE(raw);
	int rc = 0;

	for (uint64_t at = 0; !rc && at < entries(c); at += n) {
		bool changed = false;

		for (uint64_t i = 0; i < n; i++) {
			changed |= c->refs[at + i] & QCOW2_REFS_NEW;
			c->refs[at + i] &= ~QCOW2_REFS_NEW;
			raw[i] = htobe64(c->refs[at + i]);
		}
		if (changed)
			rc = blk_write_now(c->file, c->h.refs + at * 8, raw, sizeof(raw));
	}
	return rc ? rc : blk_flush_now(c->file);
}

int qcow2_refs_pass(struct qcow2_count *c, unsigned how)
{
	uint64_t needed = (c->room + per_block(c) - 1) / per_block(c);
	uint64_t blocks = MAX(entries(c), needed);
	int rc = 0;

	while (blocks > needed && !c->refs[blocks - 1])
		blocks--;
	for (uint64_t b = 0; !rc && b < blocks; b++)
		rc = pass_block(c, b, how);
	if (!rc && how & QCOW2_REFS_WRITE) {
		rc = blk_flush_now(c->file);
		rc = rc ? rc : write_entries(c);
	}
	return rc ? failno(-rc, "disk %s: refcounts", c->file->name) : 0;
}

/* ---- room for more ---- */

/* Whether a cluster that the block counts is in use. */
static bool is_needed(const struct qcow2_count *c, uint64_t b)
{
	uint64_t first = b * per_block(c), end = MIN(first + per_block(c), c->room);

	for (uint64_t i = first; i < end; i++)
		if (c->of[i] & QCOW2_TIMES)
			return true;
	return false;
}

/* Which may themselves need others. */
static int add_blocks(struct qcow2_count *c)
{
	uint64_t blocks = (c->room + per_block(c) - 1) / per_block(c);
	bool again = true;

	while (again) {
		again = false;
		for (uint64_t b = 0; b < blocks; b++) {
			uint64_t at;

			if ((b < entries(c) && c->refs[b]) || !is_needed(c, b))
				continue;
			if (b >= entries(c))
				return 1;
			at = qcow2_count_take(c, 1, QCOW2_IS_BLOCK);
			if (!at)
				return fail(EFBIG, "disk %s: no room for refcounts", c->file->name);
			c->refs[b] = at * c->cluster | QCOW2_REFS_NEW;
			again = true;
		}
	}
	return 0;
}

static bool is_sound(const struct qcow2_count *c)
{
	for (uint64_t i = 0; i < entries(c); i++)
		if (c->refs[i] == QCOW2_REFS_BAD)
			return false;
	return true;
}

/* A new table and its blocks, one after another past all that is in use. */
struct rebuilt {
	bool exact;
	uint64_t first, table, blocks; /* clusters */
	uint64_t *refs;
};

static void forget(struct qcow2_count *c, uint64_t index, enum qcow2_use use)
{
	if (index < c->room && qcow2_use(c, index) == use)
		c->of[index] = 0;
}

static void forget_old(struct qcow2_count *c)
{
	for (uint64_t i = 0; i < entries(c); i++)
		if (c->refs[i] && c->refs[i] != QCOW2_REFS_BAD)
			forget(c, c->refs[i] / c->cluster, QCOW2_IS_BLOCK);
	for (uint64_t i = 0; i < c->h.refs_clusters; i++)
		forget(c, c->h.refs / c->cluster + i, QCOW2_IS_REFS);
}

static uint64_t last_used(const struct qcow2_count *c)
{
	uint64_t i = c->room;

	while (i > c->in_file && !(c->of[i - 1] & QCOW2_TIMES))
		i--;
	return i;
}

/* With `exact` false, what is counted and that no one seems to use keeps its refcounts. */
static bool keeps_block(const struct qcow2_count *c, const struct rebuilt *n, uint64_t b)
{
	bool had = b < entries(c) && c->refs[b] && c->refs[b] != QCOW2_REFS_BAD;

	return (b + 1) * per_block(c) > n->first || (!n->exact && had) || is_needed(c, b);
}

static int plan(struct qcow2_count *c, struct rebuilt *n)
{
	uint64_t before, end = 0;

	n->first = last_used(c);
	do {
		before = end;
		end = n->first + n->table + n->blocks;
		n->blocks = 0;
		for (uint64_t b = 0; b * per_block(c) < end; b++)
			n->blocks += keeps_block(c, n, b);
		n->table =
			((end + per_block(c) - 1) / per_block(c) * 8 + c->cluster - 1) / c->cluster;
	} while (end != before);
	if (n->table * c->cluster > QCOW2_REFS_BYTES_MAX || end > c->room)
		return fail(EFBIG, "disk %s: is too large for its clusters of %llu bytes",
			c->file->name, (unsigned long long)c->cluster);
	for (uint64_t i = n->first; i < end; i++)
		c->of[i] = (i < n->first + n->table ? QCOW2_IS_REFS : QCOW2_IS_BLOCK)
				   << QCOW2_USE_SHIFT |
			   1;
	return 0;
}

/* What is in doubt, or to be raised only, is not lowered. */
static int write_block(struct qcow2_count *c, const struct rebuilt *r, uint64_t b, uint64_t to)
{
	uint64_t old = b < entries(c) ? c->refs[b] : 0;
	int rc = 0;

	memset(c->block, 0, c->cluster);
	if (!r->exact && old && old != QCOW2_REFS_BAD)
		rc = read_block(c, old);
	for (uint64_t n = 0; n < per_block(c); n++)
		pass_one(c, b * per_block(c) + n, n, QCOW2_REFS_RAISE);
	return rc ? rc : blk_write_now(c->file, to * c->cluster, c->block, c->cluster);
}

static int write_rebuilt(struct qcow2_count *c, struct rebuilt *n)
{
	uint64_t end = n->first + n->table + n->blocks, to = n->first + n->table;
	int rc = 0;

	for (uint64_t b = 0; !rc && b * per_block(c) < end; b++) {
		if (!keeps_block(c, n, b))
			continue;
		n->refs[b] = htobe64(to * c->cluster);
		rc = write_block(c, n, b, to++);
	}
	rc = rc ? rc
		: blk_write_now(c->file, n->first * c->cluster, n->refs, n->table * c->cluster);
	return rc ? rc : blk_flush_now(c->file);
}

static void point_to_refs(uint8_t *sector, const void *arg)
{
	const struct qcow2_header *h = arg;

	put_be64(sector + QCOW2_AT_REFS, h->refs);
	put_be32(sector + QCOW2_AT_REFS_CLUSTERS, h->refs_clusters);
}

static void take_over(struct qcow2_count *c, struct rebuilt *n)
{
	for (uint64_t i = 0; i < n->table * c->cluster / 8; i++)
		n->refs[i] = be64toh(n->refs[i]);
	c->h.refs = n->first * c->cluster;
	c->h.refs_clusters = (uint32_t)n->table;
	free(c->refs);
	c->refs = n->refs;
	n->refs = NULL;
}

static int rebuild(struct qcow2_count *c, bool exact)
{
	struct rebuilt n = {.exact = exact};
	int rc;

	forget_old(c);
	rc = plan(c, &n);
	if (rc)
		return rc;
	n.refs = calloc(n.table, c->cluster);
	if (!n.refs)
		return fail(ENOMEM, "disk %s: no memory for a new refcount table", c->file->name);
	rc = write_rebuilt(c, &n);
	if (rc) {
		free(n.refs);
		return failno(-rc, "disk %s: a new refcount table", c->file->name);
	}
	take_over(c, &n);
	return qcow2_header_write(c->file, point_to_refs, &c->h);
}

int qcow2_refs_grow(struct qcow2_count *c, bool exact)
{
	int rc = is_sound(c) ? add_blocks(c) : 1;

	return rc == 1 ? rebuild(c, exact) : rc;
}

int qcow2_header_write(
	struct blk *file, void (*change)(uint8_t *sector, const void *arg), const void *arg)
{
	uint8_t sector[BLK_SECTOR];
	int rc = blk_read_now(file, 0, sector, sizeof(sector));

	if (!rc) {
		change(sector, arg);
		rc = blk_write_now(file, 0, sector, sizeof(sector));
	}
	rc = rc ? rc : blk_flush_now(file);
	return rc ? failno(-rc, "disk %s: qcow2 header", file->name) : 0;
}

static void put_autoclear(uint8_t *sector, const void *arg)
{
	put_be64(sector + QCOW2_AT_AUTOCLEAR, ((const struct qcow2_header *)arg)->autoclear);
}

int qcow2_header_prepare(struct blk *file, struct qcow2_header *h)
{
	if (!(h->autoclear & ~QCOW2_BITMAPS))
		return 0;
	h->autoclear &= QCOW2_BITMAPS;
	return qcow2_header_write(file, put_autoclear, h);
}
