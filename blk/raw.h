// SPDX-License-Identifier: MIT
// A disk that is a regular file or a block device, byte for byte, or a part of one.
#ifndef BLK_RAW_H
#define BLK_RAW_H

#include "blk/blk.h"

#include <sys/types.h>

struct blk_engine;

enum raw_cache {
	RAW_WRITEBACK,    /* through the page cache; a flush makes durable */
	RAW_NONE,         /* past the page cache (O_DIRECT); a flush makes durable */
	RAW_WRITETHROUGH, /* through the page cache; each write is durable when completed */
	RAW_UNSAFE,       /* through the page cache; nothing is made durable */
};

/* As in enum raw_cache; NULL-terminated. */
extern const char *const raw_cache_names[];

struct raw_config {
	const char *name; /* for messages; borrowed for as long as the disk is there */
	char *own_name;   /* NULL, or `name` once more: malloc'd, taken on success */
	int fd;           /* open for reading, and for writing unless read_only; taken on success */
	int lock_fd;      /* of lock_image; taken on success; 0: none */
	bool read_only;
	enum raw_cache cache;
	uint64_t off, len; /* bytes: the part of the file that is the disk; len 0: to its end */
	bool holds_format; /* see below */
};

/*
 * A file that holds a format has no size of its own to the format: what is past its end reads as
 * zeroes, and a write there makes it larger. Its disk's size is this, but that of a device, which
 * ends where it does.
 */
#define RAW_SIZE_MAX ((uint64_t)INT64_MAX & ~(uint64_t)0xffff)

/* How many bytes a disk of raw_create has on its file system now, whatever its `size`; or
 * -errno. */
int64_t raw_file_size(struct blk *b);

/*
 * 0 or -errno. Refused: what is neither file nor device, what is empty, what is not whole sectors,
 * a part that is not within the file.
 * RAW_NONE sets O_DIRECT on the open file, and is -EINVAL where the file system has none. Requests
 * whose memory or range is not aligned as that needs are done one at a time through a buffer.
 */
int raw_create(struct blk **out, struct blk_engine *e, const struct raw_config *c);

/* Where its lock_fd is kept; NULL: it is another kind of disk. */
int *raw_lock(struct blk *b);

/* 0, or -EINVAL with a message that says what it is where it is neither file nor block device. */
int raw_check_kind(mode_t mode, const char *name);

#endif
