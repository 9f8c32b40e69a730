// SPDX-License-Identifier: MIT
// What blk/chain*.c share.
#ifndef BLK_CHAIN_PARTS_H
#define BLK_CHAIN_PARTS_H

#include "blk/chain.h"
#include "blk/vmdk.h"

#include <sys/types.h>

struct chain_file {
	char *name; /* malloc'd, as messages have it */
	int fd;     /* -1: none yet, or used up */
	int lock;   /* of lock_image; 0: none */
	dev_t dev;
	ino_t ino;
};

struct chain_image {
	enum image_format format;
	unsigned own;           /* its file; those of extents that are named follow, in order */
	struct vmdk_info *vmdk; /* IMAGE_VMDK */
	char *backing;          /* the name, resolved; NULL: none */
};

struct chain {
	struct chain_options o;
	struct chain_image image[CHAIN_DEPTH_MAX];
	struct chain_file file[CHAIN_FILES_MAX];
	unsigned images, files;

	/* What headers are read with; the loop is NULL where the engine is the caller's. */
	struct blk_engine *engine;
	struct loop *loop;

	/* Of chain_take: where files come from. */
	int *fds;
	unsigned count;

	bool left;    /* the backing file, as the options want it */
	bool refused; /* other files are not to be opened: they are only looked at, to tell of */
};

#endif
