// SPDX-License-Identifier: MIT
// Decompression by zlib and libzstd, each with a state that is used over and over.
#include "blk/decompress_here.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

/* A piece of memory that was given out; in memory of its own. */
struct piece {
	struct piece *next;
	void *at;
	size_t len;
};

struct here {
	struct decompressor decompressor;
	z_stream zlib;
	ZSTD_DCtx *zstd;
	struct piece *pieces;
};

/* qcow2's: no header, and a window of 4 KiB, of which any larger one can read. */
#define RAW_BITS (-15)

static int inflate_job(struct here *h, const struct decompress_job *j)
{
	z_stream *s = &h->zlib;
	int rc = inflateReset2(s, j->kind == DECOMPRESS_ZLIB ? MAX_WBITS : RAW_BITS);

	if (rc != Z_OK || j->from_len > UINT_MAX || j->to_len > UINT_MAX)
		return -EINVAL;
	memcpy(&s->next_in, &j->from, sizeof(j->from)); /* zlib's pointer is not const */
	s->avail_in = (unsigned)j->from_len;
	s->next_out = j->to;
	s->avail_out = (unsigned)j->to_len;
	/* A stream need not say that it ends, as long as all is there. */
	rc = inflate(s, Z_FINISH);
	return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && !s->avail_out ? 0 : -EINVAL;
}

/* Frame by frame, as what follows may be anything. Each all at once: a stream has a window, and of
 * what size is the image's to say. */
static int zstd_job(const struct here *h, const struct decompress_job *j)
{
	const uint8_t *from = j->from;
	uint8_t *to = j->to;
	size_t in = 0, out = 0, len, made = 1;

	while (out < j->to_len && made) {
		len = ZSTD_findFrameCompressedSize(from + in, j->from_len - in);
		if (ZSTD_isError(len))
			return -EINVAL;
		made = ZSTD_decompressDCtx(h->zstd, to + out, j->to_len - out, from + in, len);
		if (ZSTD_isError(made))
			return -EINVAL;
		in += len;
		out += made;
	}
	return out == j->to_len ? 0 : -EINVAL;
}

static void submit(struct decompressor *d, struct decompress_job *j)
{
	struct here *h = container_of(d, struct here, decompressor);

	j->done(j, j->kind == DECOMPRESS_ZSTD ? zstd_job(h, j) : inflate_job(h, j));
}

static int drain(struct decompressor *d)
{
	return 0;
}

static void *buffer(struct decompressor *d, size_t len)
{
	struct here *h = container_of(d, struct here, decompressor);
	struct piece *p = malloc(sizeof(*p));
	void *at = p ? mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
		     : MAP_FAILED;

	if (at == MAP_FAILED) {
		free(p);
		return NULL;
	}
	*p = (struct piece){h->pieces, at, len};
	h->pieces = p;
	return at;
}

int decompress_here_create(struct decompressor **out)
{
	struct here *h = calloc(1, sizeof(*h));

	if (!h)
		return fail(ENOMEM, "no memory to decompress with");
	h->zstd = ZSTD_createDCtx();
	if (!h->zstd || inflateInit2(&h->zlib, RAW_BITS) != Z_OK) {
		ZSTD_freeDCtx(h->zstd);
		free(h);
		return fail(ENOMEM, "no memory to decompress with");
	}
	h->decompressor = (struct decompressor){submit, drain, buffer};
	*out = &h->decompressor;
	return 0;
}

void decompress_here_destroy(struct decompressor *d)
{
	struct here *h = container_of(d, struct here, decompressor);
	struct piece *next;

	if (!d)
		return;
	for (struct piece *p = h->pieces; p; p = next) {
		next = p->next;
		munmap(p->at, p->len);
		free(p);
	}
	inflateEnd(&h->zlib);
	ZSTD_freeDCtx(h->zstd);
	free(h);
}
