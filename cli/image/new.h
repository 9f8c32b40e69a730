// SPDX-License-Identifier: MIT
// New images: an empty file becomes one.
#ifndef CLI_IMAGE_NEW_H
#define CLI_IMAGE_NEW_H

#include "blk/qcow2.h"
#include "cli/image/image.h"

struct target;

struct new_image {
	enum image_format format;
	struct qcow2_create qcow2; /* `size` of all formats; the rest of qcow2 */
};

/* Sizes and options that cannot be. 0 or -EINVAL. */
int new_check(const struct new_image *n);

/*
 * Makes the target's file such an image; with `out` its disk too, for writing, which is NULL where
 * it has no bytes. One that names a backing file is not opened. 0 or -errno.
 */
int new_make(struct tool *t, const struct target *to, const struct new_image *n, struct blk **out);

#endif
