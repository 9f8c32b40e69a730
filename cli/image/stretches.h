// SPDX-License-Identifier: MIT
// What of a disk is to be copied, found out some stretches ahead: a disk can be asked what it is
// only while no requests are under way.
#ifndef CLI_IMAGE_STRETCHES_H
#define CLI_IMAGE_STRETCHES_H

#include "blk/blk.h"

#define STRETCHES_MAX 1024u

struct stretch {
	uint64_t off, len;
	bool zero; /* is to be made zeroes, not copied */
};

struct stretches {
	struct blk *from;
	uint64_t grain; /* bytes, a power of two: stretches are whole ones, but at the disk's end */
	bool own;       /* only what the image itself has, and then zeroes too */
	uint64_t pos;   /* up to where it is found out */
	unsigned count;
	struct stretch at[STRETCHES_MAX]; /* in order, none beside or over another */
};

/* Fills in the next ones: how many, 0 at the end of the disk, or -errno with a message. */
int stretches_next(struct stretches *s);

#endif
