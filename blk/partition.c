// SPDX-License-Identifier: MIT
// The table is the image's, and so whoever's the image is: each number in it is checked against the
// disk, chains end, and the sums of a GPT must be right (UEFI 2.10, 5.2 and 5.3).
#include "blk/partition.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/now.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MBR_ENTRIES 446
#define MBR_ENTRY 16
#define SECTOR_BIG 4096 /* bytes, where they are not BLK_SECTOR */
#define GPT_PROTECTIVE 0xee
#define GPT_MAGIC "EFI PART"
#define GPT_MAGIC_LEN 8
#define GPT_HEADER_MIN 92u
#define GPT_ENTRY_MIN 128u
#define GPT_ENTRY_MAX 4096u
#define GPT_TABLE_MAX MIB(1)

struct table {
	struct blk *disk;
	const char *name;
	unsigned sector;  /* bytes */
	uint64_t sectors; /* of the disk */
	unsigned number;  /* what is looked for */
};

struct mbr_entry {
	uint8_t flag, type;
	uint32_t first, count; /* sectors */
};

struct gpt_header {
	uint64_t entries; /* the sector at which they begin */
	uint32_t count, entry_size, entries_crc;
};

/* `len` in whole sectors of BLK_SECTOR. */
static int read_at(const struct table *t, uint64_t sector, void *buf, size_t len)
{
	int rc;

	if (!range_ok(sector, (len + t->sector - 1) / t->sector, t->sectors))
		return fail(EINVAL,
			"disk %s: its partition table goes on past its end, at sector %llu",
			t->name, (unsigned long long)sector);
	rc = blk_read_now(t->disk, sector * t->sector, buf, len);
	return rc ? failno(-rc, "disk %s: partition table", t->name) : 0;
}

static int none_such(const struct table *t)
{
	return fail(ENXIO, "disk %s: has no partition %u", t->name, t->number);
}

/* Sectors [first, first + count), as the table has them. */
static int take(struct partition *out, const struct table *t, uint64_t first, uint64_t count)
{
	if (!first || !count || !range_ok(first, count, t->sectors))
		return fail(EINVAL,
			"disk %s: partition %u is said to have %llu sectors from %llu on, the disk "
			"has %llu",
			t->name, t->number, (unsigned long long)count, (unsigned long long)first,
			(unsigned long long)t->sectors);
	*out = (struct partition){first * t->sector, count * t->sector, t->sector};
	return 0;
}

/* ---- GPT ---- */

/* CRC-32 as everyone has it (ISO 3309): a table is small and read once. */
static uint32_t crc32_of(const uint8_t *p, size_t len)
{
	uint32_t crc = UINT32_MAX;

	while (len--) {
		crc ^= *p++;
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

/* `sector` has a header that is whole and of that place. */
static int read_header(struct gpt_header *h, const struct table *t, uint64_t sector)
{
	uint8_t buf[BLK_SECTOR];
	uint32_t len, crc;
	int rc = read_at(t, sector, buf, sizeof(buf));

	if (rc)
		return rc;
	len = get_le32(buf + 12);
	crc = get_le32(buf + 16);
	if (memcmp(buf, GPT_MAGIC, GPT_MAGIC_LEN) != 0 || len < GPT_HEADER_MIN || len > sizeof(buf))
		return fail(EINVAL, "disk %s: no GPT header in sector %llu", t->name,
			(unsigned long long)sector);
	put_le32(buf + 16, 0);
	if (crc32_of(buf, len) != crc || get_le64(buf + 24) != sector)
		return fail(EINVAL, "disk %s: the GPT header in sector %llu is damaged", t->name,
			(unsigned long long)sector);
	*h = (struct gpt_header){
		.entries = get_le64(buf + 72),
		.count = get_le32(buf + 80),
		.entry_size = get_le32(buf + 84),
		.entries_crc = get_le32(buf + 88),
	};
	return 0;
}

/* The entries, malloc'd, whose sum is right. */
static int read_entries(uint8_t **out, const struct gpt_header *h, const struct table *t)
{
	uint64_t len = (uint64_t)h->count * h->entry_size;
	bool usual = h->entry_size >= GPT_ENTRY_MIN && h->entry_size <= GPT_ENTRY_MAX &&
		     !(h->entry_size & (h->entry_size - 1));
	int rc;

	if (!usual || !len || len > GPT_TABLE_MAX)
		return fail(EINVAL, "disk %s: a GPT of %u entries of %u bytes is not usable",
			t->name, h->count, h->entry_size);
	*out = malloc(align_up(len, BLK_SECTOR));
	if (!*out)
		return fail(ENOMEM, "disk %s: no memory", t->name);
	rc = read_at(t, h->entries, *out, align_up(len, BLK_SECTOR));
	if (!rc && crc32_of(*out, len) != h->entries_crc)
		rc = fail(EINVAL, "disk %s: the entries of its GPT are damaged", t->name);
	if (rc)
		free(steal_ptr(out));
	return rc;
}

static int read_gpt(uint8_t **entries, struct gpt_header *h, const struct table *t, uint64_t sector)
{
	int rc = read_header(h, t, sector);

	return rc ? rc : read_entries(entries, h, t);
}

static int find_gpt(struct partition *out, const struct table *t)
{
	static const uint8_t unused[16];
	CLEANUP_FREE uint8_t *entries = NULL;
	struct gpt_header h;
	const uint8_t *e;
	uint64_t first, last;
	int rc = read_gpt(&entries, &h, t, 1);

	if (rc == -EINVAL) {
		log_warn("%s; its second copy is tried", last_error());
		rc = read_gpt(&entries, &h, t, t->sectors - 1);
	}
	if (rc)
		return rc;
	e = entries + (size_t)(t->number - 1) * h.entry_size;
	if (t->number > h.count || memcmp(e, unused, sizeof(unused)) == 0)
		return none_such(t);
	first = get_le64(e + 32);
	last = get_le64(e + 40);
	/* Where it ends before it begins there are no sectors in it. */
	return take(out, t, first, last < first || last == UINT64_MAX ? 0 : last - first + 1);
}

/* ---- MBR ---- */

static struct mbr_entry entry_at(const uint8_t *sector, unsigned index)
{
	const uint8_t *p = sector + MBR_ENTRIES + (size_t)index * MBR_ENTRY;

	return (struct mbr_entry){p[0], p[4], get_le32(p + 8), get_le32(p + 12)};
}

static bool has_signature(const uint8_t *sector)
{
	return sector[510] == 0x55 && sector[511] == 0xaa;
}

static bool is_extended(const struct mbr_entry *e)
{
	return e->type == 0x05 || e->type == 0x0f || e->type == 0x85;
}

static bool has_type(const uint8_t *sector, uint8_t type)
{
	for (unsigned i = 0; i < 4; i++)
		if (entry_at(sector, i).type == type)
			return true;
	return false;
}

/*
 * Logical partitions are a chain: each link is a table with the partition, placed as counted from
 * the link, and the next link, as counted from where the whole extended partition begins.
 */
static int find_logical(
	struct partition *out, const struct table *t, const struct mbr_entry *extended)
{
	uint64_t link = extended->first;
	unsigned number = 4;

	for (unsigned links = 0; links < PARTITION_MAX; links++) {
		uint8_t sector[BLK_SECTOR];
		struct mbr_entry part, next;
		int rc = read_at(t, link, sector, sizeof(sector));

		if (rc)
			return rc;
		if (!has_signature(sector))
			return fail(EINVAL,
				"disk %s: no partition table in sector %llu, where one is to be",
				t->name, (unsigned long long)link);
		part = entry_at(sector, 0);
		next = entry_at(sector, 1);
		if (part.count && ++number == t->number)
			return take(out, t, link + part.first, part.count);
		if (!is_extended(&next) || !next.first)
			break;
		link = (uint64_t)extended->first + next.first;
	}
	return none_such(t);
}

static int find_mbr(struct partition *out, const struct table *t, const uint8_t *sector)
{
	struct mbr_entry e;

	if (t->number <= 4) {
		e = entry_at(sector, t->number - 1);
		if (!e.type || !e.count)
			return none_such(t);
		if (is_extended(&e))
			return fail(EINVAL,
				"disk %s: partition %u is one that holds others, which are 5 and "
				"on",
				t->name, t->number);
		return take(out, t, e.first, e.count);
	}
	for (unsigned i = 0; i < 4; i++) {
		e = entry_at(sector, i);
		if (is_extended(&e) && e.count)
			return find_logical(out, t, &e);
	}
	return none_such(t);
}

/* A file system's first sector may have the signature too, and text where the flags would be. */
static bool is_mbr(const uint8_t *sector)
{
	for (unsigned i = 0; i < 4; i++)
		if (entry_at(sector, i).flag & 0x7f)
			return false;
	return has_signature(sector);
}

/* Where either copy would begin with sectors of that size there is a header. */
static bool has_header(struct table t, uint64_t size, unsigned sector)
{
	uint8_t first[BLK_SECTOR] = {0}, last[BLK_SECTOR] = {0};

	t.sector = sector;
	t.sectors = size / sector;
	return (!read_at(&t, 1, first, sizeof(first)) &&
		       !memcmp(first, GPT_MAGIC, GPT_MAGIC_LEN)) ||
	       (!read_at(&t, t.sectors - 1, last, sizeof(last)) &&
		       !memcmp(last, GPT_MAGIC, GPT_MAGIC_LEN));
}

/* A copy of a disk has its table as it was there, whatever it lies on now. */
static void find_sector_size(struct table *t, uint64_t size)
{
	unsigned other = t->sector == BLK_SECTOR ? SECTOR_BIG : BLK_SECTOR;

	if (has_header(*t, size, t->sector) || !has_header(*t, size, other))
		return;
	t->sector = other;
	t->sectors = size / other;
}

int partition_find(struct partition *out, struct blk *b, unsigned number)
{
	/* Of a device its own; what a file was a copy of nobody knows. */
	unsigned own = b->sector == SECTOR_BIG ? SECTOR_BIG : BLK_SECTOR;
	struct table t = {b, b->name, own, b->size / own, number};
	uint8_t sector[BLK_SECTOR];
	int rc = read_at(&t, 0, sector, sizeof(sector));

	if (rc)
		return rc;
	if (!is_mbr(sector))
		return fail(EINVAL, "disk %s: has no partition table", b->name);
	if (has_type(sector, GPT_PROTECTIVE)) {
		find_sector_size(&t, b->size);
		return find_gpt(out, &t);
	}
	return find_mbr(out, &t, sector);
}
