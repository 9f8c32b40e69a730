// SPDX-License-Identifier: MIT
#include "blk/qcow2_flags.h"

#include "base/log.h"
#include "blk/now.h"

/* The cluster that the entry refers to; 0: none that there could be. */
static uint64_t index_of(const struct qcow2_count *c, uint64_t entry)
{
	uint64_t off = entry & QCOW2_OFFSET_MASK;

	return off % c->cluster || off / c->cluster >= c->room ? 0 : off / c->cluster;
}

static void tell(struct qcow2_count *c, bool set)
{
	qcow2_found(c, c->scan.at, "COPIED is%s set, and the refcount is%s 1", set ? "" : " not",
		set ? " not" : "");
	c->report->corruptions++;
	c->report->flags += !set;
}

static void pass_entry(struct qcow2_count *c, unsigned how)
{
	uint64_t entry = get_be64(c->scan.entry);
	bool set = entry & QCOW2_COPIED, compressed = entry & QCOW2_COMPRESSED, one = false;

	if (!compressed) {
		uint64_t i = index_of(c, entry);

		/* One that refers to nothing has no flag that could be right. */
		if (!i)
			return;
		one = c->of[i] & QCOW2_STORED_ONE;
	}
	if (set == one)
		return;
	if (how & QCOW2_FLAGS_TELL)
		tell(c, set);
	if (how & (set ? QCOW2_FLAGS_CLEAR : QCOW2_FLAGS_SET))
		qcow2_scan_put(&c->scan, entry ^ QCOW2_COPIED);
}

/* What cannot be read has been told of when it was walked. */
static int pass_table(struct qcow2_count *c, uint64_t off, uint64_t len, unsigned how)
{
	unsigned stride =
		c->h.info.extended_l2 && qcow2_use(c, off / c->cluster) == QCOW2_IS_L2 ? 16 : 8;
	int rc;

	qcow2_scan_begin(&c->scan, c->file, off, len, stride);
	while ((rc = qcow2_scan_next(&c->scan)) > 0)
		pass_entry(c, how);
	return how & (QCOW2_FLAGS_CLEAR | QCOW2_FLAGS_SET) ? rc : 0;
}

int qcow2_flags_pass(struct qcow2_count *c, unsigned how)
{
	const uint32_t active = QCOW2_IS_L2 << QCOW2_USE_SHIFT | QCOW2_ACTIVE;
	uint64_t l1 = c->h.l1 / c->cluster;
	int rc = 0;

	if (c->h.l1_entries && l1 < c->in_file && qcow2_use(c, l1) == QCOW2_IS_L1)
		rc = pass_table(c, c->h.l1, c->h.l1_entries * 8ull, how);
	for (uint64_t i = 0; !rc && i < c->in_file; i++)
		if ((c->of[i] & (0xfu << QCOW2_USE_SHIFT | QCOW2_ACTIVE)) == active)
			rc = pass_table(c, i * c->cluster, c->cluster, how);
	if (!rc && how & (QCOW2_FLAGS_CLEAR | QCOW2_FLAGS_SET))
		rc = blk_flush_now(c->file);
	return rc ? failno(-rc, "disk %s: COPIED flags", c->file->name) : 0;
}
