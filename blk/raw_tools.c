// SPDX-License-Identifier: MIT
// What tools ask of a file: where its holes are, and another size.
#include "blk/raw_parts.h"

#include "base/log.h"

#include <errno.h>
#include <unistd.h>

/* Where there is data or a hole at or after `at`, at most `end`. */
static uint64_t find(const struct raw *w, int whence, uint64_t at, uint64_t end)
{
	off_t found = lseek(w->file.fd, (off_t)at, whence);

	if (found < 0)
		return errno == ENXIO ? end : at;
	return MIN((uint64_t)found, end);
}

int raw_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	const struct raw *w = container_of(b, struct raw, blk);
	uint64_t at = w->file.base + off, end = at + len, data;

	*out = (struct blk_extent){.len = len, .kind = BLK_EXTENT_DATA, .placed = true, .at = at};
	if (w->device)
		return 0;
	data = align_down(find(w, SEEK_DATA, at, end), BLK_SECTOR);
	if (data > at) {
		out->kind = BLK_EXTENT_ZERO;
		out->len = data - at;
	} else {
		uint64_t hole = find(w, SEEK_HOLE, at, end);

		if (hole > at)
			out->len = MIN(align_up(hole - at, BLK_SECTOR), len);
	}
	return 0;
}

int raw_resize(struct blk *b, uint64_t size)
{
	const struct raw *w = container_of(b, struct raw, blk);

	if (w->device || w->len)
		return fail(
			ENOTSUP, "disk %s: only a whole file can be given another size", b->name);
	if (ftruncate(w->file.fd, (off_t)size) < 0)
		return failno(errno, "disk %s", b->name);
	if (!w->file.endless)
		b->size = size;
	return 0;
}

int64_t raw_file_size(struct blk *b)
{
	return raw_file_bytes(container_of(b, struct raw, blk));
}
