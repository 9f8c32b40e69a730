// SPDX-License-Identifier: MIT
// A disk in memory, which ends with it: zeroes at first.
//
// Memory is taken 64 KiB at a time when first written to, so at most the disk's size of it. Where
// the host gives none, the write fails with -ENOMEM. A flush does nothing, as nothing is to last.
// Requests are completed within blk_submit.
#ifndef BLK_MEMORY_H
#define BLK_MEMORY_H

#include "blk/blk.h"

/* `size` in whole sectors; `name` is borrowed for as long as the disk is there. 0 or -ENOMEM. */
int memory_create(struct blk **out, const char *name, uint64_t size);

#endif
