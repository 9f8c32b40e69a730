// SPDX-License-Identifier: MIT
// A throw-away layer: what is written goes to a second disk, at the same place, and is read from
// there; the disk below is only read.
//
// Which sectors the second disk has is a bit each in memory, 256 KiB for a GiB that is written all
// over; so a write needs nothing from below, and storage that the second disk lacks is missed by
// the one write that wants it. A flush does nothing, as nothing is to last.
#ifndef BLK_OVERLAY_H
#define BLK_OVERLAY_H

#include "blk/blk.h"

/*
 * Stands on `below` and on `upper`, of the same loop, and takes both on success. What `upper` holds
 * at first is of no account. The size is that of `below` as it is now. 0, -ENOMEM, or -EINVAL where
 * `upper` is smaller.
 */
int overlay_create(struct blk **out, struct blk *below, struct blk *upper);

#endif
