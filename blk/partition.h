// SPDX-License-Identifier: MIT
// Where a partition lies on a disk, by the disk's own table: MBR with logical partitions, or GPT.
//
// Numbers are those of Linux: in an MBR the primary ones are 1 to 4 and the logical ones go on from
// 5; in a GPT it is the entry's place, from 1. A table counts in sectors of the disk that it was
// made on: of a device that is what it has, of a file 512 bytes; a GPT is also looked for as one
// that counts in 4096, or 512 on a device that has those.
#ifndef BLK_PARTITION_H
#define BLK_PARTITION_H

#include <stdint.h>

struct blk;

#define PARTITION_MAX 128u

struct partition {
	uint64_t off, len; /* bytes, in whole sectors; within the disk, and not at its start */
	unsigned sector;   /* what the table counts in: 512 or 4096 bytes */
};

/*
 * Looks partition `number` of the disk up, 1 to PARTITION_MAX. Reads as blk/now.h does. 0, or
 * -errno with a message: -ENXIO where there is no such partition, -EINVAL where there is no table
 * or it is not sound. A GPT whose first copy is damaged is taken from the second, which is warned
 * about.
 */
int partition_find(struct partition *out, struct blk *b, unsigned number);

#endif
