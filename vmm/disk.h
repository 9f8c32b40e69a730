// SPDX-License-Identifier: MIT
// A disk from its file or device up to what the guest has: opened, locked, put together of layers.
#ifndef VMM_DISK_H
#define VMM_DISK_H

#include "vmm/decompress_helper.h"
#include "vmm/disk_config.h"
#include "vmm/disk_overlay.h"

#include <stdbool.h>
#include <stdint.h>

struct blk;
struct blk_engine;
struct loop;
struct virtio_device;

/* What a disk is opened as. */
struct disk_files {
	struct chain *chain; /* the image and what it names; NULL: `fds` are its, `count` of them */
	int *fds;
	unsigned count;
	enum image_format format; /* with a chain: the image's */
	struct disk_overlay overlay;
	struct decompress_helper *helper; /* for this disk alone, malloc'd; NULL: the machine's */
};

/*
 * Opens the files, locks them, looks what format the image is of where that is not given, and makes
 * the overlay's file. 0, or -errno with a message that names the file: -EBUSY where another uses
 * it.
 */
int disk_open(const struct disk_config *d, struct disk_files *out);

/* Closes what there is, and ends the helper. */
void disk_close(const struct disk_files *files);

/* The same where another process has the descriptors now: the locks and the helper are its. */
void disk_hand_over(const struct disk_files *files);

/* On the loop that it is watched on; NULL is fine. */
void disk_end_helper(struct decompress_helper *h);

/* Whether a decompressor is needed. Of files with a chain. */
bool disk_may_be_compressed(const struct disk_files *files);

/*
 * The descriptors in the order in which they are passed to another process: how many, DISK_FDS_MAX
 * at most, which parts they are, those of the helper last, and -E2BIG with a message where they are
 * too many for that. And back: they are taken, -1 left in their place; -EINVAL where such a disk
 * cannot have them.
 */
#define DISK_CHAIN_MAX 244u /* of a chain, that it may be passed */
#define DISK_FDS_MAX (CHAIN_FDS_MAX + 2 + DECOMPRESS_FILES)
struct disk_parts {
	uint32_t chain, overlay; /* descriptors */
	bool kept;               /* the overlay */
};
int disk_files_list(const struct disk_files *files, struct disk_parts *parts, int *fds);
int disk_files_take(struct disk_files *out, const struct disk_config *d,
	const struct disk_parts *parts, int *fds, unsigned count);

/* What a disk is made on; borrowed. */
struct disk_host {
	struct blk_engine *engine;
	struct loop *loop;                 /* the engine's */
	struct decompressor *decompressor; /* NULL: none */
	/* on-error=stop: the machine is to be paused, and why. On the loop's thread; never waits.
	 */
	void (*stopped)(void *arg, const char *why);
	void (*warned)(void *arg, const char *what); /* what is worth a line; on that thread too */
	void *arg;
};

/* A disk that a machine has. */
struct disk {
	const struct disk_config *cfg; /* borrowed */
	struct blk *blk;               /* all of it; the device's */
	struct blk *limit, *judge;     /* layers of it: blk/limit.h, blk/on_error.h */
	struct blk *mirror;            /* another: blk/mirror.h */
	struct disk_job *job;          /* of vmm/disk_job.h; NULL: none */
	struct disk_config *now;       /* owned: whose image it has since a job; NULL: cfg's */
	struct disk_limits limits;     /* as they are now */
	struct virtio_device *dev;     /* set by who makes one of `blk` */
	unsigned place;                /* and by who gives it one */
	struct disk_config *owned;     /* cfg, of one that came while the machine ran; else NULL */
	struct decompress_helper *helper; /* its own, malloc'd; NULL: it has none */
	const char *format;               /* of the image */
	bool has_books; /* that are to be in order when the process ends: it is written to by a
			   format */
};

/*
 * Makes out->blk of an open file, with the layers that `d` asks for. `files` are taken; `d` is
 * borrowed for as long as the disk is there. 0 or -errno.
 */
int disk_create(struct disk *out, const struct disk_config *d, const struct disk_files *files,
	const struct disk_host *host);

/*
 * An image by itself, without a disk's layers; and the disk of a file, `holds_format`, that comes
 * alone or with its lock. What is taken of `files` is not there any more. 0 or -errno.
 */
int disk_create_image(struct blk **out, const struct disk_config *d, struct disk_files *files,
	const struct disk_host *host);
int disk_create_file(struct blk **out, const struct disk_config *d, struct disk_files *files,
	const struct disk_host *host);

/* Other limits from now on, which disk_check_limits has passed. On the disk's loop. */
void disk_set_limits(struct disk *disk, const struct disk_limits *limits);

#endif
