// SPDX-License-Identifier: MIT
// The formats that kernels and modules are packed in, and the words kvick-unpack is spoken to with.
#ifndef LOADER_UNPACK_UNPACK_H
#define LOADER_UNPACK_UNPACK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct unpack_format {
	const char *name; /* "lz4" */
	uint8_t magic[6], magic_len;
	/*
	 * Unpacks src[0, len) to dst[0, cap). What comes after the packed data is ignored. Bytes
	 * made, at most `cap`; -ENOSPC when there are more; -EINVAL when the data is broken or ends
	 * too soon; -ENOMEM. Each with a message.
	 */
	ssize_t (*unpack)(const void *src, size_t len, void *dst, size_t cap);
};

extern const struct unpack_format unpack_gzip, unpack_lz4, unpack_xz, unpack_zstd;

/* The format that data with this beginning is in; NULL, with a message, where it is none of them.
 */
const struct unpack_format *unpack_detect(const void *head, size_t len);

/* More than fits where it was to go; the same words for every format. */
int unpack_too_much(size_t cap);

/*
 * kvick-unpack serves requests until its standard input, a SOCK_SEQPACKET socket, is closed. Each
 * is one struct unpack_request, with descriptors of the packed file and of the file, in memory,
 * that is to be filled; each is answered by a struct unpack_reply.
 */
enum { UNPACK_FROM, UNPACK_TO, UNPACK_FILES };

struct unpack_request {
	uint64_t off, len; /* of the packed data in the file */
	uint64_t max;      /* bytes that it may make, and that the file to be filled has */
};

struct unpack_reply {
	int64_t made;   /* bytes, or -errno */
	char text[256]; /* the message of an error */
};

#endif
