// SPDX-License-Identifier: MIT
// What blk/raw*.c share.
#ifndef BLK_RAW_PARTS_H
#define BLK_RAW_PARTS_H

#include "blk/engine.h"
#include "blk/raw.h"

#include "base/util.h"
#include "blk/layer.h"

#define RAW_BOUNCE KIB(64)
#define RAW_ZERO_PIECES 16u

/* Requests that the kernel does not take as they are, done piece by piece, one at a time. */
struct raw_slow {
	struct blk_line line; /* what waits, and all that came after it */
	struct blk_request *now;
	struct blk_request part;     /* a piece of `now` */
	uint64_t pos, len;           /* the piece, in `now` */
	uint64_t window, window_len; /* the piece on the disk, out to whole blocks */
	struct iovec iov[RAW_ZERO_PIECES];
	uint8_t *bounce; /* RAW_BOUNCE bytes; NULL where nothing needs it */
};

struct raw {
	struct blk blk;
	struct engine_file file;
	int lock_fd; /* 0: none */
	char *own_name;
	enum raw_cache cache;
	uint64_t len; /* of a part of the file, which begins at file.base; 0: to its end */
	bool device;
	bool no_punch, no_zero; /* the host cannot: zeroes are written instead */
	uint32_t align;         /* bytes: of ranges and memory; 1: none is needed */
	struct raw_slow slow;
};

/* 0 or -ENOMEM. Whoever called it calls raw_slow_finish. */
int raw_slow_init(struct raw *w);
void raw_slow_finish(struct raw *w);

/* Takes the request, if it has to wait or cannot go to the engine as it is. */
bool raw_slow_take(struct raw *w, struct blk_request *r);

/* Puts it last in the line, and goes on. */
void raw_slow_append(struct raw *w, struct blk_request *r);

/* Goes on, if it can: something has been completed. */
void raw_slow_next(struct raw *w);

/* The piece in progress is completed. */
void raw_slow_done(struct raw *w, int rc);

/* Hands it to the engine as it is. */
void raw_send(struct raw *w, struct blk_request *r);

/* How a write of this request is done. */
enum engine_op raw_write_op(const struct raw *w, const struct blk_request *r);

/* Looks at the descriptor and fills in what is known of the disk. 0 or -errno. */
int raw_open(struct raw *w, const struct raw_config *c);

/* Its size in bytes, or -errno: as a disk, and of the file or device whose it is. */
int64_t raw_measure(const struct raw *w);
int64_t raw_file_bytes(const struct raw *w);

/* Of blk_ops. */
int raw_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);
int raw_resize(struct blk *b, uint64_t size);

#endif
