// SPDX-License-Identifier: MIT
// Batches of clusters: while one is compressed the next is read and the one before written. What is
// written is in order, as compressed clusters lie one behind the other.
#include "cli/image/squeeze.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/thread.h"
#include "base/util.h"
#include "blk/now.h"
#include "blk/qcow2.h"
#include "cli/image/stretches.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#define THREADS_MAX 64u
#define BATCH_BYTES MIB(4)
#define BATCH_MAX 256u /* clusters: no more of the small ones */
#define READ_MAX MIB(1)

/* A cluster on its way. */
struct unit {
	struct blk_request r;
	struct iovec iov;
	uint8_t *plain, *packed;
	uint64_t off, len; /* at the disk's end less than a cluster, the rest of it zeroes */
	size_t packed_len; /* 0: it does not become less */
	bool zero;
	bool done; /* under the lock */
	int rc;    /* of reading */
};

struct batch {
	unsigned count;
	struct unit unit[BATCH_MAX];
};

struct squeezing {
	struct copy *c;
	enum compression method;
	unsigned room; /* clusters in a batch */
	struct stretches *s;
	unsigned next;
	uint64_t given;
	bool ended;
	struct batch batch[2];

	/* The threads'. */
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	struct batch *now; /* is to be compressed; NULL: nothing */
	unsigned taken;
	bool stop;
	pthread_t thread[THREADS_MAX];
	unsigned threads;
};

/* ---- one cluster ---- */

/* With the window of qcow2, and no header. 0 where it does not become less. */
static size_t deflate_unit(z_stream *z, struct unit *u, uint64_t cluster)
{
	deflateReset(z);
	z->next_in = u->plain;
	z->avail_in = (unsigned)cluster;
	z->next_out = u->packed;
	z->avail_out = (unsigned)cluster - 1;
	return deflate(z, Z_FINISH) == Z_STREAM_END ? cluster - 1 - z->avail_out : 0;
}

static size_t zstd_unit(ZSTD_CCtx *z, struct unit *u, uint64_t cluster)
{
	size_t n = ZSTD_compress2(z, u->packed, cluster - 1, u->plain, cluster);

	return ZSTD_isError(n) ? 0 : n;
}

/* ---- threads ---- */

/* The next cluster, or NULL when there is to be an end. */
static struct unit *take_unit(struct squeezing *q)
{
	struct unit *u = NULL;

	pthread_mutex_lock(&q->lock);
	while (!q->stop && (!q->now || q->taken == q->now->count))
		pthread_cond_wait(&q->work, &q->lock);
	if (!q->stop)
		u = &q->now->unit[q->taken++];
	pthread_mutex_unlock(&q->lock);
	return u;
}

static void give_back(struct squeezing *q, struct unit *u)
{
	pthread_mutex_lock(&q->lock);
	u->done = true;
	pthread_cond_signal(&q->done);
	pthread_mutex_unlock(&q->lock);
}

static void *work(void *arg)
{
	struct squeezing *q = arg;
	z_stream z = {0};
	ZSTD_CCtx *zstd = ZSTD_createCCtx();
	bool able = zstd && deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9,
				    Z_DEFAULT_STRATEGY) == Z_OK;
	struct unit *u;

	while ((u = take_unit(q))) {
		uint64_t cluster = q->c->grain;

		u->packed_len = 0;
		u->zero = copy_is_zero(u->plain, cluster);
		/* Without memory it stays as it is. */
		if (able && !u->zero && !u->rc)
			u->packed_len = q->method == COMPRESS_ZLIB ? deflate_unit(&z, u, cluster)
								   : zstd_unit(zstd, u, cluster);
		give_back(q, u);
	}
	deflateEnd(&z);
	ZSTD_freeCCtx(zstd);
	return NULL;
}

static void start_batch(struct squeezing *q, struct batch *b)
{
	pthread_mutex_lock(&q->lock);
	q->now = b;
	q->taken = 0;
	pthread_cond_broadcast(&q->work);
	pthread_mutex_unlock(&q->lock);
}

static void await_unit(struct squeezing *q, const struct unit *u)
{
	pthread_mutex_lock(&q->lock);
	while (!u->done)
		pthread_cond_wait(&q->done, &q->lock);
	pthread_mutex_unlock(&q->lock);
}

static void stop_threads(struct squeezing *q)
{
	pthread_mutex_lock(&q->lock);
	q->stop = true;
	pthread_cond_broadcast(&q->work);
	pthread_mutex_unlock(&q->lock);
	while (q->threads)
		pthread_join(q->thread[--q->threads], NULL);
}

static int start_threads(struct squeezing *q)
{
	unsigned want;
	cpu_set_t cpus;
	int rc = 0;

	want = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : (unsigned)CPU_COUNT(&cpus);
	want = MIN(want, THREADS_MAX);
	while (!rc && q->threads < want) {
		rc = thread_start(&q->thread[q->threads], 0, work, q);
		q->threads += !rc;
	}
	return q->threads ? 0 : failno(rc, "threads to compress with");
}

/* ---- batches ---- */

static void read_done(struct blk_request *r, int rc)
{
	struct unit *u = container_of(r, struct unit, r);

	u->rc = rc;
}

static void read_unit(struct squeezing *q, struct unit *u)
{
	uint64_t cluster = q->c->grain;

	memset(u->plain + u->len, 0, cluster - u->len);
	u->done = false;
	u->iov = (struct iovec){u->plain, u->len};
	u->r = (struct blk_request){.op = BLK_READ,
		.off = u->off,
		.len = u->len,
		.iov = &u->iov,
		.iovcnt = 1,
		.done = read_done};
	blk_submit(q->c->from, &u->r);
}

/* Whether there is one more cluster. -errno with a message. */
static int next_cluster(struct squeezing *q, struct unit *u)
{
	const struct stretch *x;
	int n;

	if (q->next == q->s->count) {
		n = q->ended ? 0 : stretches_next(q->s);
		q->ended = n == 0;
		q->next = 0;
		if (n <= 0)
			return n;
	}
	x = &q->s->at[q->next];
	u->off = x->off + q->given;
	u->len = MIN(q->c->grain, x->len - q->given);
	q->given += u->len;
	if (q->given == x->len) {
		q->next++;
		q->given = 0;
	}
	return 1;
}

/* Reads as much as fits. What is next is asked of the disk only with nothing under way. */
static int read_batch(struct squeezing *q, struct batch *b)
{
	int rc = 1, drained;

	b->count = 0;
	while (b->count < q->room && (!b->count || q->next < q->s->count)) {
		rc = next_cluster(q, &b->unit[b->count]);
		if (rc <= 0)
			break;
		read_unit(q, &b->unit[b->count++]);
	}
	blk_commit(q->c->from);
	drained = blk_drain(q->c->from);
	return rc < 0 ? rc : drained;
}

static int write_unit(struct squeezing *q, struct unit *u)
{
	struct copy *c = q->c;
	int rc = 0;

	if (u->rc)
		return failno(-u->rc, "%s: byte %llu: reading", c->from->name,
			(unsigned long long)u->off);
	progress_at(&c->progress, u->off);
	if (u->zero)
		return 0;
	if (u->packed_len)
		rc = qcow2_write_compressed(c->to, u->off, u->packed, u->packed_len);
	else
		rc = blk_write_now(c->to, u->off, u->plain, u->len);
	copy_wrote(c, u->packed_len ? u->packed_len : u->len);
	return rc ? failno(-rc, "%s: byte %llu: writing", c->to->name, (unsigned long long)u->off)
		  : 0;
}

static int write_batch(struct squeezing *q, struct batch *b)
{
	int rc = 0;

	for (unsigned i = 0; i < b->count; i++) {
		await_unit(q, &b->unit[i]);
		rc = rc ? rc : write_unit(q, &b->unit[i]);
	}
	return rc;
}

static int squeeze_all(struct squeezing *q)
{
	unsigned n = 0;
	int rc = read_batch(q, &q->batch[0]);

	while (!rc && q->batch[n].count) {
		int next;

		start_batch(q, &q->batch[n]);
		next = read_batch(q, &q->batch[!n]);
		rc = write_batch(q, &q->batch[n]);
		rc = rc ? rc : next;
		n = !n;
	}
	return rc;
}

static void give_memory(struct squeezing *q, uint8_t *at)
{
	for (unsigned b = 0; b < 2; b++) {
		for (unsigned i = 0; i < q->room; i++) {
			q->batch[b].unit[i].plain = at;
			q->batch[b].unit[i].packed = at + q->c->grain;
			at += 2 * q->c->grain;
		}
	}
}

int squeeze_run(struct copy *c, struct tool *t, enum compression method)
{
	static struct stretches s;
	static struct squeezing q;
	size_t room;
	uint8_t *buf;
	int rc;

	s = (struct stretches){.from = c->from, .grain = c->grain};
	q = (struct squeezing){.c = c,
		.method = method,
		.s = &s,
		.room = (unsigned)MIN(BATCH_BYTES / c->grain, BATCH_MAX),
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.work = PTHREAD_COND_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER};
	room = 4 * q.room * c->grain;
	buf = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		return fail(ENOMEM, "no memory to copy with");
	give_memory(&q, buf);
	rc = start_threads(&q);
	rc = rc ? rc : squeeze_all(&q);
	stop_threads(&q);
	munmap(buf, room);
	return rc;
}
