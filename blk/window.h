// SPDX-License-Identifier: MIT
// A part of a disk, as a partition is, as a disk of its own.
#ifndef BLK_WINDOW_H
#define BLK_WINDOW_H

#include "blk/blk.h"

/*
 * Bytes [off, off + len) of `below`, in whole sectors, which it takes on success. It stays as large
 * as that. There is at most one in a disk's layers. 0, -ENOMEM, or -EINVAL where `below` ends
 * before that.
 */
int window_create(struct blk **out, struct blk *below, uint64_t off, uint64_t len);

#endif
