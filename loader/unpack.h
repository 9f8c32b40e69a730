// SPDX-License-Identifier: MIT
// Private to loader/: what compressed kernels and modules are unpacked with.
//
// The libraries are loaded when they are needed and unloaded after: a running monitor has none of
// them mapped, and a host that lacks one can still boot what does not need it.
#ifndef LOADER_UNPACK_H
#define LOADER_UNPACK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum unpack_mode {
	UNPACK_HEAD, /* only the first `cap` bytes are wanted: more to come is no error */
	UNPACK_ALL,
};

struct unpack_format {
	const char *name;    /* "lz4" */
	const char *library; /* to be loaded */
	const char *package; /* that has it, on Debian */
	uint8_t magic[6], magic_len;
	/*
	 * Unpacks src[0, len) to dst[0, cap) with the loaded library. What comes after the packed
	 * data is ignored: kernels have their unpacked size there. Bytes made, at most `cap`;
	 * -ENOSPC when there are more (UNPACK_ALL); -EINVAL with a message when the data is broken
	 * or ends too soon; -ENOMEM.
	 */
	ssize_t (*unpack)(void *library, const void *src, size_t len, void *dst, size_t cap,
		enum unpack_mode mode);
};

extern const struct unpack_format unpack_gzip, unpack_lz4, unpack_xz, unpack_zstd;

/* The format that data with this beginning is in, or NULL. */
const struct unpack_format *unpack_detect(const void *head, size_t len);

/* The library, to be given to unpack and then to unpack_unload; NULL, with a message, where the
 * host lacks it. */
void *unpack_load(const struct unpack_format *f);
void unpack_unload(void *library);

/* Memory for big, short-lived buffers, in huge pages where the host grants them. NULL when there is
 * none. */
void *unpack_buffer(size_t size);
void unpack_buffer_free(void *p, size_t size); /* NULL is fine */

#endif
