// SPDX-License-Identifier: MIT
// The header of a sparse extent (Virtual Disk Format 5.0, "Hosted Sparse Extents"): every field of
// it is held against the others and against the file, before anything is allocated for it.
#include "blk/vmdk_parts.h"

#include "base/log.h"
#include "blk/now.h"
#include "blk/raw.h"

#include <errno.h>

/* Sectors: 4 KiB, as the format has it, to 1 MiB; VMware's are 64 KiB. */
#define GRAIN_MIN 8u
#define GRAIN_MAX 2048u
#define GTES_MIN 128u
#define VERSION_MAX 3u
#define END_MARKER 0u
#define FOOTER_MARKER 3u

/* ---- fields ---- */

static int bad(int err, const struct blk *file, const char *field, uint64_t value, const char *why)
{
	return fail(err, "disk %s: header of a sparse extent: %s is %llu, %s", file->name, field,
		(unsigned long long)value, why);
}

static bool power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

static int check_kind(const struct vmdk_header *h, const struct blk *file)
{
	const uint8_t *s = h->sector;
	uint16_t algorithm = get_le16(s + 77);
	bool packed = h->flags & VMDK_COMPRESSED;

	if (get_le32(s) != VMDK_MAGIC)
		return bad(EINVAL, file, "magic", get_le32(s), "not KDMV");
	if (!h->version || h->version > VERSION_MAX)
		return bad(ENOTSUP, file, "version", h->version, "not 1 to 3");
	if (h->flags & VMDK_MUST_KNOW & ~(uint32_t)(VMDK_COMPRESSED | VMDK_MARKERS))
		return bad(ENOTSUP, file, "flags", h->flags, "with bits that are not known");
	if (packed != !!(h->flags & VMDK_MARKERS))
		return bad(ENOTSUP, file, "flags", h->flags,
			"with one alone of compression and markers, which is not known");
	if (algorithm != packed)
		return bad(ENOTSUP, file, "compressAlgorithm", algorithm,
			packed ? "not deflate" : "of grains that are not compressed");
	if (h->flags & VMDK_NEWLINES && memcmp(s + 73, "\n \r\n", 4) != 0)
		return bad(EINVAL, file, "singleEndLineChar and on", get_le32(s + 73),
			"not a line's end: the file was changed by a transfer as text");
	return 0;
}

static int check_sizes(struct vmdk_header *h, const struct blk *file)
{
	uint64_t covers = h->grain * h->gtes;

	if (!power_of_two(h->grain) || h->grain < GRAIN_MIN || h->grain > GRAIN_MAX)
		return bad(EINVAL, file, "grainSize", h->grain,
			"not a power of two from 8 to 2048 sectors");
	if (!power_of_two(h->gtes) || h->gtes < GTES_MIN || h->gtes > VMDK_GTES_MAX)
		return bad(EINVAL, file, "numGTEsPerGT", h->gtes, "not 128, 256 or 512");
	if (!h->capacity)
		return bad(EINVAL, file, "capacity", h->capacity, "nothing");
	if ((h->capacity - 1) / covers >= VMDK_GDES_MAX)
		return bad(EFBIG, file, "capacity", h->capacity,
			"which takes more than 1048576 grain tables");
	h->gdes = (uint32_t)((h->capacity - 1) / covers) + 1;
	return 0;
}

/* In sectors. */
static bool within(uint64_t at, uint64_t len, uint64_t size)
{
	return at && range_ok(at, len, (size + BLK_SECTOR - 1) / BLK_SECTOR);
}

static int check_places(const struct vmdk_header *h, const struct blk *file, uint64_t size)
{
	uint64_t len = align_up(h->gdes * 4ull, BLK_SECTOR) / BLK_SECTOR;

	if (!within(h->gd, len, size))
		return bad(EINVAL, file, "gdOffset", h->gd,
			"where the file has no room for a directory");
	if (h->flags & VMDK_REDUNDANT && !within(h->rgd, len, size))
		return bad(EINVAL, file, "rgdOffset", h->rgd,
			"where the file has no room for a directory");
	if (!within(h->overhead, 0, size))
		return bad(EINVAL, file, "overHead", h->overhead,
			"not within the file: it is cut short");
	if (h->text && h->text_len > VMDK_TEXT_MAX / BLK_SECTOR)
		return bad(EINVAL, file, "descriptorSize", h->text_len, "more than 128 sectors");
	if (h->text && !within(h->text, h->text_len, size))
		return bad(EINVAL, file, "descriptorOffset", h->text,
			"where the file has no room for the descriptor");
	return 0;
}

/* ---- reading ---- */

static void parse(struct vmdk_header *h)
{
	const uint8_t *s = h->sector;

	h->version = get_le32(s + 4);
	h->flags = get_le32(s + 8);
	h->capacity = get_le64(s + 12);
	h->grain = get_le64(s + 20);
	h->text = get_le64(s + 28);
	h->text_len = get_le64(s + 36);
	h->gtes = get_le32(s + 44);
	h->rgd = get_le64(s + 48);
	h->gd = get_le64(s + 56);
	h->overhead = get_le64(s + 64);
}

/* A stream ends with a marker, the header once more with what was not known before, a marker. */
static int read_footer(struct vmdk_header *h, struct blk *file, uint64_t size)
{
	uint8_t end[3 * BLK_SECTOR];
	uint64_t text = h->text, text_len = h->text_len;
	int rc;

	if (size % BLK_SECTOR || size < 4ull * BLK_SECTOR)
		return fail(EINVAL, "disk %s: %llu bytes do not end with a footer: it is cut short",
			file->name, (unsigned long long)size);
	rc = blk_read_now(file, size - sizeof(end), end, sizeof(end));
	if (rc)
		return failno(-rc, "disk %s: footer", file->name);
	if (get_le32(end + 8) || get_le32(end + 12) != FOOTER_MARKER)
		return fail(EINVAL, "disk %s: byte %llu is no footer's marker: it is cut short",
			file->name, (unsigned long long)(size - sizeof(end)));
	if (get_le64(end + 1024) || get_le32(end + 1032) || get_le32(end + 1036) != END_MARKER)
		return fail(EINVAL, "disk %s: byte %llu is not the end of a stream", file->name,
			(unsigned long long)(size - BLK_SECTOR));
	memcpy(h->sector, end + BLK_SECTOR, BLK_SECTOR);
	parse(h);
	h->text = text;
	h->text_len = text_len;
	return check_kind(h, file);
}

int vmdk_header_read(struct vmdk_header *h, struct blk *file, uint64_t *size)
{
	int64_t bytes = raw_file_size(file);
	int rc;

	if (bytes < 0)
		return (int)bytes;
	*size = (uint64_t)bytes;
	rc = blk_read_now(file, 0, h->sector, BLK_SECTOR);
	if (rc)
		return failno(-rc, "disk %s: header of a sparse extent", file->name);
	parse(h);
	rc = check_kind(h, file);
	if (!rc && h->gd == VMDK_AT_END)
		rc = read_footer(h, file, *size);
	rc = rc ? rc : check_sizes(h, file);
	return rc ? rc : check_places(h, file, *size);
}
