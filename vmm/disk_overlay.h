// SPDX-License-Identifier: MIT
// The file that a disk's overlay is in: thrown away at the end, or a qcow2 image that stays.
#ifndef VMM_DISK_OVERLAY_H
#define VMM_DISK_OVERLAY_H

#include "blk/chain.h"
#include "vmm/disk_config.h"

/* All zeroes: none, or in memory. */
struct disk_overlay {
	int fd;    /* 0: none */
	int lock;  /* of lock_image; 0: none */
	bool kept; /* a qcow2 image; else a file that has no name any more */
};

/* Whether there is a file at all. */
bool disk_overlay_in_file(const struct disk_config *d);

/*
 * Opens it, and makes it where it is not there. `format` is that of the image which it stands on. 0
 * or -errno with a message.
 */
int disk_overlay_open(
	struct disk_overlay *out, const struct disk_config *d, enum image_format format);
void disk_overlay_close(const struct disk_overlay *o);

/*
 * Stands it, or one in memory, on *b, which it becomes. The descriptors are taken, also on failure,
 * on which *b is as it was. 0 or -errno.
 */
int disk_overlay_add(struct blk **b, const struct disk_config *d, const struct disk_overlay *o,
	struct blk_engine *e, struct decompressor *decompressor);

#endif
