// SPDX-License-Identifier: MIT
// The files that are one disk: the image, and those that it names, its backing files and extents.
//
// An image may come from a stranger, and what it names is a file of this host: it is opened only
// where that was asked for. Opening is apart from making disks of it, so that one process may open
// and another, which opens nothing, make them of the descriptors.
#ifndef BLK_CHAIN_H
#define BLK_CHAIN_H

#include "blk/blk.h"
#include "blk/raw.h"

struct blk_engine;
struct chain;
struct decompressor;

#define CHAIN_DEPTH_MAX 64u  /* images, from the disk's own to the last backing file */
#define CHAIN_FILES_MAX 220u /* files of all of them */

enum image_format { IMAGE_PROBED, IMAGE_RAW, IMAGE_QCOW2, IMAGE_VMDK };

/* As in enum image_format, "auto" the first; NULL-terminated. */
extern const char *const image_format_names[];

struct chain_options {
	const char *path; /* borrowed for as long as there is the chain */
	enum image_format format;
	enum raw_cache cache;
	bool read_only;
	bool trust;      /* other files that images name are opened */
	bool no_lock;    /* nobody else is asked about */
	bool locked;     /* the image itself is locked already, by who gets its descriptors */
	const char *how; /* what grants trust, for the message: "backing=on" */

	/* For tools: the image's backing file is left alone, which needs no trust, and this makes
	 * the disk that it stands on instead. 0 or -errno. NULL: it does not. */
	int (*instead)(struct blk **out);
};

/*
 * Opens all files, locked: the image itself as it is to be used, all others for reading (extents as
 * the image). Names resolve beside the file that has them, as QEMU does it. 0 or -errno with a
 * message that names the file; without trust it is -EPERM and shows the whole chain; -EUCLEAN where
 * the image is to be written to and has to be repaired before.
 */
int chain_open(struct chain **out, const struct chain_options *o);

/* The files' and locks' descriptors, for another process's chain_take: how many, at most
 * CHAIN_FDS_MAX. They stay the chain's. */
#define CHAIN_FDS_MAX (2 * CHAIN_FILES_MAX)
unsigned chain_fds(const struct chain *c, int *fds);

/*
 * A chain of such descriptors, in the same order; those of the locks may be left out. What the
 * images say is read again, with `e`, and is to fit the number. Those it takes become -1, all of
 * them on success.
 */
int chain_take(struct chain **out, const struct chain_options *o, struct blk_engine *e, int *fds,
	unsigned count);

/* The format that was found or given of the image itself. */
enum image_format chain_format(const struct chain *c);

/* Of the image, `depth` 0, its backing file and so on: the file's name and the format. NULL past
 * the last. The name is the chain's. */
const char *chain_image_at(const struct chain *c, unsigned depth, enum image_format *format);

/* Makes the disk; the chain is used up, also on failure. `d` as in blk/qcow2.h. */
int chain_create(struct blk **out, struct chain *c, struct blk_engine *e, struct decompressor *d);

/* Closes all that has not been used up. NULL is fine. */
void chain_close(struct chain *c);

/* The same where another process has the descriptors now: the locks are its. */
void chain_hand_over(struct chain *c);

#endif
