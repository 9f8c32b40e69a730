// SPDX-License-Identifier: MIT
// lz4 in its legacy frame, by liblz4, the blocks shared among threads.
//
// The legacy frame is what `lz4 -l` makes and what Linux packs itself with; the library's own frame
// functions do not read it. It is a magic number and then blocks, each a 32-bit size and that many
// bytes, which unpack to 8 MiB independently of one another; the last one may make less. There is
// no end mark: a frame ends with its file. In a kernel the unpacked size follows, 32 bits, which
// look like the beginning of one more block.
#include "base/log.h"
#include "base/thread.h"
#include "base/util.h"
#include "loader/unpack/unpack.h"

#include <errno.h>
#include <lz4.h>
#include <sched.h>

#define BLOCK ((size_t)MIB(8))
#define MAX_BLOCKS 128u
#define MAX_THREADS 4u

struct block {
	const char *src;
	uint32_t size;
	size_t cap;
	char *dst;
};

struct work {
	struct block block[MAX_BLOCKS];
	unsigned count;
	unsigned next;   /* to be taken; atomic */
	unsigned broken; /* the number of a block that is, plus 1; atomic */
	size_t last;     /* bytes that the last block made */
};

/* The next block of [*pos, len): 1, or 0 at the end of the frame, or -errno. */
static int next_block(const char *src, size_t len, size_t *pos, struct block *b)
{
	if (len - *pos <= 4)
		return 0;
	b->size = get_le32(src + *pos);
	if (b->size == 0 || b->size > (size_t)LZ4_COMPRESSBOUND(BLOCK))
		return fail(EINVAL, "broken lz4 data: a block of %u bytes at offset %zu", b->size,
			*pos);
	if (b->size > len - *pos - 4)
		return fail(
			EINVAL, "broken lz4 data: it ends within the block at offset %zu", *pos);
	b->src = src + *pos + 4;
	*pos += 4 + b->size;
	return 1;
}

static int find_blocks(struct work *w, const char *src, size_t len, char *dst, size_t cap)
{
	size_t pos = unpack_lz4.magic_len, made = 0;
	struct block b;
	int rc;

	while ((rc = next_block(src, len, &pos, &b)) > 0) {
		if (w->count == MAX_BLOCKS || made >= cap)
			return unpack_too_much(cap);
		b.dst = dst + made;
		b.cap = MIN(BLOCK, cap - made);
		made += b.cap;
		w->block[w->count++] = b;
	}
	if (!rc && !w->count)
		return fail(EINVAL, "broken lz4 data: it has no block");
	return rc;
}

static void *work(void *arg)
{
	struct work *w = arg;

	for (;;) {
		unsigned i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
		const struct block *b = &w->block[i];
		int made;

		if (i >= w->count)
			return NULL;
		made = LZ4_decompress_safe(b->src, b->dst, (int)b->size, (int)b->cap);
		if (made < 0 || (i + 1 < w->count && (size_t)made < BLOCK))
			__atomic_store_n(&w->broken, i + 1, __ATOMIC_RELAXED);
		else if (i + 1 == w->count)
			w->last = (size_t)made;
	}
}

static unsigned helpers(const struct work *w)
{
	cpu_set_t cpus;
	unsigned n = 1;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		n = (unsigned)CPU_COUNT(&cpus);
	return MIN(MIN(n, MAX_THREADS), w->count) - 1;
}

/* A thread that cannot be had is not missed: the blocks are taken by those that there are. */
static void share_work(struct work *w)
{
	pthread_t thread[MAX_THREADS];
	unsigned n = 0, want = helpers(w);

	while (n < want && thread_start(&thread[n], 0, work, w) == 0)
		n++;
	work(w);
	while (n > 0)
		pthread_join(thread[--n], NULL);
}

static ssize_t run(const void *src, size_t len, void *dst, size_t cap)
{
	struct work w = {0};
	int rc;

	if (len < unpack_lz4.magic_len)
		return fail(EINVAL, "broken lz4 data: %zu bytes", len);
	rc = find_blocks(&w, src, len, dst, cap);
	if (rc)
		return rc;
	share_work(&w);
	if (w.broken)
		return fail(EINVAL, "broken lz4 data in block %u of %u, at offset %zu", w.broken,
			w.count, (size_t)(w.block[w.broken - 1].src - (const char *)src));
	return (ssize_t)((w.count - 1) * BLOCK + w.last);
}

const struct unpack_format unpack_lz4 = {
	.name = "lz4",
	.magic = {0x02, 0x21, 0x4c, 0x18},
	.magic_len = 4,
	.unpack = run,
};
