// SPDX-License-Identifier: MIT
// What disks that stand on another disk have in common, and the line in which requests wait.
#ifndef BLK_LAYER_H
#define BLK_LAYER_H

#include "blk/blk.h"

#include <stddef.h>

/* Embedded in each layer. */
struct layer {
	struct blk blk;
	struct blk *below; /* owned */
};

/* Makes it as large as the disk below, and like it in every other way. */
void layer_init(struct layer *l, const struct blk_ops *ops, struct blk *below);

/* These may stand in blk_ops. */
void layer_commit(struct blk *b);
int64_t layer_measure(struct blk *b);

/* Zero-initialised is empty. Linked by `next` of the requests. */
struct blk_line {
	struct blk_request *first, *last;
};

static inline void line_append(struct blk_line *l, struct blk_request *r)
{
	r->next = NULL;
	if (l->first)
		l->last->next = r;
	else
		l->first = r;
	l->last = r;
}

static inline void line_prepend(struct blk_line *l, struct blk_request *r)
{
	r->next = l->first;
	if (!l->first)
		l->last = r;
	l->first = r;
}

/* The first, taken out; NULL when there is none. */
static inline struct blk_request *line_take(struct blk_line *l)
{
	struct blk_request *r = l->first;

	if (r)
		l->first = r->next;
	return r;
}

#endif
