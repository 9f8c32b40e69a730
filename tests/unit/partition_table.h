// SPDX-License-Identifier: MIT
// Partition tables for tests, in an image in memory: right, until a test makes them wrong.
#ifndef TESTS_UNIT_PARTITION_TABLE_H
#define TESTS_UNIT_PARTITION_TABLE_H

#include "base/util.h"

#include <zlib.h>

#define GPT_COUNT 128u
#define GPT_SIZE 128u

static inline void mbr_sign(uint8_t *sector)
{
	sector[510] = 0x55;
	sector[511] = 0xaa;
}

static inline void mbr_set(
	uint8_t *sector, unsigned index, uint8_t type, uint32_t first, uint32_t count)
{
	uint8_t *p = sector + 446 + (size_t)index * 16;

	mbr_sign(sector);
	p[4] = type;
	put_le32(p + 8, first);
	put_le32(p + 12, count);
}

/* A GPT that counts in sectors of `unit` bytes, 512 to begin with, in an image of `len` bytes. */
struct gpt {
	uint8_t *image;
	size_t len, unit;
};

static inline uint64_t gpt_last(const struct gpt *g)
{
	return g->len / g->unit - 1;
}

/* Where the second copy's entries are; the first's are in the sector after the header. */
static inline uint64_t gpt_last_entries(const struct gpt *g)
{
	return gpt_last(g) - GPT_COUNT * GPT_SIZE / g->unit;
}

/* Puts both sums of the header in `sector` right. */
static inline void gpt_seal(const struct gpt *g, uint64_t sector)
{
	uint8_t *h = g->image + sector * g->unit;
	uint64_t entries = get_le64(h + 72), bytes = (uint64_t)get_le32(h + 80) * get_le32(h + 84);
	uint32_t header = get_le32(h + 12);

	if (entries < g->len / g->unit && bytes <= g->len - entries * g->unit)
		put_le32(h + 88, (uint32_t)crc32(0, g->image + entries * g->unit, (uInt)bytes));
	put_le32(h + 16, 0);
	put_le32(h + 16, (uint32_t)crc32(0, h, header <= 512 ? header : 512));
}

static inline void gpt_header(const struct gpt *g, uint64_t sector, uint64_t entries)
{
	uint8_t *h = g->image + sector * g->unit;

	memcpy(h, "EFI PART\0\0\1\0", 12);
	put_le32(h + 12, 92);
	put_le64(h + 24, sector);
	put_le64(h + 32, gpt_last(g) - (sector == 1 ? 0 : sector - 1));
	put_le64(h + 40, 2 + GPT_COUNT * GPT_SIZE / g->unit);
	put_le64(h + 48, gpt_last_entries(g) - 1);
	put_le64(h + 72, entries);
	put_le32(h + 80, GPT_COUNT);
	put_le32(h + 84, GPT_SIZE);
}

/* An entry in both copies, from `first` to `last`. */
static inline void gpt_set(const struct gpt *g, unsigned index, uint64_t first, uint64_t last)
{
	const uint64_t entries[] = {2, gpt_last_entries(g)};

	for (unsigned i = 0; i < 2; i++) {
		uint8_t *e = g->image + entries[i] * g->unit + (size_t)index * GPT_SIZE;

		memset(e, 0x11, 32);
		put_le64(e + 32, first);
		put_le64(e + 40, last);
	}
	gpt_seal(g, 1);
	gpt_seal(g, gpt_last(g));
}

/* Both copies, without a partition. */
static inline void gpt_make(const struct gpt *g)
{
	mbr_set(g->image, 0, 0xee, 1, (uint32_t)gpt_last(g));
	gpt_header(g, 1, 2);
	gpt_header(g, gpt_last(g), gpt_last_entries(g));
	gpt_seal(g, 1);
	gpt_seal(g, gpt_last(g));
}

#endif
