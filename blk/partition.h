// SPDX-License-Identifier: MIT
// Where a partition lies on a disk, by the disk's own table: MBR with logical partitions, or GPT.
//
// Numbers are those of Linux: in an MBR the primary ones are 1 to 4 and the logical ones go on from
// 5; in a GPT it is the entry's place, from 1. Sectors are of 512 bytes, as the guest sees the
// disk.
#ifndef BLK_PARTITION_H
#define BLK_PARTITION_H

#include <stdint.h>

#define PARTITION_MAX 128u

struct partition {
	uint64_t off, len; /* bytes, in whole sectors; within the disk, and not at its start */
};

/*
 * Looks partition `number` up, 1 to PARTITION_MAX. `fd` is a disk of `size` bytes, and is only
 * read; `name` is for messages. 0, or -errno with a message: -ENXIO where there is no such
 * partition, -EINVAL where there is no table or it is not sound. A GPT whose first copy is damaged
 * is taken from the second, which is warned about.
 */
int partition_find(struct partition *out, int fd, const char *name, uint64_t size, unsigned number);

#endif
