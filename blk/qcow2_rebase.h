// SPDX-License-Identifier: MIT
// Another name of the backing file in an image's header, for tools.
#ifndef BLK_QCOW2_REBASE_H
#define BLK_QCOW2_REBASE_H

struct blk;

/*
 * Writes name and format (NULL: it is not said) of the backing file into the image in `file`, as
 * qcow2_look has it, durable; name NULL: it has none. What the disk reads as is for the caller to
 * have seen to. 0, -ENOSPC where the first cluster has no room, or -errno, with a message.
 */
int qcow2_set_backing(struct blk *file, const char *name, const char *format);

#endif
