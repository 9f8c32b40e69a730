// SPDX-License-Identifier: MIT
// Copying what a disk has to another, several pieces at once.
#ifndef CLI_IMAGE_COPY_H
#define CLI_IMAGE_COPY_H

#include "cli/image/image.h"
#include "cli/image/progress.h"

struct copy {
	struct blk *from, *to; /* of the tool's engine; `to` is as large at least */
	uint64_t grain;        /* bytes, a power of two: what `to` allocates at once */
	/*
	 * Only what the image `from` itself has is copied, zeroes included. Else all is, `to` has
	 * none but zeroes, and what is zeroes in whole grains is not written.
	 */
	bool own;
	int fd; /* the file of `to`, of which writing out begins early; -1: it does not */
	struct progress progress;
	uint64_t written; /* bytes */
	uint64_t begun;   /* of them, bytes that are on their way to the medium */
};

/* 0 or -errno with a message that names the file and the byte. */
int copy_run(struct copy *c, struct tool *t);

/* So much more has been written. */
void copy_wrote(struct copy *c, uint64_t len);

/* Whether `len` bytes, whole sectors at an aligned address, are all zero. */
bool copy_is_zero(const void *buf, uint64_t len);

#endif
