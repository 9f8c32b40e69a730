// SPDX-License-Identifier: MIT
// xz, by liblzma.
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack.h"

#include <dlfcn.h>
#include <errno.h>
#include <lzma.h>

#define MEMORY_LIMIT                                                                               \
	MIB(1024) /* the dictionary is at most what xz -9 makes, 64 MiB; kernels use 32 */

struct liblzma {
	__typeof__(lzma_stream_decoder) *decoder;
	__typeof__(lzma_code) *code;
	__typeof__(lzma_end) *end;
};

static int bind(void *library, struct liblzma *x)
{
	x->decoder = (__typeof__(x->decoder))dlsym(library, "lzma_stream_decoder");
	x->code = (__typeof__(x->code))dlsym(library, "lzma_code");
	x->end = (__typeof__(x->end))dlsym(library, "lzma_end");
	return x->decoder && x->code && x->end ? 0 : fail(EINVAL, "liblzma lacks a function");
}

static ssize_t result(lzma_ret rc, const lzma_stream *s, size_t cap, enum unpack_mode mode)
{
	size_t made = cap - s->avail_out;

	if (rc == LZMA_STREAM_END || (mode == UNPACK_HEAD && made == cap))
		return (ssize_t)made;
	if (rc == LZMA_MEM_ERROR || rc == LZMA_MEMLIMIT_ERROR)
		return fail(ENOMEM, "no memory to unpack xz with");
	if (s->avail_out == 0 && (rc == LZMA_OK || rc == LZMA_BUF_ERROR))
		return -ENOSPC;
	return fail(EINVAL, "broken xz data after %llu bytes: %s", (unsigned long long)s->total_in,
		rc == LZMA_OK || rc == LZMA_BUF_ERROR ? "it ends too soon"
		: rc == LZMA_OPTIONS_ERROR            ? "options that liblzma does not know"
						      : "it is corrupt");
}

static ssize_t run(
	void *library, const void *src, size_t len, void *dst, size_t cap, enum unpack_mode mode)
{
	lzma_stream s = LZMA_STREAM_INIT;
	struct liblzma x;
	lzma_ret ret;
	ssize_t made;
	int rc = bind(library, &x);

	if (rc)
		return rc;
	if (x.decoder(&s, MEMORY_LIMIT, 0) != LZMA_OK)
		return fail(ENOMEM, "no memory to unpack xz with");
	s.next_in = src;
	s.avail_in = len;
	s.next_out = dst;
	s.avail_out = cap;
	do
		ret = x.code(&s, mode == UNPACK_HEAD ? LZMA_RUN : LZMA_FINISH);
	while (ret == LZMA_OK && (mode == UNPACK_ALL || s.avail_out > 0));
	made = result(ret, &s, cap, mode);
	x.end(&s);
	return made;
}

const struct unpack_format unpack_xz = {
	.name = "xz",
	.library = "liblzma.so.5",
	.package = "liblzma5",
	.magic = {0xfd, '7', 'z', 'X', 'Z', 0},
	.magic_len = 6,
	.unpack = run,
};
