// SPDX-License-Identifier: MIT
#include "cli/image/stretches.h"

#include "base/log.h"
#include "base/util.h"

static bool wanted(const struct stretches *s, const struct blk_extent *x)
{
	if (s->own)
		return x->depth == 0 && x->kind != BLK_EXTENT_ABSENT;
	return x->kind == BLK_EXTENT_DATA;
}

/* False: there is no room for it, and it is to be found again. */
static bool add(struct stretches *s, uint64_t end, bool zero)
{
	uint64_t off = align_down(s->pos, s->grain);
	struct stretch *last = s->count ? &s->at[s->count - 1] : NULL;

	end = MIN(align_up(end, s->grain), s->from->size);
	if (last && off <= last->off + last->len && zero == last->zero) {
		last->len = MAX(last->off + last->len, end) - last->off;
		return true;
	}
	if (s->count == STRETCHES_MAX)
		return false;
	s->at[s->count++] = (struct stretch){off, end - off, zero};
	return true;
}

int stretches_next(struct stretches *s)
{
	/* The last one may go on in the next piece of the list: a grain may be in both, and is
	 * written twice the same. */
	s->count = 0;
	while (s->pos < s->from->size) {
		struct blk_extent x;
		int rc = blk_map(s->from, s->pos, s->from->size - s->pos, &x);

		if (rc)
			return failno(-rc, "%s: byte %llu: what is there", s->from->name,
				(unsigned long long)s->pos);
		if (wanted(s, &x) && !add(s, s->pos + x.len, x.kind == BLK_EXTENT_ZERO))
			break;
		s->pos += x.len;
	}
	return (int)s->count;
}
