// SPDX-License-Identifier: MIT
// The I/O engine of one loop, shared by all disks on it: brings their requests to the kernel.
//
// Requests wait in one list and go to the kernel when engine_commit is called, or when completions
// have made room. Nothing is allocated for one: what an engine has to remember is in the request.
// A transfer that the kernel cuts short is continued; one that meets the end of its file is -EIO,
// or zeroes, as the file says.
// All calls are for the loop's thread, or for any thread while the loop does not run.
#ifndef BLK_ENGINE_H
#define BLK_ENGINE_H

#include "blk/blk.h"

struct blk_engine;
struct loop;

enum engine_kind {
	ENGINE_AUTO, /* io_uring where the kernel lets us, else sync */
	ENGINE_IO_URING,
	ENGINE_SYNC, /* each request is done at once, on the loop's thread */

	/* As ENGINE_AUTO, but reads are for the kernel's workers even where the page cache has what
	 * is read: for tools, whose own thread writes meanwhile. */
	ENGINE_WORKERS,
};

/* Those that a VM may have, as in enum engine_kind; NULL-terminated. */
extern const char *const engine_kind_names[];

enum engine_op {
	ENGINE_READ,
	ENGINE_WRITE,
	ENGINE_WRITE_DURABLE, /* as with O_DSYNC */
	ENGINE_SYNC_DATA,     /* fdatasync(2) */
	ENGINE_PUNCH, /* fallocate(2): the range reads as zeroes, its storage is given back */
	ENGINE_ZERO,  /* fallocate(2): the range reads as zeroes, its storage stays */
};

/* Whether a file system knows RWF_NOWAIT: fails what would have to wait. */
enum engine_tells { TELLS_UNKNOWN, TELLS, TELLS_NOT };

/* Embedded in the disk that uses it. */
struct engine_file {
	int fd;        /* borrowed */
	uint64_t base; /* bytes: where in it the disk begins */
	bool buffered; /* goes through the page cache */
	bool endless;  /* what is read past its end is zeroes */
	void (*done)(struct engine_file *f, struct blk_request *r, int rc); /* 0 or -errno */

	struct blk_engine *engine;       /* set by engine_add */
	int slot;                        /* the engine's; -1: none */
	unsigned inflight;               /* submitted and not yet completed */
	enum engine_tells reads, writes; /* unknown until the first request */
};

/* Everything is made here, so that a jail may close afterwards. 0 or -errno. */
int engine_create(struct blk_engine **out, struct loop *loop, enum engine_kind kind);

/* There are no files in it. NULL is fine. */
void engine_destroy(struct blk_engine *e);

/*
 * The process is about to end as it is: it lets go of the files. A ring is taken apart some time
 * after its process has gone, and until then nobody else could open a device exclusively.
 */
void engine_leave(struct blk_engine *e);

/* "io_uring" or "sync". */
const char *engine_name(const struct blk_engine *e);

/* engine_remove is for a file that has nothing in flight, and a no-op for one that is not added. */
void engine_add(struct blk_engine *e, struct engine_file *f);
void engine_remove(struct engine_file *f);

/*
 * Has `op` done for the request: for the range off, len with the data in iov. `done` of the file is
 * called from within engine_commit, engine_drain or the loop, never from here.
 */
void engine_submit(struct engine_file *f, struct blk_request *r, enum engine_op op);

/* Brings what waits to the kernel, and completes what that completes at once. */
void engine_commit(struct blk_engine *e);

/* Waits until the file has nothing in flight. 0 or -errno. */
int engine_drain(struct engine_file *f);

#endif
