// SPDX-License-Identifier: MIT
// Decompression of an image's clusters, by whoever does it: in a program that links the libraries,
// or in a process of its own, so that what an image is made of can break nothing.
#ifndef BLK_DECOMPRESS_H
#define BLK_DECOMPRESS_H

#include <stddef.h>
#include <stdint.h>

enum decompress_kind {
	DECOMPRESS_DEFLATE, /* without a header: qcow2's, window 4 KiB */
	DECOMPRESS_ZLIB,    /* with zlib's header: a vmdk's */
	DECOMPRESS_ZSTD,
};

/* Embedded by who submits it, kept until `done`. */
struct decompress_job {
	enum decompress_kind kind;
	const void *from; /* in memory of `buffer` */
	size_t from_len;  /* at most: there may be more than the compressed data */
	void *to;         /* in memory of `buffer` */
	size_t to_len;    /* it is to become exactly as much */
	void (*done)(struct decompress_job *j, int rc); /* 0 or -errno; -EINVAL: bad data */
	struct decompress_job *next;
};

/* Embedded in each kind. All of it belongs to the loop of the disks that use it. */
struct decompressor {
	/* `done` is called from within, or later from the loop. */
	void (*submit)(struct decompressor *d, struct decompress_job *j);
	/* Waits until all jobs are done. 0 or -errno. */
	int (*drain)(struct decompressor *d);
	/* Memory for jobs, page-aligned and not touched yet, for as long as there is the
	 * decompressor; NULL: there is no more. */
	void *(*buffer)(struct decompressor *d, size_t len);
};

#endif
