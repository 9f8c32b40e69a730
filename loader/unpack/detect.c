// SPDX-License-Identifier: MIT
// The formats that are known.
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack/unpack.h"

#include <errno.h>

static const struct unpack_format *const formats[] = {
	&unpack_lz4, &unpack_gzip, &unpack_zstd, &unpack_xz};

const struct unpack_format *unpack_detect(const void *head, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (len >= formats[i]->magic_len &&
			memcmp(head, formats[i]->magic, formats[i]->magic_len) == 0)
			return formats[i];
	fail(ENOTSUP, "packed in a way not known here (gzip, lz4, xz and zstd are)");
	return NULL;
}

int unpack_too_much(size_t cap)
{
	return fail(ENOSPC, "it unpacks to more than %zu bytes", cap);
}
