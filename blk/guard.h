// SPDX-License-Identifier: MIT
// Keeps a guest from giving its disk another format, where the format was found out by probing.
//
// A raw image is what has no format's magic. A guest that writes one into its first sector would
// have its disk opened as that format next time, with whatever file of the host the guest names as
// the backing file. Such a write fails with -EPERM.
#ifndef BLK_GUARD_H
#define BLK_GUARD_H

#include "blk/blk.h"

/* Stands on `below`, which it takes on success. 0 or -ENOMEM. */
int guard_create(struct blk **out, struct blk *below);

#endif
