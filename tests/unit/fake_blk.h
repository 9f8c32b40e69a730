// SPDX-License-Identifier: MIT
// A disk in memory that completes its requests from the loop in random order, and fails on demand.
#ifndef TESTS_UNIT_FAKE_BLK_H
#define TESTS_UNIT_FAKE_BLK_H

#include "blk/blk.h"

#include "base/loop.h"

#define FAKE_BLK_PENDING 1024u

struct fake_blk {
	struct blk blk;
	struct loop *loop;
	struct timer timer;
	uint8_t *data;
	uint64_t seed;
	struct blk_request *pending[FAKE_BLK_PENDING];
	unsigned count;
	bool in_order; /* not random */
	unsigned commits, flushes, reads, writes;
	unsigned fail_in; /* the how-manieth request from now fails with EIO; 0: none does */
	int64_t measured; /* what measure says; 0: the size */
};

/* `size` bytes of zeroes. Destroyed as any disk. */
struct fake_blk *fake_blk_create(struct loop *loop, uint64_t size);

/* The next of a row of random numbers. */
uint64_t fake_random(uint64_t *seed);

/* Submits one request and waits for it by draining the disk: its rc. */
int blk_now(struct blk *b, enum blk_op op, uint64_t off, void *buf, uint64_t len);

/* As blk_now, from the disk's start. */
int blk_now_iov(struct blk *b, enum blk_op op, const struct iovec *iov, unsigned iovcnt);

/* A layer over such a disk: what most tests of one begin with. */
struct fake_layer {
	struct loop *loop;
	struct fake_blk *below;
	struct blk *blk; /* the layer; set by the test, NULL before */
};

/* The loop and the disk below, of `size` bytes; fake_layer_finish destroys the layer too. */
void fake_layer_init(struct fake_layer *f, uint64_t size);
void fake_layer_finish(struct fake_layer *f);

struct blk_stress {
	struct blk *blk;
	struct loop *loop;
	unsigned requests, depth;
	bool unaligned;  /* memory as a guest may have it: any address, any length of a piece */
	uint8_t *shadow; /* blk->size bytes, what the disk has at first; kept up to date */
	bool *known;     /* a sector each: false once it is discarded; zeroed is fine */
};

/*
 * Random requests of all kinds, many at a time, none in conflict with another under way; what is
 * read is compared with the shadow, in the end all of it. Fails the test where they differ.
 */
void blk_stress_run(struct blk_stress *s, uint64_t seed);

/* The same, on a disk that reads as zeroes everywhere, with memory as a guest may have it. */
void blk_stress_zeroed(struct blk *b, struct loop *loop, unsigned requests, unsigned depth);

#endif
