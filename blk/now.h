// SPDX-License-Identifier: MIT
// One request at a time, waited for: for opening a disk and for tools, where nothing else is under
// way on it. The loop is blocked meanwhile.
#ifndef BLK_NOW_H
#define BLK_NOW_H

#include "blk/blk.h"

/* `off` and `len` in whole sectors. `buf` need not be aligned, but is best to 4096 bytes. 0 or
 * -errno. */
int blk_read_now(struct blk *b, uint64_t off, void *buf, uint64_t len);
int blk_write_now(struct blk *b, uint64_t off, const void *buf, uint64_t len);
int blk_flush_now(struct blk *b);

/* BLK_DISCARD, or BLK_WRITE_ZEROES with `flags` of blk_flag. 0 or -errno. */
int blk_clear_now(struct blk *b, enum blk_op op, unsigned flags, uint64_t off, uint64_t len);

#endif
