// SPDX-License-Identifier: MIT
// gzip, by zlib.
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <zlib.h>

struct zlib {
	__typeof__(inflateInit2_) *init;
	__typeof__(inflate) *inflate;
	__typeof__(inflateEnd) *end;
};

static int bind(void *library, struct zlib *z)
{
	z->init = (__typeof__(z->init))dlsym(library, "inflateInit2_");
	z->inflate = (__typeof__(z->inflate))dlsym(library, "inflate");
	z->end = (__typeof__(z->end))dlsym(library, "inflateEnd");
	return z->init && z->inflate && z->end ? 0 : fail(EINVAL, "libz lacks a function");
}

static ssize_t result(int rc, const z_stream *s, size_t cap, enum unpack_mode mode)
{
	size_t made = cap - s->avail_out;

	if (rc == Z_STREAM_END || (mode == UNPACK_HEAD && made == cap))
		return (ssize_t)made;
	if (rc == Z_MEM_ERROR)
		return fail(ENOMEM, "no memory to unpack gzip with");
	if (s->avail_out == 0)
		return -ENOSPC;
	return fail(EINVAL, "broken gzip data after %lu bytes: %s", s->total_in,
		s->msg ? s->msg : "it ends too soon");
}

static ssize_t run(
	void *library, const void *src, size_t len, void *dst, size_t cap, enum unpack_mode mode)
{
	z_stream s = {.next_out = dst, .avail_out = (unsigned)cap, .avail_in = (unsigned)len};
	struct zlib z;
	ssize_t made;
	int rc = bind(library, &z);

	if (rc)
		return rc;
	if (len > UINT_MAX || cap > UINT_MAX)
		return fail(EINVAL, "gzip data of 4 GiB or more");
	memcpy(&s.next_in, &src, sizeof(src)); /* zlib's pointer is not const, what it does is */
	if (z.init(&s, MAX_WBITS + 16, ZLIB_VERSION, sizeof(s)) != Z_OK)
		return fail(ENOMEM, "no memory to unpack gzip with");
	rc = z.inflate(&s, mode == UNPACK_HEAD ? Z_SYNC_FLUSH : Z_FINISH);
	made = result(rc, &s, cap, mode);
	z.end(&s);
	return made;
}

const struct unpack_format unpack_gzip = {
	.name = "gzip",
	.library = "libz.so.1",
	.package = "zlib1g",
	.magic = {0x1f, 0x8b, 0x08},
	.magic_len = 3,
	.unpack = run,
};
