// SPDX-License-Identifier: MIT
// xz, by liblzma.
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack/unpack.h"

#include <errno.h>
#include <lzma.h>

#define MEMORY_LIMIT                                                                               \
	MIB(1024) /* the dictionary is at most what xz -9 makes, 64 MiB; kernels use 32 */

static ssize_t result(lzma_ret rc, const lzma_stream *s, size_t cap)
{
	if (rc == LZMA_STREAM_END)
		return (ssize_t)(cap - s->avail_out);
	if (rc == LZMA_MEM_ERROR || rc == LZMA_MEMLIMIT_ERROR)
		return fail(ENOMEM, "no memory to unpack xz with");
	if (s->avail_out == 0 && (rc == LZMA_OK || rc == LZMA_BUF_ERROR))
		return unpack_too_much(cap);
	return fail(EINVAL, "broken xz data after %llu bytes: %s", (unsigned long long)s->total_in,
		rc == LZMA_OK || rc == LZMA_BUF_ERROR ? "it ends too soon"
		: rc == LZMA_OPTIONS_ERROR            ? "options that liblzma does not know"
						      : "it is corrupt");
}

static ssize_t run(const void *src, size_t len, void *dst, size_t cap)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_ret ret;
	ssize_t made;

	if (lzma_stream_decoder(&s, MEMORY_LIMIT, 0) != LZMA_OK)
		return fail(ENOMEM, "no memory to unpack xz with");
	s.next_in = src;
	s.avail_in = len;
	s.next_out = dst;
	s.avail_out = cap;
	do
		ret = lzma_code(&s, LZMA_FINISH);
	while (ret == LZMA_OK);
	made = result(ret, &s, cap);
	lzma_end(&s);
	return made;
}

const struct unpack_format unpack_xz = {
	.name = "xz",
	.magic = {0xfd, '7', 'z', 'X', 'Z', 0},
	.magic_len = 6,
	.unpack = run,
};
