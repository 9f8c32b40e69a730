// SPDX-License-Identifier: MIT
#include "blk/qcow2_scan.h"

#include "blk/now.h"
#include "blk/qcow2_format.h"

void qcow2_scan_begin(
	struct qcow2_scan *s, struct blk *file, uint64_t off, uint64_t len, unsigned stride)
{
	s->file = file;
	s->off = off;
	s->end = off + len;
	s->stride = stride;
	s->pos = s->piece_len = 0;
	s->changed = false;
}

static int write_back(struct qcow2_scan *s)
{
	if (!s->changed)
		return 0;
	s->changed = false;
	return blk_write_now(s->file, s->piece_off, s->piece, align_up(s->piece_len, BLK_SECTOR));
}

/* Where there is no map everything is data. */
static int next_piece(struct qcow2_scan *s)
{
	uint64_t left = align_up(s->end - s->off, BLK_SECTOR);
	struct blk_extent e;

	if (blk_map(s->file, s->off, left, &e))
		e = (struct blk_extent){.len = left, .kind = BLK_EXTENT_DATA};
	s->pos = s->piece_len = 0;
	s->piece_off = s->off;
	s->off += MIN(e.len, s->end - s->off);
	if (e.kind != BLK_EXTENT_DATA)
		return 0;
	s->piece_len = MIN(s->off - s->piece_off, QCOW2_SCAN_BYTES);
	s->off = s->piece_off + s->piece_len;
	return blk_read_now(s->file, s->piece_off, s->piece, align_up(s->piece_len, BLK_SECTOR));
}

static bool is_zero(const uint8_t *entry, unsigned len)
{
	return !get_be64(entry) && (len == 8 || !get_be64(entry + 8));
}

int qcow2_scan_next(struct qcow2_scan *s)
{
	int rc = 0;

	while (!rc) {
		while (s->pos < s->piece_len) {
			s->entry = s->piece + s->pos;
			s->at = s->piece_off + s->pos;
			s->pos += s->stride;
			if (!is_zero(s->entry, s->stride))
				return 1;
		}
		rc = write_back(s);
		if (!rc && s->off == s->end)
			return 0;
		rc = rc ? rc : next_piece(s);
	}
	return rc;
}

void qcow2_scan_put(struct qcow2_scan *s, uint64_t value)
{
	put_be64(s->entry, value);
	s->changed = true;
}

int qcow2_read_bytes(struct blk *file, uint64_t off, void *buf, size_t len)
{
	uint8_t sectors[2 * BLK_SECTOR];
	uint64_t start = align_down(off, BLK_SECTOR);
	int rc = blk_read_now(file, start, sectors, align_up(off + len, BLK_SECTOR) - start);

	memcpy(buf, sectors + (off - start), len);
	return rc;
}

bool qcow2_is_hole(struct blk *file, uint64_t off, uint64_t len)
{
	struct blk_extent e;

	return blk_map(file, off, len, &e) == 0 && e.kind != BLK_EXTENT_DATA && e.len == len;
}
