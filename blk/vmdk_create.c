// SPDX-License-Identifier: MIT
// An image that is one sparse extent, as VMware's and QEMU's tools make it: a header, the
// descriptor, the redundant directory with its tables, the directory with its tables, and grains
// from the next whole one on. The tables are holes in the file.
#include "base/log.h"
#include "base/loop.h"
#include "blk/now.h"
#include "blk/raw.h"
#include "blk/vmdk_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define GRAIN 128u /* sectors */
#define GTES 512u
#define TABLE 4u /* sectors */
#define TEXT 1u
#define TEXT_LEN 20u
#define SECTORS_MAX (1ull << 32) /* of the file */

/* Where all of it is, in sectors. */
struct layout {
	uint64_t capacity, gdes, directory, rgd, gd, overhead;
};

static void lay_out(struct layout *l, uint64_t size)
{
	l->capacity = size / BLK_SECTOR;
	l->gdes = (l->capacity - 1) / (GRAIN * GTES) + 1;
	l->directory = align_up(l->gdes * 4, BLK_SECTOR) / BLK_SECTOR;
	l->rgd = TEXT + TEXT_LEN;
	l->gd = l->rgd + l->directory + l->gdes * TABLE;
	l->overhead = align_up(l->gd + l->directory + l->gdes * TABLE, GRAIN);
}

static void put_header(uint8_t *s, const struct layout *l)
{
	put_le32(s, VMDK_MAGIC);
	put_le32(s + 4, 1);
	put_le32(s + 8, VMDK_NEWLINES | VMDK_REDUNDANT);
	put_le64(s + 12, l->capacity);
	put_le64(s + 20, GRAIN);
	put_le64(s + 28, TEXT);
	put_le64(s + 36, TEXT_LEN);
	put_le32(s + 44, GTES);
	put_le64(s + 48, l->rgd);
	put_le64(s + 56, l->gd);
	put_le64(s + 64, l->overhead);
	memcpy(s + 73, "\n \r\n", 4);
}

/* 63 sectors and 16 heads are what an IDE disk has. */
static int put_text(char *text, size_t len, const struct layout *l, const char *name)
{
	uint32_t cid = (uint32_t)now_ns() * 2654435761u;
	int n = snprintf(text, len,
		"# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=ffffffff\n"
		"createType=\"monolithicSparse\"\n\n# Extent description\n"
		"RW %llu SPARSE \"%s\"\n\n# The Disk Data Base\n#DDB\n\n"
		"ddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"%llu\"\n"
		"ddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\n"
		"ddb.adapterType = \"ide\"\n",
		cid == UINT32_MAX ? 1 : cid, (unsigned long long)l->capacity, name,
		(unsigned long long)(l->capacity / (16ull * 63)));

	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

static int write_directory(struct blk *file, const struct layout *l, uint64_t at)
{
	uint64_t len = l->directory * BLK_SECTOR;
	uint8_t *buf = calloc(1, len);
	int rc;

	if (!buf)
		return -ENOMEM;
	for (uint64_t i = 0; i < l->gdes; i++)
		put_le32(buf + i * 4, (uint32_t)(at + l->directory + i * TABLE));
	rc = blk_write_now(file, at * BLK_SECTOR, buf, len);
	free(buf);
	return rc;
}

/* The header last but for the flush: until then it is no image. */
static int write_all(struct blk *file, const struct layout *l, const char *name)
{
	char text[TEXT_LEN * BLK_SECTOR] = {0};
	uint8_t header[BLK_SECTOR] = {0}, end[BLK_SECTOR] = {0};
	int rc = put_text(text, sizeof(text), l, name);

	put_header(header, l);
	rc = rc ? rc : blk_write_now(file, (l->overhead - 1) * BLK_SECTOR, end, sizeof(end));
	rc = rc ? rc : write_directory(file, l, l->rgd);
	rc = rc ? rc : write_directory(file, l, l->gd);
	rc = rc ? rc : blk_write_now(file, (uint64_t)TEXT * BLK_SECTOR, text, sizeof(text));
	rc = rc ? rc : blk_write_now(file, 0, header, sizeof(header));
	return rc ? rc : blk_flush_now(file);
}

int vmdk_create(struct blk *file, const char *name, uint64_t size)
{
	struct layout l;
	int rc;

	if (!size || size % BLK_SECTOR)
		return fail(EINVAL, "disk %s: %llu bytes are not whole sectors of 512", file->name,
			(unsigned long long)size);
	if (strpbrk(name, "\"\n\r") || strlen(name) > 255)
		return fail(EINVAL,
			"disk %s: a vmdk's name has no quotes or line ends, and at most 255 bytes",
			file->name);
	if (size / BLK_SECTOR > SECTORS_MAX)
		return fail(EFBIG, "disk %s: a vmdk of one file has at most 2 TiB", file->name);
	lay_out(&l, size);
	if (l.overhead + align_up(l.capacity, GRAIN) > SECTORS_MAX)
		return fail(EFBIG,
			"disk %s: a vmdk of one file has at most 2 TiB with its tables: %llu bytes "
			"are too many",
			file->name, (unsigned long long)size);
	rc = write_all(file, &l, name);
	return rc ? failno(-rc, "disk %s: making an image of it", file->name) : 0;
}
