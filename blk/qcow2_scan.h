// SPDX-License-Identifier: MIT
// The entries of a table in an image at rest, but for those that are zero, one after another. Holes
// of the file are passed over. Entries may be changed on the way.
#ifndef BLK_QCOW2_SCAN_H
#define BLK_QCOW2_SCAN_H

#include "blk/blk.h"

#include "base/util.h"

#define QCOW2_SCAN_BYTES KIB(64)

struct qcow2_scan {
	struct blk *file;
	uint64_t off, end; /* bytes: what is to be read yet */
	unsigned stride;   /* bytes an entry */
	uint64_t at;       /* where the entry is in the file */
	uint8_t *entry;    /* and in memory */

	uint64_t piece_off;
	uint64_t piece_len, pos;
	bool changed;
	uint8_t piece[QCOW2_SCAN_BYTES];
};

/* Of a table at a sector's begin, of `len` bytes, in whole entries; all within the file's disk. */
void qcow2_scan_begin(
	struct qcow2_scan *s, struct blk *file, uint64_t off, uint64_t len, unsigned stride);

/* 1 with the next entry that is not zero, 0 at the end, -errno. What was changed is written when
 * the scan has gone on to its end. */
int qcow2_scan_next(struct qcow2_scan *s);

/* Changes the first eight bytes of the entry. */
void qcow2_scan_put(struct qcow2_scan *s, uint64_t value);

/* Reads any bytes, at most 512. 0 or -errno. */
int qcow2_read_bytes(struct blk *file, uint64_t off, void *buf, size_t len);

/* Whether it is a hole of the file as a whole. */
bool qcow2_is_hole(struct blk *file, uint64_t off, uint64_t len);

#endif
