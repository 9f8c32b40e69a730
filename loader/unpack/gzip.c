// SPDX-License-Identifier: MIT
// gzip, by zlib.
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack/unpack.h"

#include <errno.h>
#include <limits.h>
#include <zlib.h>

static ssize_t result(int rc, const z_stream *s, size_t cap)
{
	if (rc == Z_STREAM_END)
		return (ssize_t)(cap - s->avail_out);
	if (rc == Z_MEM_ERROR)
		return fail(ENOMEM, "no memory to unpack gzip with");
	if (s->avail_out == 0)
		return unpack_too_much(cap);
	return fail(EINVAL, "broken gzip data after %lu bytes: %s", s->total_in,
		s->msg ? s->msg : "it ends too soon");
}

static ssize_t run(const void *src, size_t len, void *dst, size_t cap)
{
	z_stream s = {.next_out = dst, .avail_out = (unsigned)cap, .avail_in = (unsigned)len};
	ssize_t made;

	if (len > UINT_MAX || cap > UINT_MAX)
		return fail(EINVAL, "gzip data of 4 GiB or more");
	memcpy(&s.next_in, &src, sizeof(src)); /* zlib's pointer is not const, what it does is */
	if (inflateInit2(&s, MAX_WBITS + 16) != Z_OK)
		return fail(ENOMEM, "no memory to unpack gzip with");
	made = result(inflate(&s, Z_FINISH), &s, cap);
	inflateEnd(&s);
	return made;
}

const struct unpack_format unpack_gzip = {
	.name = "gzip",
	.magic = {0x1f, 0x8b, 0x08},
	.magic_len = 3,
	.unpack = run,
};
