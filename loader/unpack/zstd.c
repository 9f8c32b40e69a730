// SPDX-License-Identifier: MIT
// zstd, by libzstd.
//
// All at once goes without the window that streaming needs, which is 128 MiB in a kernel packed at
// level 22.
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack/unpack.h"

#include <errno.h>
#include <zstd.h>
#include <zstd_errors.h>

static ssize_t bad(size_t err, size_t cap)
{
	ZSTD_ErrorCode code = ZSTD_getErrorCode(err);

	if (code == ZSTD_error_dstSize_tooSmall)
		return unpack_too_much(cap);
	if (code == ZSTD_error_memory_allocation)
		return fail(ENOMEM, "no memory to unpack zstd with");
	return fail(EINVAL, "broken zstd data: %s", ZSTD_getErrorName(err));
}

static ssize_t run(const void *src, size_t len, void *dst, size_t cap)
{
	size_t n = ZSTD_findFrameCompressedSize(src, len);

	if (!ZSTD_isError(n))
		n = ZSTD_decompress(dst, cap, src, n);
	return ZSTD_isError(n) ? bad(n, cap) : (ssize_t)n;
}

const struct unpack_format unpack_zstd = {
	.name = "zstd",
	.magic = {0x28, 0xb5, 0x2f, 0xfd},
	.magic_len = 4,
	.unpack = run,
};
