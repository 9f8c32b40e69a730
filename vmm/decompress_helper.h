// SPDX-License-Identifier: MIT
// The process that decompresses clusters of images: kvick-unpack, with memory that both have.
//
// What an image is made of is not looked at by the monitor itself: it hands the compressed bytes
// over as they are, and takes what comes of them as data. Whatever the process answers, no more
// than the data of that one cluster is at stake.
#ifndef VMM_DECOMPRESS_HELPER_H
#define VMM_DECOMPRESS_HELPER_H

#include "base/jail.h"
#include "base/loop.h"
#include "blk/decompress.h"
#include "vmm/helper.h"

#include <stdbool.h>

/* Jobs that the process has at the same time; more of them wait here. */
#define DECOMPRESS_JOBS 16u
/* Bytes for all buffers; of the host's memory it takes what is touched. */
#define DECOMPRESS_MEMORY ((size_t)1 << 30)

struct decompress_helper {
	struct decompressor decompressor; /* what disks are given */
	struct helper process;
	int memory; /* the file that the buffers are in; 0: closed */
	uint8_t *at;
	size_t used; /* of it, bytes that are somebody's */

	struct decompress_job *job[DECOMPRESS_JOBS]; /* those that it has, by number */
	unsigned flying;
	struct decompress_job *first, *last; /* those that wait */
	bool lost;                           /* it has ended: what is asked of it is -EIO */

	struct loop *loop; /* NULL: answers are only taken by drain */
	struct watch watch;
	struct loop *parent;                       /* NULL: it is waited for in the end */
	struct watch child;                        /* a pidfd */
	void (*ended)(void *arg, const char *why); /* on that loop's thread; set before, or NULL */
	void *arg;
};

/*
 * Starts the process, which is not waited for. `open_program` opens its file by its name, and
 * messages are its standard error; 0: ours. 0 or -errno with a message.
 */
int decompress_helper_start(struct decompress_helper *h, enum jail_mode jail,
	int (*open_program)(const char *name), int messages);

/* From now on answers are taken, and its end is told, on this loop, which is the disks'. On its
 * thread, or while it does not run. 0 or -errno. */
int decompress_helper_watch(struct decompress_helper *h, struct loop *loop);
void decompress_helper_unwatch(struct decompress_helper *h);

/*
 * What another process needs in order to have it, borrowed; and there: they are taken, -1 left in
 * their place. -EINVAL where they are not such, and nothing is taken.
 */
#define DECOMPRESS_FILES 2u
void decompress_helper_files(const struct decompress_helper *h, int files[DECOMPRESS_FILES]);
int decompress_helper_adopt(struct decompress_helper *h, int files[DECOMPRESS_FILES]);

/* From now on the process is waited for when it has ended, on this thread's loop; no-op on one that
 * is not our child. 0 or -errno. */
int decompress_helper_reap(struct decompress_helper *h, struct loop *loop);

/* No disk uses it any more, and it is not watched. Ends the process and waits for it, or lets
 * another have it that has its files. Fine on one of zeroes. */
void decompress_helper_finish(struct decompress_helper *h);
void decompress_helper_hand_over(struct decompress_helper *h);

#endif
