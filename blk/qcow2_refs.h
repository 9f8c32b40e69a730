// SPDX-License-Identifier: MIT
// The stored refcounts of an image at rest, and how they come to be what was counted.
#ifndef BLK_QCOW2_REFS_H
#define BLK_QCOW2_REFS_H

#include "blk/qcow2_count.h"

/* Marks of an entry of the table in memory, where the format has zeroes. */
#define QCOW2_REFS_BAD 1ull /* it points to no block */
#define QCOW2_REFS_NEW 2ull /* its block is not written yet */

/* Of qcow2_refs_pass. */
enum {
	QCOW2_REFS_RAISE = 1 << 0, /* those that are too low */
	QCOW2_REFS_LOWER = 1 << 1, /* those that are too high */
	QCOW2_REFS_WRITE = 1 << 2, /* else it is only found out what they would be */
	QCOW2_REFS_TELL = 1 << 3,  /* what is wrong goes to the report */
};

/* Reads the table and counts what it refers to. 0 or -errno. */
int qcow2_refs_load(struct qcow2_count *c);

/*
 * Goes through all refcounts, and notes which are 1 or would be. What is written is durable when it
 * returns. QCOW2_REFS_RAISE with WRITE is for when qcow2_refs_grow has been called. 0 or -errno.
 */
int qcow2_refs_pass(struct qcow2_count *c, unsigned how);

/*
 * Sees to it that each cluster that is in use has a place for its refcount: takes clusters for
 * blocks that are missing, and where the table is too small or makes no sense, writes a new one
 * with new blocks and has the header point to it. `exact`: there no refcount is higher than what
 * was counted. 0 or -errno.
 */
int qcow2_refs_grow(struct qcow2_count *c, bool exact);

/* Before the first write: clears the features that are to be cleared by who does not know them. The
 * change is durable. 0 or -errno with a message. */
int qcow2_header_prepare(struct blk *file, struct qcow2_header *h);

/* Changes the header's sector, durable. 0 or -errno with a message. */
int qcow2_header_write(
	struct blk *file, void (*change)(uint8_t *sector, const void *arg), const void *arg);

#endif
