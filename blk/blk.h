// SPDX-License-Identifier: MIT
// A disk as everything above it sees it: requests go in, each is completed once.
//
// A raw file, a format, an overlay and a limiter are all a struct blk; a layer holds the one below
// it. All of a disk belongs to one loop and its thread: requests are submitted there and completed
// there. A request may be completed before blk_submit has returned, and in any order. Requests that
// overlap in time have no order among themselves: what must come after another is submitted after
// that one's completion.
//
// Durability. A write is durable once a flush that was submitted after its completion has
// completed, or, with BLK_FUA, once it is completed itself. What was not flushed may be lost, any
// part of it in any order, in whole sectors.
//
// Data is never copied here: iov may point into guest memory, which changes while it is read. What
// has to be judged is for the layer to copy first.
#ifndef BLK_BLK_H
#define BLK_BLK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define BLK_SECTOR 512u

struct blk;
struct engine_file;

enum blk_op {
	BLK_READ,
	BLK_WRITE,
	BLK_FLUSH,        /* off and len are 0 */
	BLK_DISCARD,      /* advice: the range reads as anything until it is written */
	BLK_WRITE_ZEROES, /* the range reads as zeroes */
};

enum blk_flag {
	BLK_FUA = 1u << 0,   /* of a write or write zeroes: durable when completed */
	BLK_UNMAP = 1u << 1, /* of write zeroes: storage may be given back */
};

/* Embedded by who submits it, who keeps it and `iov` as they are until it is completed. */
struct blk_request {
	enum blk_op op;
	unsigned flags;
	uint64_t off, len;       /* bytes, in whole sectors; the range is within the disk's size */
	const struct iovec *iov; /* of read and write: `len` bytes in all, each piece any size */
	unsigned iovcnt;         /* at most BLK_IOV_MAX */
	void (*done)(struct blk_request *r, int rc); /* rc: 0, -errno or BLK_HELD */

	struct blk *blk;          /* set by blk_submit */
	struct blk_request *next; /* for who holds it: a layer's or the engine's queue */

	/* Where an engine has it; the disk that stands on the engine sets `file`. */
	struct engine_file *file;
	uint64_t moved; /* bytes read or written so far */
	unsigned step;  /* enum engine_op: what is being asked of the kernel */

	/* Of blk/on_error.c, which has taken the place of `done`. */
	struct blk *judge;
	void (*judged)(struct blk_request *r, int rc);

	/* The same of blk/window.c. */
	struct blk *window;
	void (*seen)(struct blk_request *r, int rc);
};

/*
 * What a request may come to on a disk that stops the machine at an error, and on no other: it has
 * failed, who submitted it is to keep it and to submit it again when the machine goes on.
 */
#define BLK_HELD 1

#define BLK_IOV_MAX 1024u

/* What a stretch of a disk is. */
enum blk_extent_kind {
	BLK_EXTENT_ABSENT, /* in no image of it: reads as zeroes */
	BLK_EXTENT_ZERO,   /* an image says that it reads as zeroes */
	BLK_EXTENT_DATA,
};

struct blk_extent {
	uint64_t len; /* bytes, more than 0 */
	enum blk_extent_kind kind;
	unsigned depth;  /* of an image that has it: 0 the disk's own, 1 its backing file, ... */
	bool compressed; /* as stored */
	bool placed;     /* it is stored as it is, from byte `at` of that image's file on */
	uint64_t at;
};

struct blk_ops {
	/* Takes the request, which is sound and within the disk. */
	void (*submit)(struct blk *b, struct blk_request *r);

	/*
	 * Everything submitted is to be on its way when this returns: a batch is one system call.
	 * Optional; a layer passes it on.
	 */
	void (*commit)(struct blk *b);

	/*
	 * Waits until all requests are completed, their `done` called. For a pause and before the
	 * end; blocks the loop. 0, or -errno where that cannot be.
	 */
	int (*drain)(struct blk *b);

	/* Looks how large it is now, for a file that has been made larger: bytes or -errno. */
	int64_t (*measure)(struct blk *b);

	/* Gives everything back, the layer below included. There are no requests. */
	void (*destroy)(struct blk *b);

	/* blk_map and blk_resize, which sets `size`; optional: the disk is all data, and as large
	 * as it is. */
	int (*map)(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);
	int (*resize)(struct blk *b, uint64_t size);
};

/* Embedded in each kind of disk; the constructor fills it. */
struct blk {
	const struct blk_ops *ops;
	const char *name;        /* for messages: the file's; borrowed */
	uint64_t size;           /* bytes, in whole sectors */
	uint32_t sector;         /* bytes: what a device counts in; 0: BLK_SECTOR */
	uint32_t physical_block; /* bytes, a power of two: what is written at once without a read */
	uint32_t optimal_io;     /* bytes; 0: unknown */
	uint32_t discard_align;  /* bytes: what a discard is useful for; 0: discard does nothing */
	bool read_only;
	bool can_zero; /* write zeroes costs less than writing zeroes */
};

/* Submits a request on the disk's loop. One that is out of range, or writes to a read-only disk, is
 * completed at once with -EINVAL or -EROFS. */
void blk_submit(struct blk *b, struct blk_request *r);
void blk_commit(struct blk *b);

int blk_drain(struct blk *b);

/* Takes over the size of a file that has grown: 1, 0 where it has not, or -errno: one that has
 * become smaller is an error, and the disk stays as large as it was. */
int blk_remeasure(struct blk *b);

/*
 * What the disk is from `off` on: the longest stretch of one kind that is found without much work,
 * at most `len` bytes, in whole sectors. For tools: blocks, and there are no requests. 0 or -errno.
 */
int blk_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);

/* Makes the disk `size` bytes, whole sectors; what is new reads as zeroes, what is cut off is
 * lost. For tools, as blk_map. 0 or -errno. */
int blk_resize(struct blk *b, uint64_t size);

/* NULL is fine. */
void blk_destroy(struct blk *b);

#endif
