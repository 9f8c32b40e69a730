// SPDX-License-Identifier: MIT
// Whether a qcow2 image's books are right, and putting them right: `kvick image check`, and the
// opening of an image whose dirty bit is set.
//
// Every table is walked and every reference to a cluster counted; the counts are held against the
// stored refcounts, the COPIED flags against those. Memory is four bytes a cluster of the file, of
// those that are referred to; a file of more clusters than QCOW2_CHECK_CLUSTERS is refused. Time
// goes with what the file has on its file system: each table is read once, however often it is
// referred to, and holes are passed over.
//
// A repair changes no data and no mapping. Until the last step, which clears the dirty and the
// corrupt bit, a crash leaves the image no worse than it was.
#ifndef BLK_QCOW2_CHECK_H
#define BLK_QCOW2_CHECK_H

#include <stdint.h>

struct blk;

#define QCOW2_CHECK_CLUSTERS (1ull << 29)

enum qcow2_repair {
	QCOW2_REPAIR_NOTHING,
	QCOW2_REPAIR_LEAKS, /* refcounts that are too high */
	QCOW2_REPAIR_ALL,   /* refcounts and COPIED flags */
};

struct qcow2_report {
	/* Set by who calls: is told of each finding, but no more than a hundred of them, in a line
	 * that names the byte of the file; NULL: nobody is. */
	void (*found)(void *arg, const char *line);
	void *arg;

	/* What is wrong with the image, after a repair: still. */
	uint64_t check_errors; /* tables that could not be read */
	uint64_t corruptions;
	uint64_t flags; /* of the corruptions: COPIED flags that are missing, which cost a copy each
			 */
	uint64_t leaks; /* clusters that are counted and not used, or not as often */
	uint64_t corruptions_fixed, leaks_fixed;

	uint64_t total_clusters; /* of the disk; the next three are of these */
	uint64_t allocated_clusters, fragmented_clusters, compressed_clusters;
	uint64_t image_end; /* bytes: no cluster from here on is in use */
};

/*
 * Checks the image in `file`, a raw disk that `holds_format` and that nobody else uses. What is in
 * doubt is kept: no refcount is lowered while there is a table or an entry that makes no sense. The
 * dirty and corrupt bits are cleared by a repair after which nothing is corrupt.
 * 0 whatever was found; -errno with a message where the image cannot be checked at all, or not be
 * written to.
 */
int qcow2_check(struct qcow2_report *out, struct blk *file, enum qcow2_repair what);

#endif
