// SPDX-License-Identifier: MIT
// Internal snapshots of an image at rest, for tools: nobody else has it open.
//
// Each change is made ready in clusters that are not in use, then the refcounts that have to be
// higher are made so, and one write of the header's sector switches to it; what is lower comes
// last. Before each of these steps the ones before are durable, so that a crash leaves the image as
// it was or as it is to be, with clusters that nobody uses, or COPIED flags that are missing, at
// most. An image that is marked dirty is repaired first; one that is corrupt is refused.
#ifndef BLK_QCOW2_SNAPSHOT_H
#define BLK_QCOW2_SNAPSHOT_H

#include <stdint.h>

struct blk;

struct qcow2_snapshot {
	char *id, *name;                   /* UTF-8, as far as the image has it so */
	uint64_t disk_size, vm_state_size; /* bytes */
	uint64_t vm_clock_ns;
	uint32_t date_s, date_ns; /* since 1970 */
};

struct qcow2_snapshots {
	struct qcow2_snapshot *list; /* oldest first */
	unsigned count;
};

/* `file` is a raw disk that `holds_format`. 0, or -errno with a message. */
int qcow2_snapshot_list(struct qcow2_snapshots *out, struct blk *file);
/* Zeroed memory is fine. */
void qcow2_snapshot_finish(struct qcow2_snapshots *s);

/*
 * Makes one of the disk as it is. The name is 1 to 255 bytes, and no snapshot's name or id. The
 * time is `date_s` and `date_ns`. 0, or -errno with a message.
 */
int qcow2_snapshot_create(struct blk *file, const char *name, uint32_t date_s, uint32_t date_ns);

/*
 * Makes the disk what it was, in its size too; what it is now is lost. Bitmaps of what was changed
 * are given up. `which` is a name, or where no snapshot has that, an id. 0, or -errno with a
 * message: -ENOENT where there is none.
 */
int qcow2_snapshot_apply(struct blk *file, const char *which);

/* As qcow2_snapshot_apply. */
int qcow2_snapshot_delete(struct blk *file, const char *which);

#endif
