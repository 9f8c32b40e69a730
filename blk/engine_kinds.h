// SPDX-License-Identifier: MIT
// What the engines have in common, for blk/engine*.c only.
#ifndef BLK_ENGINE_KINDS_H
#define BLK_ENGINE_KINDS_H

#include "blk/engine.h"

#include "base/loop.h"
#include "blk/layer.h"

struct engine_ops {
	const char *name;
	void (*add)(struct blk_engine *e, struct engine_file *f);
	void (*remove)(struct engine_file *f);
	/* Takes requests from the list. `wait`: until something is completed. 0 or -errno. */
	int (*run)(struct blk_engine *e, bool wait);
	void (*leave)(struct blk_engine *e); /* NULL: no file is held */
	void (*destroy)(struct blk_engine *e);
};

/* Embedded in each kind. */
struct blk_engine {
	const struct engine_ops *ops;
	struct loop *loop;
	struct timer again;   /* the kernel had no room, or others have their turn first */
	struct blk_line line; /* what waits */
	bool running;         /* completions are being told: a commit goes without saying */
};

/* Room for one of the kind; -errno where the host does not have it. */
int engine_uring_create(struct blk_engine **out, struct loop *loop, bool workers);
int engine_sync_create(struct blk_engine **out);

/* What the kernel has said of a request: bytes or -errno. Completes it, or has it continued. */
void engine_result(struct blk_engine *e, struct blk_request *r, int64_t result);

/*
 * The pieces of a request that are not yet moved, as *iov and the count returned. The rest of one
 * that is half done comes alone, in `part`, so that no list has to be copied.
 */
unsigned engine_rest(const struct blk_request *r, struct iovec *part, const struct iovec **iov);

/* Reads or writes what is not yet moved, with these RWF_ flags too: bytes or -errno. */
int64_t engine_move(const struct blk_request *r, int flags);

/* fallocate(2)'s mode for ENGINE_PUNCH and ENGINE_ZERO. */
int engine_fallocate_mode(const struct blk_request *r);

#endif
