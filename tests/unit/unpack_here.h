// SPDX-License-Identifier: MIT
// An unpacker in the test's own process, where sanitizers and fuzzers see what it does.
#ifndef TESTS_UNIT_UNPACK_HERE_H
#define TESTS_UNIT_UNPACK_HERE_H

#include "base/fd.h"
#include "base/log.h"
#include "loader/unpack/unpack.h"
#include "loader/unpacker.h"

#include <errno.h>

struct unpack_here {
	struct unpacker unpacker;
	void *made;
	size_t size;
};

static inline void unpack_here_end(void *arg)
{
	struct unpack_here *h = arg;

	free(steal_ptr(&h->made));
	h->size = 0;
}

static inline int64_t unpack_here_begin(void *arg, int fd, uint64_t off, uint64_t len, uint64_t max)
{
	struct unpack_here *h = arg;
	const struct unpack_format *f;
	void *packed CLEANUP_FREE = malloc(len);
	ssize_t n = packed ? fd_pread_full(fd, packed, len, off) : -ENOMEM;

	if (n < 0)
		return fail((int)-n, "reading it");
	f = unpack_detect(packed, (size_t)n);
	if (!f)
		return -ENOTSUP;
	h->made = malloc(max);
	n = h->made ? f->unpack(packed, (size_t)n, h->made, max) : fail(ENOMEM, "no memory");
	if (n < 0)
		unpack_here_end(h);
	else
		h->size = (size_t)n;
	return n;
}

static inline int unpack_here_read(void *arg, uint64_t off, void *to, size_t len)
{
	const struct unpack_here *h = arg;

	if (!range_ok(off, len, h->size))
		return fail(EINVAL, "that was not unpacked");
	if (len)
		memcpy(to, (char *)h->made + off, len);
	return 0;
}

/* The one of this program. */
static inline const struct unpacker *unpacker_here(void)
{
	static struct unpack_here h;

	h.unpacker = (struct unpacker){unpack_here_begin, unpack_here_read, unpack_here_end, &h};
	return &h.unpacker;
}

#endif
