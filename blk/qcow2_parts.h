// SPDX-License-Identifier: MIT
// What the files of an open qcow2 image share.
//
// Waiting. What needs a table that is not in memory, or anything else that takes time, is given a
// waiter, returns QCOW2_WAIT and has changed nothing; the waiter's `go` is called when it is worth
// trying again, from the beginning. An error that will not go away is handed to it as rc.
#ifndef BLK_QCOW2_PARTS_H
#define BLK_QCOW2_PARTS_H

#include "blk/qcow2_format.h"

#include "base/list.h"
#include "base/log.h"
#include "blk/decompress.h"
#include "blk/layer.h"

#define QCOW2_WAIT 1

#define QCOW2_SLICE 4096u    /* bytes of a table that are read and written at once */
#define QCOW2_PASSES 256u    /* requests that are handed on as they are; more are like others */
#define QCOW2_SPLITS 128u    /* other requests that are under way; more of them wait */
#define QCOW2_INNER 16u      /* the same, of our own: what is read to be copied */
#define QCOW2_PIECES 4u      /* of one request that are under way */
#define QCOW2_COPIES 32u     /* of slices that are being written */
#define QCOW2_FREES 1024u    /* runs of clusters that are to be freed; a power of two */
#define QCOW2_HOLES 256u     /* runs of free clusters that are remembered */
#define QCOW2_UNPACKERS 2u   /* compressed clusters at a time */
#define QCOW2_BOUNCES_MAX 32 /* buffers to copy clusters with */

struct qcow2;

/* ---- waiting ---- */

struct qcow2_waiter {
	struct qcow2_waiter *next;
	void (*go)(struct qcow2_waiter *w, int rc);
};

/* Zero-initialised is empty. */
struct qcow2_line {
	struct qcow2_waiter *first, *last;
};

void qcow2_line_add(struct qcow2_line *l, struct qcow2_waiter *w);
/* Calls all that are in it now. */
void qcow2_line_wake(struct qcow2_line *l, int rc);

/* ---- tables, a slice at a time (qcow2_cache.c) ---- */

struct qcow2_slice {
	uint64_t at; /* bytes: where it lies in the file */
	struct qcow2_slice *chain;
	struct list changed; /* in `dirty` or `cycle` of the cache, or in none */
	uint8_t *data;
	uint8_t *copy; /* what the cycle is to write, where that is no longer in `data` */
	bool valid;    /* else it is being read */
	bool used;     /* lately */
	bool dirty;    /* changed after the cycle began, or while there was none */
	bool cycle;    /* the cycle writes it */
	bool sent;     /* and has begun to */
	bool linked;   /* in the hash */
	struct qcow2_line waiting;
	struct blk_request r;
	struct iovec iov;
	struct qcow2_cache *cache;
};

struct qcow2_cache {
	struct qcow2 *q;
	const char *what;
	unsigned count, fresh; /* slices, and how many of them were ever used */
	unsigned hand, buckets;
	unsigned dirty_count;
	struct qcow2_slice *slice, **bucket;
	uint8_t *memory;
	struct list dirty, cycle;
	struct qcow2_line full; /* what waits for a slice */
};

int qcow2_cache_init(struct qcow2_cache *c, struct qcow2 *q, const char *what, uint64_t bytes);
void qcow2_cache_finish(struct qcow2_cache *c);

/* The slice at that byte of the file: 0, QCOW2_WAIT or -errno. Good until the caller returns. `w`
 * NULL: only looks. */
int qcow2_slice_get(
	struct qcow2_cache *c, uint64_t at, struct qcow2_waiter *w, struct qcow2_slice **out);
/* The same of one that the file has as zeroes, for certain. */
int qcow2_slice_zero(
	struct qcow2_cache *c, uint64_t at, struct qcow2_waiter *w, struct qcow2_slice **out);
/* It, whatever its state; NULL: it is not in memory. */
struct qcow2_slice *qcow2_slice_find(const struct qcow2_cache *c, uint64_t at);
/* Before a change of an L2 slice: 0 or QCOW2_WAIT. */
int qcow2_slice_keep(struct qcow2_slice *s, struct qcow2_waiter *w);
/* It has been changed. */
void qcow2_slice_dirty(struct qcow2_slice *s);
/* Nothing is known of that part of the file any more; nothing in it is dirty. */
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t at, uint64_t len);

/* ---- tables that are in memory as a whole ---- */

struct qcow2_table {
	uint64_t at;       /* bytes: where it lies in the file */
	uint64_t *entries; /* of this host's byte order */
	uint32_t count;
	uint64_t *dirty; /* a bit a QCOW2_SLICE */
	uint32_t dirty_count;
	size_t mapped; /* bytes */
};

/* With room to become larger, all zeroes. 0 or -ENOMEM. */
int qcow2_table_init(struct qcow2_table *t, uint32_t count, size_t room);
void qcow2_table_finish(struct qcow2_table *t);
/* Not while there is a cycle. */
void qcow2_table_set(struct qcow2_table *t, uint32_t index, uint64_t entry);

/* ---- what is where (qcow2_map.c) ---- */

enum qcow2_kind {
	QCOW2_ABSENT, /* no entry: the backing file's, or zeroes */
	QCOW2_ZEROES, /* no cluster */
	QCOW2_PLACED, /* zeroes, with a cluster that is not read */
	QCOW2_DATA,
	QCOW2_PACKED, /* compressed */
};

struct qcow2_map {
	enum qcow2_kind kind;
	bool copied;   /* the cluster is this disk's alone */
	bool lasts;    /* the entry is on the medium as it is, or will be by a flush alone */
	uint64_t host; /* bytes: of DATA; of PLACED and PACKED that of the cluster's beginning */
	uint64_t len;  /* bytes of this kind, one after another in the file too */
	uint64_t entry;
};

/* What is at `off`: at most `len` bytes, within one slice. 0, QCOW2_WAIT or -errno. `w` NULL: only
 * looks. */
int qcow2_lookup(
	struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_waiter *w, struct qcow2_map *out);
/* The L2 slice of that cluster, for a change; `*index` is the entry's in it. It is -ENOENT where
 * there is no table that may be changed: see qcow2_table_make. */
int qcow2_entry(struct qcow2 *q, uint64_t cluster, struct qcow2_waiter *w, struct qcow2_slice **out,
	unsigned *index);
/* Makes one: a new one, or a copy of one that a snapshot has too. 0: it is there, as is worth
 * trying; QCOW2_WAIT or -errno. */
int qcow2_table_make(struct qcow2 *q, uint64_t cluster, struct qcow2_waiter *w);
/* What an entry says. 0, or -EIO with a line in the log. */
int qcow2_decode(struct qcow2 *q, uint64_t entry, uint64_t cluster, struct qcow2_map *out);
/* Whether it is a whole cluster of the file, and not the header's or one of the large tables'. */
bool qcow2_host_ok(const struct qcow2 *q, uint64_t host);
/* -EIO, with a line in the log. */
int qcow2_broken(struct qcow2 *q, const char *what, uint64_t entry, uint64_t off);

/* ---- refcounts (qcow2_alloc.c) ---- */

struct qcow2_run {
	uint64_t first, count; /* clusters */
};

struct qcow2_place {
	uint64_t first, count; /* clusters; 1 or more */
	bool zeroes;           /* the file has zeroes there */
};

/* Takes up to `want` clusters that follow each other. 0, QCOW2_WAIT or -errno. */
int qcow2_alloc(struct qcow2 *q, uint64_t want, struct qcow2_waiter *w, struct qcow2_place *out);
/* Sees to it that the next `count` clusters that are taken follow each other. 0, QCOW2_WAIT or
 * -errno. */
int qcow2_make_room(struct qcow2 *q, uint64_t count, struct qcow2_waiter *w);
/* One reference less each, once nothing durable refers to them. There must be room: */
bool qcow2_may_free(struct qcow2 *q, unsigned runs, struct qcow2_waiter *w);
void qcow2_free_later(struct qcow2 *q, uint64_t first, uint64_t count);
/* Gives back what was taken and is referred to by nothing. */
void qcow2_unalloc(struct qcow2 *q, const struct qcow2_place *p);
/* The same as qcow2_free_later, of whatever an L2 entry refers to. */
void qcow2_free_entry(struct qcow2 *q, const struct qcow2_map *m);
/* Goes on with that, where it can. */
void qcow2_release(struct qcow2 *q);
/* One reference more of a cluster that has some. 0, QCOW2_WAIT or -errno. */
int qcow2_ref_again(struct qcow2 *q, uint64_t cluster, struct qcow2_waiter *w);

/* ---- writing out (qcow2_flush.c) ---- */

struct qcow2_out {
	struct blk_request r;
	struct iovec iov;
	struct qcow2 *q;
	uint8_t *copy;
};

struct qcow2_cycle {
	bool running, advancing;
	bool changes; /* L2 or L1 */
	unsigned phase, inflight;
	bool begun; /* the phase */
	int rc;
	struct list *slice; /* the next to write */
	uint32_t chunk;
	uint64_t frees;              /* what was to be freed when it began */
	struct qcow2_line now, next; /* what waits for this one and for another */
	struct qcow2_line ended;     /* what waits for its end, however that is */
	struct blk_request flush;
	struct qcow2_out out[QCOW2_COPIES];
	struct qcow2_out *idle[QCOW2_COPIES]; /* of `out` */
	uint8_t *copy[QCOW2_COPIES];          /* buffers that are not in use */
	unsigned idle_count, copies;
	uint8_t *memory;
	struct qcow2_line copied; /* what waits for a buffer */
};

int qcow2_cycle_init(struct qcow2 *q);
/* Has all that was changed written, durable, and then the waiter called. */
void qcow2_flush(struct qcow2 *q, struct qcow2_waiter *w);
/* Begins a cycle, unless there is one. */
void qcow2_cycle_start(struct qcow2 *q);
bool qcow2_is_dirty(const struct qcow2 *q);

/* ---- requests (qcow2.c, qcow2_write.c) ---- */

struct qcow2_split;

struct qcow2_piece {
	struct blk_request r;
	struct qcow2_split *split;
	bool busy;
	uint8_t epoch;
	struct qcow2_waiter w;

	/* Of one that allocates. */
	struct list changing;
	struct qcow2_line others; /* what waits for it, being for the same clusters */
	uint64_t at;              /* bytes of the disk: of the data */
	uint64_t first;           /* the disk's cluster */
	struct qcow2_place place;
	bool kept;      /* the place was the disk's before */
	bool known;     /* around the data there are zeroes */
	unsigned fills; /* under way */
	int rc;
	uint8_t *bounce;
	struct blk_request fill[2];
	struct iovec fill_iov[2];
};

/* Of these, memory is touched as far as there ever were so many, and such pieces. */
struct qcow2_split {
	struct qcow2 *q;
	struct blk_request *whole;
	struct qcow2_split *next; /* while idle */
	struct qcow2_waiter w;
	uint64_t pos;  /* how much of it is split */
	unsigned busy; /* pieces */
	int rc;
	bool splitting, waiting;
	bool inner;
	bool flushes; /* it is over when a cycle is */
	struct qcow2_piece piece[QCOW2_PIECES];
	struct iovec iov[QCOW2_PIECES][BLK_IOV_MAX];
};

/* A request that is handed on as it is, at another place. */
struct qcow2_pass {
	struct blk_request r;
	struct blk_request *whole;
	struct qcow2 *q;
	struct qcow2_pass *next; /* while idle */
	uint8_t epoch;
};

/* The next piece of a write, a write of zeroes or a discard: what is not written in place. Like
 * what it is for, it moves `pos` on, or makes the split wait or fail. */
void qcow2_write_piece(struct qcow2_split *s, unsigned index, const struct qcow2_map *m);
void qcow2_clear_piece(struct qcow2_split *s, unsigned index, struct qcow2_map *m);
/* Of qcow2.c: */
void qcow2_split_wait(struct qcow2_split *s);
void qcow2_piece_end(struct qcow2_piece *p, int rc);
void qcow2_submit_inner(struct qcow2 *q, struct blk_request *r);
void qcow2_cut(struct qcow2_split *s, unsigned index, uint64_t len);
void qcow2_send(struct qcow2_piece *p, struct blk *to, uint64_t at);

/* ---- compressed clusters (qcow2_compressed.c) ---- */

struct qcow2_unpacker {
	struct qcow2 *q;
	uint64_t entry; /* of L2; 0: none */
	bool busy;
	uint8_t epoch;
	uint8_t *from, *to;
	struct blk_request r;
	struct iovec iov;
	struct decompress_job job;
	struct qcow2_line waiting;
};

/* The bytes of that cluster: 0, QCOW2_WAIT or -errno. Good until the caller returns. */
int qcow2_unpack(
	struct qcow2 *q, const struct qcow2_map *m, struct qcow2_waiter *w, const uint8_t **out);
/* What was unpacked of it is forgotten. */
void qcow2_unpack_forget(struct qcow2 *q, uint64_t entry);

/* ---- all of it ---- */

struct qcow2 {
	struct blk blk;
	struct blk *file, *backing; /* owned; NULL: no backing file */
	struct qcow2_header h;
	unsigned cluster_bits, l2_bits, slice_bits; /* the last two: of entries */
	uint32_t slice;                             /* bytes */
	uint64_t cluster;                           /* bytes */
	struct qcow2_table l1, refs;
	struct qcow2_cache l2_cache, refs_cache;
	uint64_t log_again_ns; /* CLOCK_MONOTONIC: nothing is logged before */
	uint8_t *header;       /* its first sector, as it is to be */

	/* Clusters of the file. */
	uint64_t tail;             /* from here on none is in use, or that will be seen */
	uint64_t limit;            /* there are no more */
	uint64_t zeroes;           /* from here on those that were never used are zeroes */
	uint64_t sweep, sweep_end; /* between them some may be free that are not in `hole` */
	struct qcow2_run hole[QCOW2_HOLES];
	unsigned holes;
	struct {
		bool busy;
		uint64_t first, blocks, table; /* clusters */
		uint64_t at;                   /* how many of them are counted */
	} grow;                                /* of the refcount table */
	struct {
		bool busy;
		uint64_t first, count; /* clusters that are zeroes */
		struct blk_request r;
		struct qcow2_line waiting;
	} zero;

	/* What is to be freed: a ring; each counts from the beginning of time. */
	struct qcow2_run free[QCOW2_FREES];
	uint64_t free_head, free_durable, free_guarded, free_tail;
	struct qcow2_line free_room;
	struct qcow2_waiter release;
	struct blk_request punch;
	uint64_t punched;     /* clusters of the first run, from its beginning on */
	unsigned epoch;       /* 0 or 1 */
	unsigned inflight[2]; /* requests that use clusters as found in an epoch */

	/* The L2 table that is being made: one at a time. */
	struct {
		bool busy;
		uint32_t index;
		uint64_t old; /* bytes; 0: none */
		struct qcow2_place place;
		uint8_t *bounce;
		int rc; /* of the last */
		struct qcow2_waiter w;
		struct blk_request r;
		struct iovec iov;
		struct qcow2_line waiting;
	} make;

	struct qcow2_cycle cycle;

	struct qcow2_pass *passes, *pass_idle;
	struct qcow2_split *splits, *idle, *inner, *inner_idle;
	unsigned fresh, inner_fresh, busy;
	bool starting, releasing, sweep_waited, header_dirty;
	struct blk_line line, inner_line; /* what waits for a split */
	struct list changing;             /* pieces */

	uint8_t *bounces, *bounce[QCOW2_BOUNCES_MAX]; /* 2 clusters each */
	unsigned bounce_count, bounce_idle;
	struct qcow2_line bounced; /* what waits for one */

	struct decompressor *decompressor;
	struct qcow2_unpacker unpacker[QCOW2_UNPACKERS];
	unsigned unpacked; /* the one that was used last */
	struct qcow2_line unpacking;

	uint64_t packed_at; /* bytes: where compressed data goes on; 0: in a new cluster */
	uint8_t packed[BLK_SECTOR];
};

static inline uint64_t qcow2_cluster_of(const struct qcow2 *q, uint64_t off)
{
	return off >> q->cluster_bits;
}

static inline uint8_t *qcow2_bounce_take(struct qcow2 *q, struct qcow2_waiter *w)
{
	if (q->bounce_idle)
		return q->bounce[--q->bounce_idle];
	qcow2_line_add(&q->bounced, w);
	return NULL;
}

void qcow2_bounce_give(struct qcow2 *q, uint8_t *bounce);

/* One more, and one less, that uses clusters as they are linked now. */
static inline uint8_t qcow2_enter(struct qcow2 *q)
{
	q->inflight[q->epoch]++;
	return (uint8_t)q->epoch;
}

static inline void qcow2_leave(struct qcow2 *q, uint8_t epoch)
{
	if (--q->inflight[epoch] == 0 && epoch != q->epoch)
		qcow2_release(q);
}

/* An error, for people: at most one a second. */
void qcow2_log(struct qcow2 *q, const char *fmt, ...) printf_like(2, 3);

/* Of qcow2_ops, which qcow2_use_tools completes. */
int qcow2_drain_op(struct blk *b);
int64_t qcow2_measure_op(struct blk *b);
void qcow2_destroy_op(struct blk *b);
extern struct blk_ops qcow2_ops;

/* Calls it until it no longer waits. For opening, closing and tools. */
int qcow2_wait_for(
	struct qcow2 *q, int (*try)(struct qcow2 *q, void *arg, struct qcow2_waiter *w), void *arg);

static inline struct qcow2 *qcow2_of(struct blk *b)
{
	return container_of(b, struct qcow2, blk);
}

#endif
