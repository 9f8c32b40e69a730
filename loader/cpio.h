// SPDX-License-Identifier: MIT
// Private to loader/: headers of the archive format that Linux reads as an initramfs.
//
// "newc", as Documentation/driver-api/early-userspace/buffer-format.rst of Linux has it: a header
// of 110 characters (a magic number and 13 fields of eight hexadecimal digits), the name with its
// NUL, zeroes to a multiple of four, the data, zeroes to a multiple of four. The last entry is
// called TRAILER!!!.
#ifndef LOADER_CPIO_H
#define LOADER_CPIO_H

#include "base/util.h"

#define CPIO_HEADER 110u
#define CPIO_TRAILER "TRAILER!!!"

struct cpio_entry {
	const char *name;
	uint32_t ino, mode, uid, gid, nlink, mtime, size, rmajor, rminor;
};

/* Bytes with zeroes up to a multiple of four. */
static inline uint64_t cpio_padded(uint64_t len)
{
	return align_up(len, 4);
}

/* Of the header with its name and the zeroes after it. */
static inline size_t cpio_header_size(size_t name_len)
{
	return (size_t)cpio_padded(CPIO_HEADER + name_len + 1);
}

/* Writes cpio_header_size bytes to `to`. */
void cpio_write_header(char *to, const struct cpio_entry *e);

#endif
