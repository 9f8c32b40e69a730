// SPDX-License-Identifier: MIT
// Finds an image's descriptor: the file is one, or a sparse extent that has one embedded.
#include "base/log.h"
#include "blk/now.h"
#include "blk/raw.h"
#include "blk/vmdk_parts.h"

#include <errno.h>
#include <stdlib.h>

/* Nothing that a terminal would take for more than text; *text is NUL-terminated. */
static int check_text(const char *text, const char *name)
{
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' ? !strchr("\t\r\n", *p) : *p == 0x7f)
			return fail(EINVAL, "disk %s: byte %zu of its descriptor is not text", name,
				(size_t)(p - text));
	return 0;
}

static int read_text(struct vmdk_info *out, struct blk *file, uint64_t at, uint64_t len)
{
	char *text = calloc(1, VMDK_TEXT_MAX + 1);
	int rc;

	if (!text)
		return fail(ENOMEM, "disk %s: no memory", file->name);
	rc = blk_read_now(file, at, text, len);
	if (rc)
		rc = failno(-rc, "disk %s: descriptor", file->name);
	rc = rc ? rc : check_text(text, file->name);
	rc = rc ? rc : vmdk_text_read(out, text, file->name, at != 0);
	free(text);
	out->cid_at += at;
	return rc;
}

static int look_embedded(struct vmdk_info *out, struct blk *file)
{
	struct vmdk_header h;
	uint64_t size;
	int rc = vmdk_header_read(&h, file, &size);

	if (rc)
		return rc;
	if (!h.text || !h.text_len)
		return fail(EINVAL,
			"disk %s: descriptorOffset is 0: it is an extent of an image, whose "
			"descriptor is another file",
			file->name);
	rc = read_text(out, file, h.text * BLK_SECTOR, h.text_len * BLK_SECTOR);
	if (!rc && out->size != h.capacity * BLK_SECTOR)
		rc = fail(EINVAL, "disk %s: its descriptor has %llu bytes, its header %llu",
			file->name, (unsigned long long)out->size,
			(unsigned long long)(h.capacity * BLK_SECTOR));
	return rc;
}

static int look_text(struct vmdk_info *out, struct blk *file)
{
	int64_t size = raw_file_size(file);

	if (size < 0)
		return (int)size;
	if ((uint64_t)size > VMDK_TEXT_MAX)
		return fail(EINVAL,
			"disk %s: neither a sparse extent, nor a descriptor, which has at most "
			"%llu bytes",
			file->name, (unsigned long long)VMDK_TEXT_MAX);
	return read_text(out, file, 0, align_up((uint64_t)size, BLK_SECTOR));
}

int vmdk_look(struct vmdk_info *out, struct blk *file)
{
	uint8_t start[BLK_SECTOR];
	int rc = blk_read_now(file, 0, start, sizeof(start));

	if (rc)
		return failno(-rc, "disk %s", file->name);
	if (get_le32(start) == VMDK_MAGIC)
		return look_embedded(out, file);
	if (memcmp(start, "COWD", 4) == 0)
		return fail(ENOTSUP, "disk %s: a sparse extent of VMFS (COWD) is not supported",
			file->name);
	return look_text(out, file);
}
