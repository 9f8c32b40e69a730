// SPDX-License-Identifier: MIT
// A decompressor within the process, for programs that link zlib and libzstd: tools and tests.
#ifndef BLK_DECOMPRESS_HERE_H
#define BLK_DECOMPRESS_HERE_H

#include "blk/decompress.h"

/* A job is done when its submit returns. 0 or -ENOMEM. */
int decompress_here_create(struct decompressor **out);

/* With all memory of `buffer`. There are no jobs. NULL is fine. */
void decompress_here_destroy(struct decompressor *d);

#endif
