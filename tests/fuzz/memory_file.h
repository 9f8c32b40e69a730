// SPDX-License-Identifier: MIT
// A file in memory in the place of blk/raw.c, for fuzzers of formats: it costs no system call.
//
// Requests wait for a drain, as they may on an engine, and are then completed in either order.
#ifndef TESTS_FUZZ_MEMORY_FILE_H
#define TESTS_FUZZ_MEMORY_FILE_H

#include "blk/blk.h"

#include <stddef.h>

struct memory_file {
	uint8_t *bytes; /* of the fuzzer's; from `len` on they may be anything */
	size_t len, room;
	bool backwards; /* the newest request is completed first */
};

/* A disk that is in it; `f` is borrowed, and may have several. A write past `room` is -ENOSPC. */
struct blk *memory_file_open(struct memory_file *f, bool holds_format);

#endif
