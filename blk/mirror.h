// SPDX-License-Identifier: MIT
// A place in a disk's layers where what is below can be copied and exchanged while requests go on.
//
// Without a job it only passes requests on. A job copies the disk to another one, the target, from
// the beginning to the end. Meanwhile what is written ahead of the copy goes to the disk alone,
// what is written behind it to both, and what is written where it just is waits for that. Nothing
// is copied twice, so that the job comes to its end however much is written. From then on the
// two are the same until one of them is given up: mirror_stop or mirror_switch.
//
// What the guest has been told of never depends on the target: where that fails, the job does.
// All calls are for the disk's loop.
#ifndef BLK_MIRROR_H
#define BLK_MIRROR_H

#include "blk/blk.h"

struct loop;

struct mirror_job {
	bool differing; /* only what the target has otherwise is written to it */
	bool commits;   /* the target backs what is below, and stays its: see blk/commit.h */
	/* 0: all is copied, from now on the two are the same; else -errno: the job has ended and
	 * the target is given back. Called from the loop, once, or twice where the second is a
	 * failure. */
	void (*told)(void *arg, int rc);
	void (*moved)(void *arg, uint64_t done); /* bytes that the copy has come to; NULL is fine */
	void *arg;
};

/* Stands on `below`, which it takes on success. 0 or -ENOMEM. */
int mirror_create(struct blk **out, struct loop *loop, struct blk *below);

/* Takes `target` on success. -EBUSY: there is a job; -EINVAL: it is of another size. */
int mirror_start(struct blk *b, struct blk *target, const struct mirror_job *job);

/*
 * Ends the job, blocking for what is under way; what has been copied is left, flushed. 0 where that
 * is all of the disk, -ECANCELED where it is not, -ENOENT without a job, else -errno.
 */
int mirror_stop(struct blk *b);

/* The target, flushed, takes the place of what was below, which is destroyed. Blocks. 0, -EAGAIN
 * before all is copied, -ENOENT; else -errno, and nothing has changed. */
int mirror_switch(struct blk *b);

/* Bytes copied, of the disk's size; -1 without a job. */
int64_t mirror_progress(struct blk *b);

/* What is below. */
struct blk *mirror_below(struct blk *b);

/* What is below, for a layer to be put on it: drained and flushed. NULL with a message: a job is
 * at work, or it failed. `mirror_put` then has that layer, of the same size, in its place. */
struct blk *mirror_hold(struct blk *b);
void mirror_put(struct blk *b, struct blk *above);

#endif
