// SPDX-License-Identifier: MIT
// The copy is a few chunks under way, each a range that is claimed, read and written. The cursor is
// where the next will be claimed: behind it all is copied, but for the chunks.
//
// Requests that change the disk are tracked while there is a job. One that meets a chunk, or
// another tracked one, waits: two writes to one place would otherwise reach the two disks in
// different orders. A chunk that meets a tracked request waits for its end before it reads.
//
// What is to go on goes on from the loop's own thread (`more`): not from a completion, which may
// come from within the submission, and not from a visitor, who must not wait as the end of a job
// does.
#include "blk/mirror.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/commit.h"
#include "blk/layer.h"
#include "blk/now.h"

#include <errno.h>
#include <stdlib.h>

#define CHUNK KIB(512)
#define CHUNKS 4u
#define PAIRS 128u

enum chunk_state { CHUNK_IDLE, CHUNK_WAITS, CHUNK_READS, CHUNK_LOOKS, CHUNK_WRITES };

struct chunk {
	struct blk_request r;
	struct iovec iov;
	struct job *job;
	enum chunk_state state;
	uint8_t *buf;   /* CHUNK bytes */
	uint8_t *there; /* as many, where the target is looked at first; else NULL */
};

/* A request that changes the disk, and what it is to the target. */
struct pair {
	struct blk_request disk, target;
	struct blk_request *whole; /* NULL: idle */
	struct job *job;
	unsigned busy;
	int rc; /* of the disk's */
};

struct job {
	struct mirror *m;
	struct blk *target;
	struct mirror_job told;
	uint64_t cursor;
	bool same; /* all is copied */
	int rc;    /* why the target is not written to any more */
	unsigned pairs_busy, chunks_busy;
	struct blk_line line;
	struct chunk chunk[CHUNKS];
	struct pair pair[PAIRS];
};

struct mirror {
	struct layer layer;
	struct loop *loop;
	struct job *job;
	struct timer more;
	bool draining;
};

static struct mirror *of(struct blk *b)
{
	return container_of(b, struct mirror, layer.blk);
}

static bool overlap(const struct blk_request *a, const struct blk_request *b)
{
	return a->off < b->off + b->len && b->off < a->off + a->len;
}

static void fail_job(struct job *j, int rc)
{
	if (!j->rc)
		j->rc = rc;
}

/* ---- what changes the disk ---- */

static const struct pair *pair_meeting(const struct job *j, const struct blk_request *r)
{
	for (unsigned i = 0; j->pairs_busy && i < PAIRS; i++)
		if (j->pair[i].whole && overlap(j->pair[i].whole, r))
			return &j->pair[i];
	return NULL;
}

static bool meets_chunk(const struct job *j, const struct blk_request *r)
{
	for (unsigned i = 0; i < CHUNKS; i++)
		if (j->chunk[i].state != CHUNK_IDLE && overlap(&j->chunk[i].r, r))
			return true;
	return false;
}

static struct pair *idle_pair(struct job *j)
{
	for (unsigned i = 0; j->pairs_busy < PAIRS && i < PAIRS; i++)
		if (!j->pair[i].whole)
			return &j->pair[i];
	return NULL;
}

static void pair_ended(struct pair *p)
{
	struct blk_request *r = p->whole;
	struct job *j = p->job;

	if (--p->busy)
		return;
	p->whole = NULL;
	j->pairs_busy--;
	loop_arm(j->m->loop, &j->m->more, 0);
	r->done(r, p->rc);
}

static void disk_done(struct blk_request *r, int rc)
{
	struct pair *p = container_of(r, struct pair, disk);

	p->rc = rc;
	/* What the disk has of it nobody knows: the target may have something else. */
	if (rc && p->whole->op != BLK_FLUSH)
		fail_job(p->job, rc);
	pair_ended(p);
}

static void target_done(struct blk_request *r, int rc)
{
	struct pair *p = container_of(r, struct pair, target);

	if (rc)
		fail_job(p->job, rc);
	pair_ended(p);
}

static struct blk_request part_of(
	const struct blk_request *r, void (*done)(struct blk_request *r, int rc))
{
	return (struct blk_request){
		.op = r->op,
		.flags = r->flags,
		.off = r->off,
		.len = r->len,
		.iov = r->iov,
		.iovcnt = r->iovcnt,
		.done = done,
	};
}

/* False: it has to wait. */
static bool start_pair(struct job *j, struct blk_request *r)
{
	bool both = !j->rc && (r->op == BLK_FLUSH || r->off < j->cursor);
	struct pair *p;

	if (meets_chunk(j, r) || pair_meeting(j, r))
		return false;
	p = idle_pair(j);
	if (!p)
		return false;
	*p = (struct pair){
		.disk = part_of(r, disk_done), .whole = r, .job = j, .busy = both ? 2 : 1};
	j->pairs_busy++;
	if (both) {
		p->target = part_of(r, target_done);
		blk_submit(j->target, &p->target);
	}
	blk_submit(j->m->layer.below, &p->disk);
	return true;
}

static void mirror_submit(struct blk *b, struct blk_request *r)
{
	struct mirror *m = of(b);

	if (!m->job || r->op == BLK_READ)
		blk_submit(m->layer.below, r);
	else if (!start_pair(m->job, r))
		line_append(&m->job->line, r);
}

static void mirror_commit(struct blk *b)
{
	struct mirror *m = of(b);

	if (m->job)
		blk_commit(m->job->target);
	blk_commit(m->layer.below);
}

static void start_waiting(struct job *j)
{
	struct blk_line line = j->line;
	struct blk_request *r;

	j->line = (struct blk_line){0};
	while ((r = line_take(&line)))
		if (!start_pair(j, r))
			line_append(&j->line, r);
}

/* ---- the copy ---- */

static void chunk_ended(struct chunk *c, int rc)
{
	struct job *j = c->job;

	if (rc)
		fail_job(j, rc);
	c->state = CHUNK_IDLE;
	j->chunks_busy--;
	loop_arm(j->m->loop, &j->m->more, 0);
}

static bool all_zero(const uint8_t *buf, size_t len)
{
	return buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0;
}

static void look_at_target(struct chunk *c)
{
	c->state = CHUNK_LOOKS;
	c->iov.iov_base = c->there;
	blk_submit(c->job->target, &c->r);
	blk_commit(c->job->target);
}

static bool is_over(const struct chunk *c)
{
	return c->state == CHUNK_WRITES ||
	       (c->state == CHUNK_LOOKS && memcmp(c->buf, c->there, c->r.len) == 0);
}

static void chunk_done(struct blk_request *r, int rc)
{
	struct chunk *c = container_of(r, struct chunk, r);
	struct job *j = c->job;

	if (rc || j->rc || is_over(c)) {
		chunk_ended(c, rc);
		return;
	}
	if (c->state == CHUNK_READS && c->there) {
		look_at_target(c);
		return;
	}
	c->state = CHUNK_WRITES;
	c->iov.iov_base = c->buf;
	c->r.op = BLK_WRITE;
	if (all_zero(c->buf, c->r.len)) {
		c->r.op = BLK_WRITE_ZEROES;
		c->r.flags = BLK_UNMAP;
	}
	blk_submit(j->target, &c->r);
	blk_commit(j->target);
}

static void start_chunk(struct chunk *c)
{
	struct job *j = c->job;

	if (c->state != CHUNK_WAITS || pair_meeting(j, &c->r))
		return;
	if (j->rc) {
		chunk_ended(c, 0);
		return;
	}
	c->state = CHUNK_READS;
	blk_submit(j->m->layer.below, &c->r);
}

static void claim(struct chunk *c)
{
	struct job *j = c->job;
	uint64_t len = MIN(CHUNK, j->m->layer.blk.size - j->cursor);

	c->iov = (struct iovec){c->buf, len};
	c->r = (struct blk_request){.op = BLK_READ,
		.off = j->cursor,
		.len = len,
		.iov = &c->iov,
		.iovcnt = 1,
		.done = chunk_done};
	c->state = CHUNK_WAITS;
	j->chunks_busy++;
	j->cursor += len;
}

static void copy_on(struct job *j)
{
	const struct mirror *m = j->m;

	for (unsigned i = 0; i < CHUNKS; i++) {
		struct chunk *c = &j->chunk[i];

		if (c->state == CHUNK_IDLE && !j->rc && !m->draining &&
			j->cursor < m->layer.blk.size)
			claim(c);
		start_chunk(c);
	}
}

/* ---- a job's life ---- */

static void free_job(struct job *j)
{
	for (unsigned i = 0; i < CHUNKS; i++) {
		free(j->chunk[i].buf);
		free(j->chunk[i].there);
	}
	free(j);
}

static struct job *steal_job(struct mirror *m)
{
	struct job *j = m->job;

	m->job = NULL;
	return j;
}

static void end_job(struct mirror *m)
{
	struct job *j = steal_job(m);

	if (j->told.commits)
		commit_cancel(m->layer.below);
	else
		blk_destroy(j->target);
	free_job(j);
}

static bool rests(const struct job *j)
{
	return !j->pairs_busy && !j->chunks_busy && !j->line.first;
}

/* What it has come to, where that is new. */
static void judge(struct mirror *m)
{
	struct job *j = m->job;
	const struct mirror_job told = j->told;
	int rc = j->rc;

	if (rc && rests(j)) {
		end_job(m);
		told.told(told.arg, rc);
	} else if (!rc && !j->same && !j->chunks_busy && j->cursor == m->layer.blk.size) {
		j->same = true;
		told.told(told.arg, 0);
	}
}

static void go_on(struct job *j)
{
	start_waiting(j);
	copy_on(j);
	mirror_commit(&j->m->layer.blk);
}

static void more(void *arg)
{
	struct mirror *m = arg;

	if (!m->job)
		return;
	go_on(m->job);
	if (m->job->told.moved)
		m->job->told.moved(m->job->told.arg, m->job->cursor);
	judge(m);
}

static int mirror_drain(struct blk *b)
{
	struct mirror *m = of(b);
	int rc;

	m->draining = true;
	do {
		rc = blk_drain(m->layer.below);
		if (m->job) {
			rc = rc ? rc : blk_drain(m->job->target);
			go_on(m->job);
		}
	} while (!rc && m->job && !rests(m->job));
	m->draining = false;
	if (m->job)
		loop_arm(m->loop, &m->more, 0);
	return rc;
}

static struct job *new_job(struct mirror *m, struct blk *target, const struct mirror_job *told)
{
	struct job *j = calloc(1, sizeof(*j));
	bool memory = j;

	for (unsigned i = 0; j && i < CHUNKS; i++) {
		struct chunk *c = &j->chunk[i];

		c->job = j;
		c->buf = aligned_alloc(4096, CHUNK);
		c->there = told->differing ? aligned_alloc(4096, CHUNK) : NULL;
		memory = memory && c->buf && (c->there || !told->differing);
	}
	if (!memory) {
		if (j)
			free_job(j);
		return NULL;
	}
	j->m = m;
	j->target = target;
	j->told = *told;
	return j;
}

/* Nothing that was submitted before the job may be under way in it. */
int mirror_start(struct blk *b, struct blk *target, const struct mirror_job *job)
{
	struct mirror *m = of(b);
	struct job *j;
	int rc;

	if (m->job)
		return fail(EBUSY, "disk %s: a job is at work on it already", b->name);
	if (target->size != b->size)
		return fail(EINVAL, "disk %s: %s has %llu bytes, and the disk %llu", b->name,
			target->name, (unsigned long long)target->size,
			(unsigned long long)b->size);
	rc = blk_drain(m->layer.below);
	if (rc)
		return rc;
	j = new_job(m, target, job);
	if (!j)
		return fail(ENOMEM, "disk %s: no memory to copy with", b->name);
	rc = job->commits ? commit_begin(m->layer.below, target) : 0;
	if (rc) {
		free_job(j);
		return rc;
	}
	m->job = j;
	loop_arm(m->loop, &m->more, 0);
	return 0;
}

/* Nothing is under way when this has returned 0. */
static int settle(struct mirror *m)
{
	int rc = m->job ? mirror_drain(&m->layer.blk)
			: fail(ENOENT, "disk %s: no job is at work on it", m->layer.blk.name);

	if (!rc && !m->job->rc)
		fail_job(m->job, blk_flush_now(m->job->target));
	return rc;
}

int mirror_stop(struct blk *b)
{
	struct mirror *m = of(b);
	int rc = settle(m);

	if (rc)
		return rc;
	rc = m->job->rc;
	if (!rc && !m->job->same)
		rc = -ECANCELED;
	end_job(m);
	return rc;
}

int mirror_switch(struct blk *b)
{
	struct mirror *m = of(b);
	struct blk *old = m->layer.below;
	int rc = settle(m);

	if (rc)
		return rc;
	if (m->job->rc)
		return failno(-m->job->rc, "disk %s: %s", b->name, m->job->target->name);
	if (!m->job->same)
		return fail(EAGAIN, "disk %s: not all of it is copied yet", b->name);
	if (m->job->told.commits)
		commit_end(old);
	m->layer.below = m->job->target;
	blk_destroy(old);
	free_job(steal_job(m));
	return 0;
}

int64_t mirror_progress(struct blk *b)
{
	const struct job *j = of(b)->job;

	return j ? (int64_t)j->cursor : -1;
}

struct blk *mirror_below(struct blk *b)
{
	return of(b)->layer.below;
}

struct blk *mirror_hold(struct blk *b)
{
	struct mirror *m = of(b);
	int rc;

	if (m->job) {
		fail(EBUSY, "disk %s: a job is at work on it", b->name);
		return NULL;
	}
	rc = blk_drain(m->layer.below);
	rc = rc ? rc : blk_flush_now(m->layer.below);
	if (rc)
		failno(-rc, "disk %s: what is written cannot be made durable", b->name);
	return rc ? NULL : m->layer.below;
}

void mirror_put(struct blk *b, struct blk *above)
{
	of(b)->layer.below = above;
}

/* ---- birth and death ---- */

/* The target would not grow along. */
static int64_t mirror_measure(struct blk *b)
{
	return of(b)->job ? (int64_t)b->size : layer_measure(b);
}

static void mirror_destroy(struct blk *b)
{
	struct mirror *m = of(b);

	if (m->job)
		end_job(m);
	loop_disarm(m->loop, &m->more);
	blk_destroy(m->layer.below);
	free(m);
}

int mirror_create(struct blk **out, struct loop *loop, struct blk *below)
{
	static const struct blk_ops ops = {
		.submit = mirror_submit,
		.commit = mirror_commit,
		.drain = mirror_drain,
		.measure = mirror_measure,
		.destroy = mirror_destroy,
	};
	struct mirror *m = calloc(1, sizeof(*m));

	if (!m)
		return fail(ENOMEM, "disk %s: no memory", below->name);
	layer_init(&m->layer, &ops, below);
	m->loop = loop;
	m->more = TIMER_INIT(more, m);
	*out = &m->layer.blk;
	return 0;
}
