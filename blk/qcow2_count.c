// SPDX-License-Identifier: MIT
// Tables that have one place are counted first, then the L2 tables, by the L1 tables; then each
// cluster that became an L2 table is walked, once, in the order in which they are in the file: all
// in it is referred to as often as the table itself. So what an L1 table of four million entries
// that are all the same costs is no more than reading that table. The refcounts come last: where
// they stand in the way of anything else they can be made anew.
#include "blk/qcow2_count.h"

#include "base/log.h"
#include "blk/now.h"
#include "blk/qcow2_refs.h"
#include "blk/raw.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define TOLD_MAX 100u
#define LINE_BYTES 256u
#define BITMAP_DIRECTORY_MAX MIB(64)

static const char *const use_names[] = {"unused", "the header", "the refcount table",
	"a refcount block", "an L1 table", "the snapshot table", "a bitmap", "an L2 table", "data"};

/* ---- findings ---- */

static void tell(struct qcow2_count *c, const char *line)
{
	if (c->report->found)
		c->report->found(c->report->arg, line);
}

static void tell_at(struct qcow2_count *c, uint64_t at, const char *fmt, va_list args)
{
	char line[LINE_BYTES];
	int n = snprintf(line, sizeof(line), "byte %llu: ", (unsigned long long)at);

	if (c->told == TOLD_MAX)
		tell(c, "and more, which is not shown");
	if (c->told++ >= TOLD_MAX)
		return;
	vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, args);
	tell(c, line);
}

void qcow2_found(struct qcow2_count *c, uint64_t at, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tell_at(c, at, fmt, args);
	va_end(args);
}

static void corrupt(struct qcow2_count *c, uint64_t at, const char *fmt, ...) printf_like(3, 4);

static void corrupt(struct qcow2_count *c, uint64_t at, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tell_at(c, at, fmt, args);
	va_end(args);
	c->report->corruptions++;
	c->doubt = true;
}

void qcow2_unread(struct qcow2_count *c, uint64_t at, const char *what, int rc)
{
	qcow2_found(c, at, "%s cannot be read: %s", what, strerror(-rc));
	c->report->check_errors++;
	c->doubt = true;
}

/* ---- references ---- */

static bool claim_one(struct qcow2_count *c, const struct qcow2_claim *by, uint64_t i)
{
	enum qcow2_use before = qcow2_use(c, i);
	bool shared = before == by->use && (before == QCOW2_IS_DATA || before == QCOW2_IS_L2);
	uint32_t times = c->of[i] & QCOW2_TIMES;

	if (before && !shared)
		corrupt(c, by->at, "refers to %s at byte %llu, where there is %s already",
			use_names[by->use], (unsigned long long)(i * c->cluster),
			use_names[before]);
	if (before && by->use <= QCOW2_IS_BLOCK)
		return false;
	if (by->times > QCOW2_TIMES - times)
		corrupt(c, by->at, "the cluster at byte %llu is referred to too often",
			(unsigned long long)(i * c->cluster));
	else
		c->of[i] += by->times;
	if (!before)
		c->of[i] |= (uint32_t)by->use << QCOW2_USE_SHIFT;
	if (by->active && (!before || shared))
		c->of[i] |= QCOW2_ACTIVE;
	return !before || shared;
}

/* What lies past the end is not given to anyone: it would then be two things at once. */
static void reserve(struct qcow2_count *c, const struct qcow2_claim *by, uint64_t off, uint64_t len)
{
	uint64_t from = MAX(off / c->cluster, c->in_file);
	uint64_t end = MIN(c->room, off / c->cluster + len / c->cluster + 2);

	if (by->use <= QCOW2_IS_BLOCK)
		return;
	for (uint64_t i = from; i < end && i * c->cluster < off + len; i++)
		claim_one(c, by, i);
}

bool qcow2_claim(struct qcow2_count *c, const struct qcow2_claim *by, uint64_t off, uint64_t len)
{
	bool fine = true;

	if (!range_ok(off, len, c->in_file * c->cluster)) {
		corrupt(c, by->at, "refers to %s at byte %llu, which is past the file's end",
			use_names[by->use], (unsigned long long)off);
		reserve(c, by, off, len);
		return false;
	}
	for (uint64_t i = off / c->cluster; fine && i * c->cluster < off + len; i++)
		fine = claim_one(c, by, i);
	return fine;
}

/* As qcow2_claim, of what begins at a cluster. */
static bool claim_table(
	struct qcow2_count *c, const struct qcow2_claim *by, uint64_t off, uint64_t len)
{
	if (off % c->cluster) {
		corrupt(c, by->at, "refers to %s at byte %llu, which is amid a cluster",
			use_names[by->use], (unsigned long long)off);
		return false;
	}
	return qcow2_claim(c, by, off, len);
}

uint64_t qcow2_count_take(struct qcow2_count *c, uint64_t clusters, enum qcow2_use use)
{
	uint64_t run = 0;

	for (uint64_t i = c->doubt ? c->in_file : 1; i < c->room; i++) {
		run = c->of[i] & QCOW2_TIMES ? 0 : run + 1;
		if (run < clusters)
			continue;
		for (uint64_t n = 0; n < clusters; n++)
			c->of[i - n] = (uint32_t)use << QCOW2_USE_SHIFT | 1;
		return i - clusters + 1;
	}
	return 0;
}

/* ---- L1 and L2 tables ---- */

static void walk_l1(struct qcow2_count *c, const struct qcow2_claim *by, uint64_t off, uint64_t n)
{
	struct qcow2_scan *s = &c->scan;
	int rc;

	if (!n || !claim_table(c, by, off, n * 8))
		return;
	qcow2_scan_begin(s, c->file, off, n * 8, 8);
	while ((rc = qcow2_scan_next(s)) > 0) {
		uint64_t entry = get_be64(s->entry), l2 = entry & QCOW2_OFFSET_MASK;
		struct qcow2_claim l1 = {QCOW2_IS_L2, s->at, 1, by->active};

		if (entry & QCOW2_L1_RESERVED)
			corrupt(c, s->at, "an L1 entry has reserved bits: %#llx",
				(unsigned long long)entry);
		if (l2)
			claim_table(c, &l1, l2, c->cluster);
	}
	if (rc)
		qcow2_unread(c, s->piece_off, "an L1 table", rc);
}

static void walk_compressed(struct qcow2_count *c, struct qcow2_claim *by, uint64_t entry)
{
	unsigned bits = 62 - (c->h.info.cluster_bits - 8);
	uint64_t off = entry & ((1ull << bits) - 1);
	uint64_t sectors = (entry & (QCOW2_COMPRESSED - 1)) >> bits;

	if (off >= QCOW2_HOST_MAX)
		corrupt(c, by->at, "an L2 entry of a compressed cluster has reserved bits: %#llx",
			(unsigned long long)entry);
	else
		qcow2_claim(c, by, align_down(off, BLK_SECTOR), (sectors + 1) * BLK_SECTOR);
	if (!by->active)
		return;
	c->report->allocated_clusters++;
	c->report->compressed_clusters++;
	c->report->fragmented_clusters++;
}

/* Bits of the second half of an extended entry: which subclusters are there, which are zeroes. */
static bool subclusters_ok(const uint8_t *entry, uint64_t off)
{
	uint64_t zeroes = get_be32(entry + 8), there = get_be32(entry + 12);

	return !(zeroes & there) && (off || !there);
}

static void walk_standard(
	struct qcow2_count *c, struct qcow2_claim *by, const uint8_t *raw, uint64_t *next)
{
	uint64_t entry = get_be64(raw), off = entry & QCOW2_OFFSET_MASK;
	bool no_zero = c->h.info.version < 3 || c->h.info.extended_l2;

	if (entry & (QCOW2_L2_RESERVED | (no_zero ? QCOW2_ZERO : 0)))
		corrupt(c, by->at, "an L2 entry has reserved bits: %#llx",
			(unsigned long long)entry);
	if (c->h.info.extended_l2 && !subclusters_ok(raw, off))
		corrupt(c, by->at, "an L2 entry has a subcluster that cannot be");
	if (!off)
		return;
	claim_table(c, by, off, c->cluster);
	if (!by->active)
		return;
	c->report->allocated_clusters++;
	c->report->fragmented_clusters += *next && *next != off;
	*next = off + c->cluster;
}

static void walk_l2(struct qcow2_count *c, uint64_t index)
{
	struct qcow2_scan *s = &c->scan;
	struct qcow2_claim by = {
		QCOW2_IS_DATA, 0, c->of[index] & QCOW2_TIMES, c->of[index] & QCOW2_ACTIVE};
	uint64_t next = 0;
	int rc;

	qcow2_scan_begin(
		s, c->file, index * c->cluster, c->cluster, c->h.info.extended_l2 ? 16 : 8);
	while ((rc = qcow2_scan_next(s)) > 0) {
		uint64_t entry = get_be64(s->entry);

		by.at = s->at;
		if (entry & QCOW2_COMPRESSED)
			walk_compressed(c, &by, entry);
		else
			walk_standard(c, &by, s->entry, &next);
	}
	if (rc)
		qcow2_unread(c, index * c->cluster, "an L2 table", rc);
}

/* ---- snapshots ---- */

int qcow2_saved_read(struct qcow2_saved *s, struct blk *file, const struct qcow2_header *h,
	uint64_t at, uint64_t end)
{
	uint8_t raw[QCOW2_SNAPSHOT_LEN + QCOW2_SNAPSHOT_EXTRA];
	int rc;

	if (at >= end)
		return fail(EINVAL, "disk %s: the snapshot at byte %llu is past the file's end",
			file->name, (unsigned long long)at);
	rc = qcow2_read_bytes(file, at, raw, sizeof(raw));
	if (rc)
		return failno(-rc, "disk %s: the snapshot at byte %llu", file->name,
			(unsigned long long)at);
	*s = (struct qcow2_saved){.at = at,
		.l1 = get_be64(raw),
		.l1_entries = get_be32(raw + 8),
		.id_len = get_be16(raw + 12),
		.name_len = get_be16(raw + 14),
		.date_s = get_be32(raw + 16),
		.date_ns = get_be32(raw + 20),
		.vm_clock_ns = get_be64(raw + 24),
		.vm_state = get_be32(raw + 32),
		.extra_len = get_be32(raw + 36),
		.disk_size = h->info.size};
	if (s->extra_len >= 8)
		s->vm_state = get_be64(raw + 40);
	if (s->extra_len >= QCOW2_SNAPSHOT_EXTRA)
		s->disk_size = get_be64(raw + 48);
	s->len = align_up(QCOW2_SNAPSHOT_LEN + (uint64_t)s->extra_len + s->id_len + s->name_len, 8);
	if (s->l1_entries > QCOW2_L1_BYTES_MAX / 8 || s->l1 % (1u << h->info.cluster_bits) ||
		s->l1 >= QCOW2_HOST_MAX)
		return fail(EINVAL,
			"disk %s: the snapshot at byte %llu has %u L1 entries at byte "
			"%llu, which cannot be",
			file->name, (unsigned long long)at, s->l1_entries,
			(unsigned long long)s->l1);
	if (!range_ok(at - h->snapshot_table, s->len, QCOW2_SNAPSHOT_TABLE_MAX))
		return fail(EINVAL, "disk %s: the snapshot at byte %llu is %llu bytes, too many",
			file->name, (unsigned long long)at, (unsigned long long)s->len);
	return 0;
}

static void walk_snapshots(struct qcow2_count *c)
{
	const struct qcow2_claim by = {QCOW2_IS_SNAPSHOTS, QCOW2_AT_SNAPSHOT_TABLE, 1, false};
	uint64_t at = c->h.snapshot_table, end = c->in_file * c->cluster;
	uint32_t i, n = c->h.info.snapshots;
	struct qcow2_saved s;

	for (i = 0; i < n && at < end; i++, at += s.len) {
		struct qcow2_claim entry = {QCOW2_IS_L1, at, 1, false};
		int rc = qcow2_saved_read(&s, c->file, &c->h, at, end);

		if (rc == -EINVAL)
			corrupt(c, at, "a snapshot's entry makes no sense");
		else if (rc)
			qcow2_unread(c, at, "the snapshot table", rc);
		if (rc)
			break;
		if (c->h.info.version > 2 && s.extra_len < QCOW2_SNAPSHOT_EXTRA)
			corrupt(c, at, "a snapshot's entry does not say how large the disk was");
		walk_l1(c, &entry, s.l1, s.l1_entries);
	}
	/* What the file ends before is zeroes, once something is put behind it. */
	if (at >= end)
		at += (uint64_t)(n - i) * QCOW2_SNAPSHOT_LEN;
	qcow2_claim(c, &by, c->h.snapshot_table, at - c->h.snapshot_table);
}

/* ---- bitmaps ---- */

static void walk_bitmap(struct qcow2_count *c, uint64_t at, uint64_t off, uint64_t n)
{
	struct qcow2_claim by = {QCOW2_IS_BITMAP, at, 1, false};
	struct qcow2_scan *s = &c->scan;
	int rc;

	if (!claim_table(c, &by, off, n * 8))
		return;
	qcow2_scan_begin(s, c->file, off, n * 8, 8);
	while ((rc = qcow2_scan_next(s)) > 0) {
		uint64_t entry = get_be64(s->entry);

		by.at = s->at;
		if (entry & QCOW2_OFFSET_MASK)
			claim_table(c, &by, entry & QCOW2_OFFSET_MASK, c->cluster);
	}
	if (rc)
		qcow2_unread(c, s->piece_off, "a bitmap's table", rc);
}

static void walk_bitmaps(struct qcow2_count *c)
{
	const struct qcow2_claim by = {QCOW2_IS_BITMAP, 0, 1, false};
	uint64_t at = c->bitmaps, end = at + c->bitmaps_len;

	if (!c->bitmap_count)
		return;
	if (c->bitmaps_len > BITMAP_DIRECTORY_MAX) {
		corrupt(c, 0, "the bitmap directory is said to have %llu bytes",
			(unsigned long long)c->bitmaps_len);
		return;
	}
	if (!claim_table(c, &by, at, c->bitmaps_len))
		return;
	for (uint32_t i = 0; i < c->bitmap_count; i++) {
		uint8_t raw[24];
		int rc = qcow2_read_bytes(c->file, at, raw, sizeof(raw));
		uint64_t len = align_up(
			sizeof(raw) + (uint64_t)get_be16(raw + 18) + get_be32(raw + 20), 8);

		if (rc)
			qcow2_unread(c, at, "the bitmap directory", rc);
		else if (len > end - at)
			corrupt(c, at,
				"a bitmap's entry is %llu bytes, which end past the "
				"directory",
				(unsigned long long)len);
		if (rc || len > end - at)
			return;
		walk_bitmap(c, at, get_be64(raw), get_be32(raw + 8));
		at += len;
	}
}

/* ---- all of it ---- */

int qcow2_count_walk(struct qcow2_count *c)
{
	const struct qcow2_claim header = {QCOW2_IS_HEADER, 0, 1, false};
	const struct qcow2_claim l1 = {QCOW2_IS_L1, QCOW2_AT_L1, 1, true};

	c->report->total_clusters = (c->h.info.size + c->cluster - 1) / c->cluster;
	qcow2_claim(c, &header, 0, c->cluster);
	walk_l1(c, &l1, c->h.l1, c->h.l1_entries);
	walk_snapshots(c);
	walk_bitmaps(c);
	for (uint64_t i = 0; i < c->in_file; i++)
		if (qcow2_use(c, i) == QCOW2_IS_L2)
			walk_l2(c, i);
	return qcow2_refs_load(c);
}

/* ---- birth and death ---- */

/* Bitmaps are as the disk is only where the feature's bit says so; else nobody's. */
static int find_bitmaps(struct qcow2_count *c)
{
	uint64_t at = c->h.len;
	int rc = blk_read_now(c->file, 0, c->block, c->cluster);

	if (!(c->h.autoclear & QCOW2_BITMAPS))
		return rc;
	while (!rc && at + 32 <= c->cluster && get_be32(c->block + at) != QCOW2_EXT_END) {
		const uint8_t *e = c->block + at;

		if (get_be32(e) == QCOW2_EXT_BITMAPS && get_be32(e + 4) >= 24) {
			c->bitmap_count = get_be32(e + 8);
			c->bitmaps_len = get_be64(e + 16);
			c->bitmaps = get_be64(e + 24);
		}
		at += 8 + align_up(get_be32(e + 4), 8);
	}
	return rc;
}

static int make_room(struct qcow2_count *c, int64_t file_size, uint64_t extra)
{
	void *p;

	c->cluster = 1ull << c->h.info.cluster_bits;
	c->in_file = ((uint64_t)file_size + c->cluster - 1) / c->cluster;
	if (c->in_file > QCOW2_CHECK_CLUSTERS)
		return fail(EFBIG,
			"disk %s: has %llu clusters of %llu bytes, more than the %llu that can be "
			"checked",
			c->file->name, (unsigned long long)c->in_file,
			(unsigned long long)c->cluster, QCOW2_CHECK_CLUSTERS);
	/* A refcount block counts at least 64 clusters. */
	c->room = c->in_file + c->in_file / 32 + extra / c->cluster + 64;
	p = mmap(NULL, c->room * sizeof(*c->of), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	c->of = p == MAP_FAILED ? NULL : p;
	c->block = malloc(c->cluster);
	if (!c->of || !c->block)
		return fail(ENOMEM, "disk %s: no memory for a check", c->file->name);
	return 0;
}

int qcow2_count_open_as(struct qcow2_count **out, struct blk *file, struct qcow2_report *report,
	const struct qcow2_header *h, uint64_t extra)
{
	struct qcow2_count *c = *out = calloc(1, sizeof(*c));
	int64_t size = raw_file_size(file);
	int rc;

	if (!c)
		return fail(ENOMEM, "disk %s: no memory for a check", file->name);
	if (size < 0)
		return (int)size;
	c->file = file;
	c->report = report;
	c->h = *h;
	rc = make_room(c, size, extra);
	if (rc)
		return rc;
	rc = find_bitmaps(c);
	return rc ? failno(-rc, "disk %s: qcow2 header", file->name) : 0;
}

int qcow2_count_open(struct qcow2_count **out, struct blk *file, struct qcow2_report *report)
{
	struct qcow2_header h;
	int rc = qcow2_read_header(&h, file);

	*out = NULL;
	return rc ? rc : qcow2_count_open_as(out, file, report, &h, 0);
}

void qcow2_count_close(struct qcow2_count *c)
{
	if (!c)
		return;
	if (c->of)
		munmap(c->of, c->room * sizeof(*c->of));
	free(c->refs);
	free(c->block);
	free(c);
}
