// SPDX-License-Identifier: MIT
// A disk without end of which no image has anything: what an image stands on that is looked at
// alone.
#ifndef CLI_IMAGE_NOTHING_H
#define CLI_IMAGE_NOTHING_H

struct blk;

int nothing_create(struct blk **out);

#endif
