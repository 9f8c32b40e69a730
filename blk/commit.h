// SPDX-License-Identifier: MIT
// An image is brought to its backing file while it is in use: who has that meanwhile, and in the
// end. The copying is done by a job of blk/mirror.h.
//
// The backing file is opened for writing as another disk, `target`, and takes the place of the one
// that only reads at once: two of them would not know of each other's changes.
#ifndef BLK_COMMIT_H
#define BLK_COMMIT_H

#include "blk/blk.h"

/* To be called before `target` is opened: what a job that has failed has left in memory comes to
 * the file, or the new disk would not know of it. 0, or -errno with a message. */
int commit_prepare(struct blk *b);

/*
 * `target` is made of the file that backs `b`, which is at rest. It is b's on success, with the
 * lock of the one that it replaces, now a writer's. 0; -EBUSY where another uses the file, -ENOTSUP
 * where there is none or it is neither raw nor qcow2, -EINVAL where the disk is larger than it.
 */
int commit_begin(struct blk *b, struct blk *target);

/* The lock of the backing file is a reader's, or is so again. */
void commit_cancel(struct blk *b);

/* `b` is to be destroyed and `target` to stay. */
void commit_end(struct blk *b);

#endif
