// SPDX-License-Identifier: MIT
// What a disk is made of, for tools.
#include "blk/now.h"
#include "blk/vmdk_parts.h"

/* The table that is in memory, or is read into `buf`; NULL in *out: there is none. */
static int find_table(
	const struct vmdk_part *p, uint32_t index, uint32_t *buf, const uint32_t **out)
{
	const struct vmdk_table *t = vmdk_table_peek(p, index);
	uint32_t sector = le32toh(p->gd[index]);
	int rc;

	*out = t ? t->entry : sector ? buf : NULL;
	if (t || !sector)
		return 0;
	rc = vmdk_table_check(p, p->gd_at + index * 4ull, sector);
	return rc ? rc : blk_read_now(p->file, (uint64_t)sector * BLK_SECTOR, buf, p->gtes * 4ull);
}

static int map_sparse(const struct vmdk_part *p, uint64_t at, struct vmdk_run *run)
{
	uint32_t buf[VMDK_GTES_MAX];
	const uint32_t *entry;
	uint64_t left = vmdk_table_left(p, at);
	int rc = find_table(p, (uint32_t)(at >> p->covers_bits), buf, &entry);

	run->len = MIN(run->len, left);
	return rc || !entry ? rc : vmdk_table_run(p, entry, at, run);
}

static int map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	static const enum blk_extent_kind kinds[] = {
		[VMDK_ABSENT] = BLK_EXTENT_ABSENT,
		[VMDK_ZEROES] = BLK_EXTENT_ZERO,
		[VMDK_DATA] = BLK_EXTENT_DATA,
		[VMDK_PACKED] = BLK_EXTENT_DATA,
	};
	const struct vmdk *d = container_of(b, struct vmdk, blk);
	const struct vmdk_part *p = vmdk_part_at(d, off);
	struct vmdk_run run = {VMDK_ABSENT, MIN(len, p->end - off), 0, NULL};
	int rc;

	if (p->kind == VMDK_FLAT) {
		rc = blk_map(p->file, p->at + off - p->start, run.len, out);
		out->placed = false;
		return rc;
	}
	rc = p->kind == VMDK_SPARSE ? map_sparse(p, off - p->start, &run) : 0;
	*out = (struct blk_extent){
		.len = run.len,
		.kind = p->file ? kinds[run.kind] : BLK_EXTENT_ZERO,
		.compressed = run.kind == VMDK_PACKED,
		.placed = run.kind == VMDK_DATA && p->file == d->file,
		.at = run.at,
	};
	return rc;
}

void vmdk_use_tools(void)
{
	vmdk_ops.map = map;
}
