// SPDX-License-Identifier: MIT
// Grain tables: a bounded number of them in memory, in sets of a few, of which the one that was
// used longest ago makes room for another, unless it has something that its file lacks.
#include "blk/vmdk_parts.h"

#define ENTRY_ZEROES 1u

/* ---- entries ---- */

static bool is_grain(const struct vmdk_part *p, uint32_t sector)
{
	return sector >= p->least && !(sector & (p->align - 1)) &&
	       (uint64_t)sector * BLK_SECTOR < p->next;
}

/* How many entries from the first on go on as it begins, at most `most`. */
static unsigned count_alike(const struct vmdk_part *p, const uint32_t *entry, unsigned most)
{
	uint32_t first = le32toh(entry[0]), step = 0;
	unsigned n = 1;

	if (first > ENTRY_ZEROES) {
		step = p->grain / BLK_SECTOR;
		most = p->packed ? 1 : most;
	}
	while (n < most && le32toh(entry[n]) == first + (uint64_t)n * step &&
		(!step || is_grain(p, le32toh(entry[n]))))
		n++;
	return n;
}

int vmdk_table_run(
	const struct vmdk_part *p, const uint32_t *entry, uint64_t off, struct vmdk_run *run)
{
	uint32_t within = (uint32_t)off & (p->grain - 1);
	unsigned i = (unsigned)(off >> p->grain_bits) & (p->gtes - 1);
	uint64_t most = MIN(p->gtes - i, ((within + run->len - 1) >> p->grain_bits) + 1);
	uint32_t first = le32toh(entry[i]);

	if (!first)
		run->kind = VMDK_ABSENT;
	else if (first == ENTRY_ZEROES && p->zeroed)
		run->kind = VMDK_ZEROES;
	else if (is_grain(p, first))
		run->kind = p->packed ? VMDK_PACKED : VMDK_DATA;
	else
		return vmdk_corrupt(p,
			(uint64_t)le32toh(p->gd[off >> p->covers_bits]) * BLK_SECTOR + i * 4,
			"an entry of a grain table that is no grain's place", first);
	run->at = (uint64_t)first * BLK_SECTOR + (p->packed ? 0 : within);
	run->len = MIN(run->len,
		((uint64_t)count_alike(p, entry + i, (unsigned)most) << p->grain_bits) - within);
	return 0;
}

/* ---- finding them ---- */

static struct vmdk_table *set_of(const struct vmdk_part *p, uint32_t index)
{
	const struct vmdk *d = p->disk;
	uint32_t n = index + (uint32_t)(p - d->part) * 7;

	return d->table + n % VMDK_SETS * VMDK_WAYS;
}

struct vmdk_table *vmdk_table_peek(const struct vmdk_part *p, uint32_t index)
{
	struct vmdk_table *t = set_of(p, index);

	for (unsigned i = 0; i < VMDK_WAYS; i++)
		if (t[i].part == p && t[i].index == index)
			return &t[i];
	return NULL;
}

/* One of the set that can make room; *dirty: some have to be written first. */
static struct vmdk_table *oldest(struct vmdk_table *set, bool *dirty)
{
	struct vmdk_table *old = NULL;

	for (struct vmdk_table *t = set; t < set + VMDK_WAYS; t++) {
		if (!t->part)
			return t;
		*dirty = *dirty || (t->dirty && !t->pins);
		if (t->loading || t->dirty || t->writing || t->pins)
			continue;
		if (!old || (int32_t)(t->used - old->used) < 0)
			old = t;
	}
	return old;
}

struct vmdk_table *vmdk_table_get(struct vmdk_part *p, uint32_t index, struct vmdk_split *s)
{
	struct vmdk *d = p->disk;
	struct vmdk_table *t = vmdk_table_peek(p, index);
	bool dirty = false;

	if (t && !t->loading) {
		t->used = ++d->clock;
		return t;
	}
	if (t) {
		vmdk_stall(s, &t->line);
		return NULL;
	}
	t = oldest(set_of(p, index), &dirty);
	if (t && (p->gd[index] || !d->making)) {
		vmdk_stall(s, &t->line);
		vmdk_table_bring(t, p, index);
		return NULL;
	}
	vmdk_stall(s, &d->room);
	if (!t && dirty)
		vmdk_cycle(d);
	return NULL;
}
