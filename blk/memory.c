// SPDX-License-Identifier: MIT
// A table of chunks, each NULL until it is written to.
#include "blk/memory.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK KIB(64)

struct memory {
	struct blk blk;
	uint8_t **chunks;
	uint64_t count;
};

/* What of a request lies within one chunk. */
struct part {
	uint8_t **chunk;
	uint64_t pos;     /* in the request */
	uint64_t at, len; /* in the chunk */
};

static struct memory *of(struct blk *b)
{
	return container_of(b, struct memory, blk);
}

/* Fresh memory is zeroes. */
static int get_memory(uint8_t **chunk)
{
	void *p;

	if (*chunk)
		return 0;
	p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	*chunk = p;
	return 0;
}

static int read_part(const struct part *p, const struct blk_request *r)
{
	if (*p->chunk)
		iov_write(r->iov, r->iovcnt, p->pos, *p->chunk + p->at, p->len);
	else
		iov_zero(r->iov, r->iovcnt, p->pos, p->len);
	return 0;
}

static int write_part(const struct part *p, const struct blk_request *r)
{
	int rc = get_memory(p->chunk);

	if (!rc)
		iov_read(r->iov, r->iovcnt, p->pos, *p->chunk + p->at, p->len);
	return rc;
}

/* A whole chunk's memory is given back. */
static int zero_part(const struct part *p, const struct blk_request *r)
{
	if (!*p->chunk)
		return 0;
	if (p->len < CHUNK || madvise(*p->chunk, CHUNK, MADV_DONTNEED) < 0)
		memset(*p->chunk + p->at, 0, p->len);
	return 0;
}

static int for_parts(const struct memory *m, const struct blk_request *r,
	int (*fn)(const struct part *p, const struct blk_request *r))
{
	int rc = 0;

	for (uint64_t pos = 0; !rc && pos < r->len;) {
		struct part p = {.pos = pos, .at = (r->off + pos) % CHUNK};

		p.chunk = &m->chunks[(r->off + pos) / CHUNK];
		p.len = MIN(CHUNK - p.at, r->len - pos);
		rc = fn(&p, r);
		pos += p.len;
	}
	return rc;
}

static void memory_submit(struct blk *b, struct blk_request *r)
{
	static int (*const parts[])(const struct part *p, const struct blk_request *r) = {
		[BLK_READ] = read_part,
		[BLK_WRITE] = write_part,
		[BLK_DISCARD] = zero_part,
		[BLK_WRITE_ZEROES] = zero_part,
	};

	r->done(r, r->op == BLK_FLUSH ? 0 : for_parts(of(b), r, parts[r->op]));
}

static int memory_drain(struct blk *b)
{
	return 0;
}

static int64_t memory_measure(struct blk *b)
{
	return (int64_t)b->size;
}

static void memory_destroy(struct blk *b)
{
	struct memory *m = of(b);

	for (uint64_t i = 0; i < m->count; i++)
		if (m->chunks[i])
			munmap(m->chunks[i], CHUNK);
	munmap(m->chunks, m->count * sizeof(*m->chunks));
	free(m);
}

/* Mapped, so that what no one writes near takes no memory. */
static int create_table(struct memory *m, uint64_t size)
{
	void *p;

	m->count = (size + CHUNK - 1) / CHUNK;
	p = mmap(NULL, m->count * sizeof(*m->chunks), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	m->chunks = p;
	return 0;
}

int memory_create(struct blk **out, const char *name, uint64_t size)
{
	static const struct blk_ops ops = {
		.submit = memory_submit,
		.drain = memory_drain,
		.measure = memory_measure,
		.destroy = memory_destroy,
	};
	struct memory *m = calloc(1, sizeof(*m));

	if (!m || create_table(m, size)) {
		free(m);
		return fail(ENOMEM, "disk %s: no memory", name);
	}
	m->blk = (struct blk){
		.ops = &ops,
		.name = name,
		.size = size,
		.physical_block = BLK_SECTOR,
		.discard_align = CHUNK,
		.can_zero = true,
	};
	*out = &m->blk;
	return 0;
}
