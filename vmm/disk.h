// SPDX-License-Identifier: MIT
// A disk from its file or device up to what the guest has: opened, locked, put together of layers.
#ifndef VMM_DISK_H
#define VMM_DISK_H

#include "vmm/disk_config.h"

#include <stdbool.h>
#include <stdint.h>

struct blk;
struct blk_engine;
struct loop;
struct virtio_device;

/* What a disk is opened as. */
struct disk_files {
	int image;
	int lock;          /* of lock_image; 0: none */
	int overlay;       /* a file that has no name any more; 0: none */
	uint64_t off, len; /* bytes: the part of the image that is the disk; len 0: all of it */
};

/*
 * Opens the file, locks it, looks what format it is in where that is not given, and where the
 * partitions are that are named, and makes the file of the overlay. 0, or -errno with a message
 * that names the file: -EBUSY where another uses it.
 */
int disk_open(const struct disk_config *d, struct disk_files *out);
void disk_close(const struct disk_files *files);

/*
 * The descriptors in the order in which they are passed to another process, DISK_FILES_MAX at most:
 * how many. And back: they are taken, -1 left in their place; -EINVAL where there are too few or
 * too many for such a disk. `off` and `len` are the caller's affair.
 */
#define DISK_FILES_MAX 3u
unsigned disk_files_list(const struct disk_files *files, int fds[DISK_FILES_MAX]);
int disk_files_take(
	const struct disk_config *d, int *fds, unsigned count, struct disk_files *files);

/* What a disk is made on; borrowed. */
struct disk_host {
	struct blk_engine *engine;
	struct loop *loop; /* the engine's */
	/* on-error=stop: the machine is to be paused, and why. On the loop's thread; never waits.
	 */
	void (*stopped)(void *arg, const char *why);
	void *arg;
};

/* A disk that a machine has. */
struct disk {
	const struct disk_config *cfg; /* borrowed */
	struct blk *blk;               /* all of it; the device's */
	struct blk *limit, *judge;     /* layers of it: blk/limit.h, blk/on_error.h */
	struct disk_limits limits;     /* as they are now */
	struct virtio_device *dev;     /* set by who makes one of `blk` */
	unsigned place;                /* and by who gives it one */
	struct disk_config *owned;     /* cfg, of one that came while the machine ran; else NULL */
};

/*
 * Makes out->blk of an open file, with the layers that `d` asks for. `files` are taken; `d` is
 * borrowed for as long as the disk is there. 0 or -errno.
 */
int disk_create(struct disk *out, const struct disk_config *d, const struct disk_files *files,
	const struct disk_host *host);

/* Other limits from now on, which disk_check_limits has passed. On the disk's loop. */
void disk_set_limits(struct disk *disk, const struct disk_limits *limits);

#endif
