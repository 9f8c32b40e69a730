// SPDX-License-Identifier: MIT
// A throw-away layer: what is written stays in memory and ends with the disk; the disk below is
// only read.
//
// Memory is taken 64 KiB at a time when first written to, so at most the disk's size of it. Where
// the host gives none, the write fails with -ENOMEM. A flush does nothing, as nothing is to last.
#ifndef BLK_OVERLAY_MEMORY_H
#define BLK_OVERLAY_MEMORY_H

#include "blk/blk.h"

/* Stands on `below`, which it takes on success. The size is as it is now. 0 or -ENOMEM. */
int overlay_memory_create(struct blk **out, struct blk *below);

#endif
