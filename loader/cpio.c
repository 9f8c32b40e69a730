// SPDX-License-Identifier: MIT
// Headers of cpio's "newc" format.
#include "loader/cpio.h"

static char *put_hex(char *to, uint32_t v)
{
	static const char digits[] = "0123456789ABCDEF";

	for (unsigned i = 8; i-- > 0; v >>= 4)
		to[i] = digits[v & 15];
	return to + 8;
}

void cpio_write_header(char *to, const struct cpio_entry *e)
{
	size_t name = strlen(e->name) + 1;
	const uint32_t field[] = {e->ino, e->mode, e->uid, e->gid, e->nlink, e->mtime, e->size, 0,
		0, /* device: inode numbers are the archive's own */
		e->rmajor, e->rminor, (uint32_t)name, 0 /* no checksum in this format */};

	memset(to, 0, cpio_header_size(name - 1));
	memcpy(to, "070701", 6);
	to += 6;
	for (size_t i = 0; i < ARRAY_SIZE(field); i++)
		to = put_hex(to, field[i]);
	memcpy(to, e->name, name);
}
