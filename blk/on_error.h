// SPDX-License-Identifier: MIT
// What becomes of requests that the host cannot do: no room, a broken medium, a file cut short, a
// device that is gone.
//
// It stands on what does I/O and below what judges the guest: a guest that asks for what is not
// there, or is refused, has made a mistake of its own, which is no error of the disk.
#ifndef BLK_ON_ERROR_H
#define BLK_ON_ERROR_H

#include "blk/blk.h"

enum on_error {
	ON_ERROR_REPORT, /* the guest is told */
	ON_ERROR_STOP,   /* it is not: the request comes back with BLK_HELD */
	/* What was to be written is lost, and the guest is told that all is well. Reads are
	 * reported still: there is nothing that it could be given. */
	ON_ERROR_IGNORE,
};

/* As in enum on_error; NULL-terminated. */
extern const char *const on_error_names[];

struct on_error_config {
	enum on_error policy;
	const char *name; /* for messages; borrowed */
	/* ON_ERROR_STOP: a request is about to come back with BLK_HELD, and this is why. On the
	 * disk's loop. */
	void (*stopped)(void *arg, const char *why);
	void *arg;
};

/* Stands on `below`, which it takes on success. 0 or -ENOMEM. */
int on_error_create(struct blk **out, struct blk *below, const struct on_error_config *c);

/* How many requests have failed since. `b` is of on_error_create; from any thread. */
uint64_t on_error_count(struct blk *b);

#endif
