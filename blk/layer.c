// SPDX-License-Identifier: MIT
// What disks that stand on another disk have in common.
#include "blk/layer.h"

#include "base/util.h"

void layer_init(struct layer *l, const struct blk_ops *ops, struct blk *below)
{
	l->blk = *below;
	l->blk.ops = ops;
	l->below = below;
}

void layer_commit(struct blk *b)
{
	blk_commit(container_of(b, struct layer, blk)->below);
}

int64_t layer_measure(struct blk *b)
{
	struct blk *below = container_of(b, struct layer, blk)->below;
	int rc = blk_remeasure(below);

	return rc < 0 ? rc : (int64_t)below->size;
}
