// SPDX-License-Identifier: MIT
// kvick image resize
#include "base/log.h"
#include "base/util.h"
#include "blk/now.h"
#include "cli/image/image.h"

#include <errno.h>

/* "20G", "+1G" or "-512M", of a disk of `now` bytes. */
static int parse(const char *text, uint64_t now, uint64_t *size)
{
	char sign = *text == '+' || *text == '-' ? *text++ : 0;
	uint64_t n;

	if (parse_size(text, &n) < 0)
		return fail(EINVAL,
			"size %s: must be a size: MiB, or with a suffix B, K, M, G or T", text);
	if (sign == '-' && n >= now)
		return fail(EINVAL, "the disk has %llu bytes: nothing would be left of it",
			(unsigned long long)now);
	if (sign == '+' && n > RAW_SIZE_MAX - now)
		return fail(EINVAL, "size +%s: is too much", text);
	*size = sign == '+' ? now + n : sign == '-' ? now - n : n;
	if (*size % BLK_SECTOR || !*size || *size > RAW_SIZE_MAX)
		return fail(EINVAL, "size: %llu bytes are not whole sectors of %u, or out of range",
			(unsigned long long)*size, BLK_SECTOR);
	return 0;
}

static int resize(const struct image_options *o, struct blk *b)
{
	uint64_t size = 0;
	int rc = parse(o->words.items[1], b->size, &size);

	if (rc)
		return rc;
	if (size < b->size && !o->shrink)
		return fail(EINVAL,
			"the disk has %llu bytes: what is past %llu would be lost; "
			"--shrink does it",
			(unsigned long long)b->size, (unsigned long long)size);
	rc = blk_resize(b, size);
	return rc ? rc : blk_flush_now(b);
}

int image_resize(struct tool *t)
{
	const struct image_options *o = t->o;
	const char *path = o->words.items[0];
	const struct tool_image i = {.path = path, .format = o->format, .write = true};
	struct blk *b;
	int rc = tool_open(t, &b, &i);

	if (rc)
		return rc;
	rc = resize(o, b);
	blk_destroy(b);
	return rc ? fail_context(rc, "%s", path) : 0;
}
