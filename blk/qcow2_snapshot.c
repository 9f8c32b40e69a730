// SPDX-License-Identifier: MIT
// A change of the snapshots is a header that is to be: with it, all references are counted anew,
// and from the difference to the stored refcounts follows what has to be raised before the switch
// and what is lowered after it.
#include "blk/qcow2_snapshot.h"

#include "base/fd.h"
#include "base/log.h"
#include "blk/now.h"
#include "blk/qcow2_flags.h"
#include "blk/qcow2_refs.h"
#include "blk/raw.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 255u
#define ID_BYTES 12u

/* The table as it is, its entries one after another. */
struct table {
	uint8_t *bytes; /* with room for one more */
	uint64_t len;
	struct qcow2_saved *saved; /* `at`: in `bytes` */
	unsigned count;
};

static void finish_table(struct table *t)
{
	free(t->bytes);
	free(t->saved);
}

static const char *name_of(const struct table *t, unsigned i)
{
	const struct qcow2_saved *s = &t->saved[i];

	return (const char *)t->bytes + s->at + QCOW2_SNAPSHOT_LEN + s->extra_len + s->id_len;
}

static const char *id_of(const struct table *t, unsigned i)
{
	return name_of(t, i) - t->saved[i].id_len;
}

/* ---- reading ---- */

static int read_entries(struct table *t, struct blk *file, const struct qcow2_header *h)
{
	int64_t end = raw_file_size(file);
	uint64_t at = h->snapshot_table;

	if (end < 0)
		return (int)end;
	for (; t->count < h->info.snapshots; t->count++) {
		struct qcow2_saved *s = &t->saved[t->count];
		int rc = qcow2_saved_read(s, file, h, at, (uint64_t)end);

		if (rc)
			return rc;
		at += s->len;
		s->at -= h->snapshot_table;
	}
	t->len = at - h->snapshot_table;
	return 0;
}

static int read_table(struct table *t, struct blk *file, const struct qcow2_header *h)
{
	uint64_t room;
	int rc;

	t->saved = calloc(h->info.snapshots + 1, sizeof(*t->saved));
	rc = t->saved ? read_entries(t, file, h) : -ENOMEM;
	if (rc && t->saved)
		return rc;
	room = align_up(t->len, BLK_SECTOR);
	t->bytes = calloc(1, room + KIB(1));
	if (!t->saved || !t->bytes)
		return fail(ENOMEM, "disk %s: no memory for its snapshots", file->name);
	rc = room ? blk_read_now(file, h->snapshot_table, t->bytes, room) : 0;
	memset(t->bytes + t->len, 0, room - t->len);
	return rc ? failno(-rc, "disk %s: the snapshot table", file->name) : 0;
}

static int fill_list(struct qcow2_snapshots *out, const struct table *t)
{
	out->list = calloc(t->count + 1, sizeof(*out->list));
	for (unsigned i = 0; out->list && i < t->count; i++) {
		const struct qcow2_saved *s = &t->saved[i];
		struct qcow2_snapshot *to = &out->list[i];

		*to = (struct qcow2_snapshot){.id = strndup(id_of(t, i), s->id_len),
			.name = strndup(name_of(t, i), s->name_len),
			.disk_size = s->disk_size,
			.vm_state_size = s->vm_state,
			.vm_clock_ns = s->vm_clock_ns,
			.date_s = s->date_s,
			.date_ns = s->date_ns};
		out->count++;
		if (!to->id || !to->name)
			return -ENOMEM;
	}
	return out->list ? 0 : -ENOMEM;
}

int qcow2_snapshot_list(struct qcow2_snapshots *out, struct blk *file)
{
	struct table t = {0};
	struct qcow2_header h;
	int rc = qcow2_read_header(&h, file);

	*out = (struct qcow2_snapshots){0};
	rc = rc ? rc : read_table(&t, file, &h);
	if (!rc && fill_list(out, &t))
		rc = fail(ENOMEM, "disk %s: no memory for its snapshots", file->name);
	finish_table(&t);
	if (rc)
		qcow2_snapshot_finish(out);
	return rc;
}

void qcow2_snapshot_finish(struct qcow2_snapshots *s)
{
	for (unsigned i = 0; i < s->count; i++) {
		free(s->list[i].id);
		free(s->list[i].name);
	}
	free(s->list);
	*s = (struct qcow2_snapshots){0};
}

/* ---- a change ---- */

struct change {
	struct blk *file;
	struct qcow2_header from, to;
	struct table table;
	struct qcow2_report report; /* of nobody's interest but whether all is well */
	struct qcow2_count *now;    /* what is in use before it */
};

static int check_sound(struct blk *file)
{
	struct qcow2_report r = {0};
	struct qcow2_info info;
	int rc = qcow2_look(&info, file);

	if (!rc)
		rc = qcow2_check(&r, file, info.dirty ? QCOW2_REPAIR_ALL : QCOW2_REPAIR_NOTHING);
	if (!rc && (info.corrupt || r.check_errors || r.corruptions > r.flags))
		rc = fail(EIO,
			"disk %s: is corrupt, so that its snapshots are not touched: see `kvick "
			"image check`",
			file->name);
	return rc;
}

static int begin(struct change *c, struct blk *file)
{
	int rc = check_sound(file);

	*c = (struct change){.file = file};
	rc = rc ? rc : qcow2_read_header(&c->from, file);
	rc = rc ? rc : qcow2_header_prepare(file, &c->from);
	c->to = c->from;
	rc = rc ? rc : read_table(&c->table, file, &c->from);
	if (!rc)
		rc = qcow2_count_open_as(
			&c->now, file, &c->report, &c->from, QCOW2_SNAPSHOT_TABLE_MAX + MIB(64));
	return rc ? rc : qcow2_count_walk(c->now);
}

static void end(struct change *c)
{
	qcow2_count_close(c->now);
	finish_table(&c->table);
}

/* Puts bytes into clusters that are not in use: where, or 0 with a message. */
static uint64_t store(struct change *c, uint8_t *bytes, uint64_t len, enum qcow2_use use)
{
	uint64_t cluster = c->now->cluster, n = (len + cluster - 1) / cluster, at;
	int rc;

	at = qcow2_count_take(c->now, n, use) * cluster;
	if (!at) {
		fail(EFBIG, "disk %s: has no room for a snapshot", c->file->name);
		return 0;
	}
	rc = blk_write_now(c->file, at, bytes, align_up(len, BLK_SECTOR));
	if (!rc)
		return at;
	failno(-rc, "disk %s: a new table", c->file->name);
	return 0;
}

/* A copy of an L1 table, without COPIED flags, of at least `entries`: where, or 0. */
static uint64_t copy_l1(struct change *c, uint64_t from, uint32_t have, uint32_t entries)
{
	uint64_t len = align_up(MAX(entries, 1) * 8ull, BLK_SECTOR), at;
	uint8_t *l1 = calloc(1, len);
	int rc = 0;

	if (!l1) {
		fail(ENOMEM, "disk %s: no memory for an L1 table", c->file->name);
		return 0;
	}
	if (have)
		rc = blk_read_now(c->file, from, l1, align_up(have * 8ull, BLK_SECTOR));
	if (rc)
		failno(-rc, "disk %s: an L1 table", c->file->name);
	for (uint64_t i = 0; i < len / 8; i++)
		put_be64(l1 + 8 * i, i < have ? get_be64(l1 + 8 * i) & ~QCOW2_COPIED : 0);
	at = rc ? 0 : store(c, l1, entries * 8ull, QCOW2_IS_L1);
	free(l1);
	return at;
}

static int store_table(struct change *c)
{
	c->to.info.snapshots = c->table.count;
	c->to.snapshot_table = 0;
	if (c->table.len > QCOW2_SNAPSHOT_TABLE_MAX)
		return fail(EFBIG, "disk %s: its snapshot table would be too large", c->file->name);
	if (!c->table.count)
		return 0;
	c->to.snapshot_table = store(c, c->table.bytes, c->table.len, QCOW2_IS_SNAPSHOTS);
	return c->to.snapshot_table ? 0 : -EIO;
}

static void put_change(uint8_t *sector, const void *arg)
{
	const struct qcow2_header *h = arg;

	put_be64(sector + QCOW2_AT_SIZE, h->info.size);
	put_be32(sector + QCOW2_AT_L1_ENTRIES, h->l1_entries);
	put_be64(sector + QCOW2_AT_L1, h->l1);
	put_be32(sector + QCOW2_AT_SNAPSHOTS, h->info.snapshots);
	put_be64(sector + QCOW2_AT_SNAPSHOT_TABLE, h->snapshot_table);
	if (h->info.version > 2)
		put_be64(sector + QCOW2_AT_AUTOCLEAR, h->autoclear);
}

/* Refcounts that are higher than what is in use break nothing, and neither does a COPIED flag that
 * is missing: so flags are cleared first, and set last. */
static int prepare_switch(struct qcow2_count *n)
{
	int rc = qcow2_refs_pass(n, QCOW2_REFS_RAISE);

	if (!rc && n->overflow)
		return fail(EMLINK,
			"disk %s: its refcounts of %u bits cannot count one snapshot more",
			n->file->name, n->h.info.refcount_bits);
	rc = rc ? rc : qcow2_flags_pass(n, QCOW2_FLAGS_CLEAR);
	rc = rc ? rc : qcow2_refs_grow(n, false);
	return rc ? rc : qcow2_refs_pass(n, QCOW2_REFS_RAISE | QCOW2_REFS_WRITE);
}

static int finish_switch(struct qcow2_count *n)
{
	int rc = qcow2_refs_pass(n, QCOW2_REFS_LOWER | QCOW2_REFS_WRITE);

	return rc ? rc : qcow2_flags_pass(n, QCOW2_FLAGS_CLEAR | QCOW2_FLAGS_SET);
}

/* To the header `to`, whose tables have been stored. */
static int commit(struct change *c)
{
	struct qcow2_count *n = NULL;
	int rc = blk_flush_now(c->file);

	if (rc)
		return failno(-rc, "disk %s: a new table", c->file->name);
	c->report = (struct qcow2_report){0};
	rc = qcow2_count_open_as(&n, c->file, &c->report, &c->to, 0);
	rc = rc ? rc : qcow2_count_walk(n);
	if (!rc && (n->doubt || c->report.check_errors))
		rc = fail(EIO, "disk %s: a table cannot be read again", c->file->name);
	rc = rc ? rc : prepare_switch(n);
	rc = rc ? rc : qcow2_header_write(c->file, put_change, &c->to);
	rc = rc ? rc : finish_switch(n);
	qcow2_count_close(n);
	return rc;
}

/* ---- create ---- */

static bool is_called(const char *text, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(text, name, len) == 0;
}

static int find(const struct table *t, const char *which)
{
	for (unsigned i = 0; i < t->count; i++)
		if (is_called(name_of(t, i), t->saved[i].name_len, which))
			return (int)i;
	for (unsigned i = 0; i < t->count; i++)
		if (is_called(id_of(t, i), t->saved[i].id_len, which))
			return (int)i;
	return -1;
}

/* One more than the largest number that is an id. */
static void new_id(const struct table *t, char *out)
{
	unsigned long largest = 0;

	for (unsigned i = 0; i < t->count; i++) {
		char id[ID_BYTES] = {0};

		memcpy(id, id_of(t, i), MIN(t->saved[i].id_len, sizeof(id) - 2));
		largest = MAX(largest, strtoul(id, NULL, 10));
	}
	snprintf(out, ID_BYTES, "%lu", (largest + 1) % 10000000000ul);
}

static void append(struct change *c, const char *name, uint32_t date_s, uint32_t date_ns)
{
	struct table *t = &c->table;
	uint8_t *e = t->bytes + t->len;
	char id[ID_BYTES];

	new_id(t, id);
	put_be32(e + 8, c->from.l1_entries);
	put_be16(e + 12, (uint16_t)strlen(id));
	put_be16(e + 14, (uint16_t)strlen(name));
	put_be32(e + 16, date_s);
	put_be32(e + 20, date_ns);
	put_be32(e + 36, QCOW2_SNAPSHOT_EXTRA);
	put_be64(e + 48, c->from.info.size);
	e += QCOW2_SNAPSHOT_LEN + QCOW2_SNAPSHOT_EXTRA;
	memcpy(e, id, strlen(id));
	memcpy(e + strlen(id), name, strlen(name));
	t->len +=
		align_up(QCOW2_SNAPSHOT_LEN + QCOW2_SNAPSHOT_EXTRA + strlen(id) + strlen(name), 8);
	t->count++;
}

static int create(struct change *c, const char *name, uint32_t date_s, uint32_t date_ns)
{
	uint64_t at = c->table.len, l1;

	if (find(&c->table, name) >= 0)
		return fail(EEXIST, "disk %s: has a snapshot \"%s\" already", c->file->name, name);
	if (c->table.count == QCOW2_SNAPSHOTS_MAX)
		return fail(EMLINK, "disk %s: has %u snapshots, and may not have more",
			c->file->name, c->table.count);
	append(c, name, date_s, date_ns);
	l1 = copy_l1(c, c->from.l1, c->from.l1_entries, c->from.l1_entries);
	if (!l1)
		return -EIO;
	put_be64(c->table.bytes + at, l1);
	return store_table(c);
}

int qcow2_snapshot_create(struct blk *file, const char *name, uint32_t date_s, uint32_t date_ns)
{
	struct change c;
	int rc;

	if (!*name || strlen(name) > NAME_MAX_BYTES)
		return fail(EINVAL, "disk %s: a snapshot's name is 1 to %u bytes", file->name,
			NAME_MAX_BYTES);
	rc = begin(&c, file);
	rc = rc ? rc : create(&c, name, date_s, date_ns);
	rc = rc ? rc : commit(&c);
	end(&c);
	return rc;
}

/* ---- apply and delete ---- */

static int missing(const struct change *c, const char *which)
{
	return fail(ENOENT, "disk %s: has no snapshot \"%s\"", c->file->name, which);
}

static int apply(struct change *c, const char *which)
{
	int i = find(&c->table, which);
	const struct qcow2_saved *s = i < 0 ? NULL : &c->table.saved[i];
	uint64_t needed;

	if (!s)
		return missing(c, which);
	if (s->disk_size > INT64_MAX)
		return fail(EINVAL, "disk %s: its snapshot is of %llu bytes", c->file->name,
			(unsigned long long)s->disk_size);
	needed = qcow2_l1_needed(s->disk_size, c->from.info.cluster_bits, c->from.info.extended_l2);
	if (needed > QCOW2_L1_BYTES_MAX / 8)
		return fail(EINVAL, "disk %s: its snapshot is of %llu bytes", c->file->name,
			(unsigned long long)s->disk_size);
	c->to.info.size = s->disk_size;
	c->to.l1_entries = (uint32_t)MAX(MAX(needed, s->l1_entries), 1);
	c->to.l1 = copy_l1(c, s->l1, s->l1_entries, c->to.l1_entries);
	/* They say what was written since, of another disk. */
	c->to.autoclear = 0;
	return c->to.l1 ? 0 : -EIO;
}

int qcow2_snapshot_apply(struct blk *file, const char *which)
{
	struct change c;
	int rc = begin(&c, file);

	rc = rc ? rc : apply(&c, which);
	rc = rc ? rc : commit(&c);
	end(&c);
	return rc;
}

static int cut_out(struct change *c, const char *which)
{
	struct table *t = &c->table;
	int i = find(t, which);
	uint64_t at, len;

	if (i < 0)
		return missing(c, which);
	at = t->saved[i].at;
	len = t->saved[i].len;
	memmove(t->bytes + at, t->bytes + at + len, t->len - at - len);
	t->len -= len;
	t->count--;
	return store_table(c);
}

int qcow2_snapshot_delete(struct blk *file, const char *which)
{
	struct change c;
	int rc = begin(&c, file);

	rc = rc ? rc : cut_out(&c, which);
	rc = rc ? rc : commit(&c);
	end(&c);
	return rc;
}
