// SPDX-License-Identifier: MIT
// The COPIED flags of an image at rest: what is referred to once may be written where it is.
#ifndef BLK_QCOW2_FLAGS_H
#define BLK_QCOW2_FLAGS_H

#include "blk/qcow2_count.h"

enum {
	QCOW2_FLAGS_CLEAR = 1 << 0, /* those that must not be set */
	QCOW2_FLAGS_SET = 1 << 1,   /* those that are missing */
	QCOW2_FLAGS_TELL = 1 << 2,  /* what is wrong goes to the report */
};

/* Goes through the L1 table of the disk and its L2 tables, after qcow2_refs_pass has found out
 * which refcounts are 1. What is written is durable when it returns. 0 or -errno. */
int qcow2_flags_pass(struct qcow2_count *c, unsigned how);

#endif
