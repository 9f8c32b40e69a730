// SPDX-License-Identifier: MIT
// zstd, by libzstd.
//
// All at once goes without the window that streaming needs, which is 128 MiB in a kernel packed at
// level 22.
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack.h"

#include <dlfcn.h>
#include <errno.h>
#include <zstd.h>
#include <zstd_errors.h>

struct libzstd {
	__typeof__(ZSTD_createDCtx) *create;
	__typeof__(ZSTD_freeDCtx) *free;
	__typeof__(ZSTD_decompressDCtx) *all;
	__typeof__(ZSTD_decompressStream) *stream;
	__typeof__(ZSTD_findFrameCompressedSize) *frame_size;
	__typeof__(ZSTD_isError) *is_error;
	__typeof__(ZSTD_getErrorCode) *code;
	__typeof__(ZSTD_getErrorName) *error_name;
};

static int bind(void *library, struct libzstd *z)
{
	z->create = (__typeof__(z->create))dlsym(library, "ZSTD_createDCtx");
	z->free = (__typeof__(z->free))dlsym(library, "ZSTD_freeDCtx");
	z->all = (__typeof__(z->all))dlsym(library, "ZSTD_decompressDCtx");
	z->stream = (__typeof__(z->stream))dlsym(library, "ZSTD_decompressStream");
	z->frame_size = (__typeof__(z->frame_size))dlsym(library, "ZSTD_findFrameCompressedSize");
	z->is_error = (__typeof__(z->is_error))dlsym(library, "ZSTD_isError");
	z->code = (__typeof__(z->code))dlsym(library, "ZSTD_getErrorCode");
	z->error_name = (__typeof__(z->error_name))dlsym(library, "ZSTD_getErrorName");
	return z->create && z->free && z->all && z->stream && z->frame_size && z->is_error &&
			       z->code && z->error_name
		       ? 0
		       : fail(EINVAL, "libzstd lacks a function");
}

static ssize_t bad(const struct libzstd *z, size_t err)
{
	ZSTD_ErrorCode code = z->code(err);

	if (code == ZSTD_error_dstSize_tooSmall)
		return -ENOSPC;
	if (code == ZSTD_error_memory_allocation)
		return fail(ENOMEM, "no memory to unpack zstd with");
	return fail(EINVAL, "broken zstd data: %s", z->error_name(err));
}

static ssize_t unpack_all(
	const struct libzstd *z, ZSTD_DCtx *ctx, const void *src, size_t len, void *dst, size_t cap)
{
	size_t n = z->frame_size(src, len);

	if (!z->is_error(n))
		n = z->all(ctx, dst, cap, src, n);
	return z->is_error(n) ? bad(z, n) : (ssize_t)n;
}

static ssize_t unpack_head(
	const struct libzstd *z, ZSTD_DCtx *ctx, const void *src, size_t len, void *dst, size_t cap)
{
	ZSTD_inBuffer in = {src, len, 0};
	ZSTD_outBuffer out = {dst, cap, 0};
	size_t left;

	do {
		size_t before = in.pos;

		left = z->stream(ctx, &out, &in);
		if (z->is_error(left))
			return bad(z, left);
		if (left && in.pos == before && out.pos < out.size)
			return fail(EINVAL, "broken zstd data: it ends too soon");
	} while (left && out.pos < out.size);
	return (ssize_t)out.pos;
}

static ssize_t run(
	void *library, const void *src, size_t len, void *dst, size_t cap, enum unpack_mode mode)
{
	struct libzstd z;
	ZSTD_DCtx *ctx;
	ssize_t made;
	int rc = bind(library, &z);

	if (rc)
		return rc;
	ctx = z.create();
	if (!ctx)
		return fail(ENOMEM, "no memory to unpack zstd with");
	made = (mode == UNPACK_HEAD ? unpack_head : unpack_all)(&z, ctx, src, len, dst, cap);
	z.free(ctx);
	return made;
}

const struct unpack_format unpack_zstd = {
	.name = "zstd",
	.library = "libzstd.so.1",
	.package = "libzstd1",
	.magic = {0x28, 0xb5, 0x2f, 0xfd},
	.magic_len = 4,
	.unpack = run,
};
