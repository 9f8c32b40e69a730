// SPDX-License-Identifier: MIT
// Requests to a qcow2 image: most are handed on to its file, at another place.
//
// A request is cut into pieces, each for a stretch that lies in the file, or in the backing file,
// in one piece. What has to wait for a table waits as the whole rest of the request, and is looked
// at again from there on when the table has come. What is not written in place is for
// blk/qcow2_write.c.
#include "blk/qcow2_parts.h"

#include "base/iov.h"

#include <errno.h>

static void go_on(struct qcow2_split *s);
static void start_waiting(struct qcow2 *q);

static void qcow2_commit(struct blk *b)
{
	struct qcow2 *q = qcow2_of(b);

	if (q->backing)
		blk_commit(q->backing);
	blk_commit(q->file);
}

static struct qcow2_split *take_split(struct qcow2 *q, bool inner)
{
	struct qcow2_split **idle = inner ? &q->inner_idle : &q->idle;
	unsigned *fresh = inner ? &q->inner_fresh : &q->fresh;
	struct qcow2_split *s = *idle;

	if (s)
		*idle = s->next;
	else if (*fresh)
		s = &(inner ? q->inner : q->splits)[--*fresh];
	else
		return NULL;
	s->inner = inner;
	q->busy++;
	return s;
}

static void finish(struct qcow2_split *s, int rc)
{
	struct qcow2 *q = s->q;
	struct blk_request *r = s->whole;
	struct qcow2_split **idle = s->inner ? &q->inner_idle : &q->idle;

	s->next = *idle;
	*idle = s;
	q->busy--;
	r->done(r, rc);
	start_waiting(q);
}

static void flushed(struct qcow2_waiter *w, int rc)
{
	finish(container_of(w, struct qcow2_split, w), rc);
}

static void end(struct qcow2_split *s)
{
	if (!s->rc && s->flushes) {
		s->w.go = flushed;
		qcow2_flush(s->q, &s->w);
	} else {
		finish(s, s->rc);
	}
}

static void woken(struct qcow2_waiter *w, int rc)
{
	struct qcow2_split *s = container_of(w, struct qcow2_split, w);

	s->waiting = false;
	s->rc = s->rc ? s->rc : rc;
	go_on(s);
}

void qcow2_split_wait(struct qcow2_split *s)
{
	s->waiting = true;
}

void qcow2_piece_end(struct qcow2_piece *p, int rc)
{
	struct qcow2_split *s = p->split;

	s->rc = s->rc ? s->rc : rc;
	p->busy = false;
	s->busy--;
	if (!s->splitting)
		go_on(s);
}

static void piece_done(struct blk_request *r, int rc)
{
	struct qcow2_piece *p = container_of(r, struct qcow2_piece, r);
	struct qcow2 *q = p->split->q;

	qcow2_leave(q, p->epoch);
	qcow2_piece_end(p, rc);
	qcow2_commit(&q->blk);
}

void qcow2_cut(struct qcow2_split *s, unsigned index, uint64_t len)
{
	const struct blk_request *w = s->whole;
	struct qcow2_piece *p = &s->piece[index];
	bool whole = len == w->len;

	p->r = (struct blk_request){
		.op = w->op,
		.flags = w->flags,
		.len = len,
		.iov = whole ? w->iov : s->iov[index],
		.iovcnt = w->iovcnt,
	};
	if (!whole)
		p->r.iovcnt = iov_slice(s->iov[index], w->iov, w->iovcnt, s->pos, len);
	s->pos += len;
	p->split = s;
	p->busy = true;
	s->busy++;
}

void qcow2_send(struct qcow2_piece *p, struct blk *to, uint64_t at)
{
	p->r.off = at;
	p->r.done = piece_done;
	p->epoch = qcow2_enter(p->split->q);
	blk_submit(to, &p->r);
}

static void pass_on(
	struct qcow2_split *s, unsigned index, struct blk *to, uint64_t at, uint64_t len)
{
	qcow2_cut(s, index, len);
	qcow2_send(&s->piece[index], to, at);
}

static void read_zeroes(struct qcow2_split *s, uint64_t len)
{
	iov_zero(s->whole->iov, s->whole->iovcnt, s->pos, len);
	s->pos += len;
}

static void read_packed(struct qcow2_split *s, const struct qcow2_map *m)
{
	struct qcow2 *q = s->q;
	const struct blk_request *w = s->whole;
	const uint8_t *data;
	int rc = qcow2_unpack(q, m, &s->w, &data);

	if (rc == QCOW2_WAIT) {
		qcow2_split_wait(s);
	} else if (rc) {
		s->rc = rc;
	} else {
		iov_write(w->iov, w->iovcnt, s->pos, data + ((w->off + s->pos) & (q->cluster - 1)),
			m->len);
		s->pos += m->len;
	}
}

static void read_absent(struct qcow2_split *s, unsigned index, uint64_t len)
{
	struct blk *backing = s->q->backing;
	uint64_t off = s->whole->off + s->pos;

	if (!backing || off >= backing->size)
		read_zeroes(s, len);
	else
		pass_on(s, index, backing, off, MIN(len, backing->size - off));
}

static void read_piece(struct qcow2_split *s, unsigned index, const struct qcow2_map *m)
{
	switch (m->kind) {
	case QCOW2_DATA:
		pass_on(s, index, s->q->file, m->host, m->len);
		break;
	case QCOW2_ABSENT:
		read_absent(s, index, m->len);
		break;
	case QCOW2_ZEROES:
	case QCOW2_PLACED:
		read_zeroes(s, m->len);
		break;
	case QCOW2_PACKED:
		read_packed(s, m);
		break;
	}
}

static void change_piece(struct qcow2_split *s, unsigned index, struct qcow2_map *m)
{
	/* What is written in place may be linked in memory only. */
	if (!m->lasts && (s->whole->flags & BLK_FUA))
		s->flushes = true;
	if (s->whole->op != BLK_WRITE)
		qcow2_clear_piece(s, index, m);
	else if (m->kind == QCOW2_DATA && m->copied)
		pass_on(s, index, s->q->file, m->host, m->len);
	else
		qcow2_write_piece(s, index, m);
}

static void start_piece(struct qcow2_split *s, unsigned index)
{
	const struct blk_request *w = s->whole;
	struct qcow2_map m;
	int rc = qcow2_lookup(s->q, w->off + s->pos, w->len - s->pos, &s->w, &m);

	if (rc == QCOW2_WAIT)
		qcow2_split_wait(s);
	else if (rc)
		s->rc = rc;
	else if (w->op == BLK_READ)
		read_piece(s, index, &m);
	else
		change_piece(s, index, &m);
}

static void go_on(struct qcow2_split *s)
{
	s->splitting = true;
	for (unsigned i = 0; i < QCOW2_PIECES; i++)
		while (!s->piece[i].busy && !s->waiting && !s->rc && s->pos < s->whole->len)
			start_piece(s, i);
	s->splitting = false;
	if (!s->busy && !s->waiting)
		end(s);
}

static bool start_one(struct qcow2 *q, struct blk_line *line, bool inner)
{
	struct qcow2_split *s = line->first ? take_split(q, inner) : NULL;

	if (!s)
		return false;
	s->q = q;
	s->whole = line_take(line);
	s->w.go = woken;
	s->pos = 0;
	s->rc = 0;
	s->flushes = s->whole->op == BLK_FLUSH;
	go_on(s);
	return true;
}

/* One that is completed at once is not the end of it: whoever calls this for it comes back here. */
static void start_waiting(struct qcow2 *q)
{
	if (q->starting)
		return;
	q->starting = true;
	while (start_one(q, &q->inner_line, true) || start_one(q, &q->line, false))
		;
	q->starting = false;
}

static void passed(struct blk_request *r, int rc)
{
	struct qcow2_pass *p = container_of(r, struct qcow2_pass, r);
	struct qcow2 *q = p->q;
	struct blk_request *whole = p->whole;

	p->next = q->pass_idle;
	q->pass_idle = p;
	q->busy--;
	qcow2_leave(q, p->epoch);
	whole->done(whole, rc);
}

/* Hands a request on as it is, if all of it is in one place and that is known: the usual case, with
 * nothing to do but to look. */
static bool pass_whole(struct qcow2 *q, struct blk_request *r)
{
	struct qcow2_pass *p = q->pass_idle;
	struct qcow2_map m;

	if (!p || q->line.first || r->op > BLK_WRITE)
		return false;
	if (qcow2_lookup(q, r->off, r->len, NULL, &m) || m.kind != QCOW2_DATA || m.len != r->len)
		return false;
	if (r->op == BLK_WRITE && (!m.copied || ((r->flags & BLK_FUA) && !m.lasts)))
		return false;
	q->pass_idle = p->next;
	q->busy++;
	p->whole = r;
	p->r.op = r->op;
	p->r.flags = r->flags;
	p->r.off = m.host;
	p->r.len = r->len;
	p->r.iov = r->iov;
	p->r.iovcnt = r->iovcnt;
	p->r.done = passed;
	p->epoch = qcow2_enter(q);
	blk_submit(q->file, &p->r);
	return true;
}

static void qcow2_submit(struct blk *b, struct blk_request *r)
{
	struct qcow2 *q = qcow2_of(b);

	if (pass_whole(q, r))
		return;
	line_append(&q->line, r);
	start_waiting(q);
}

void qcow2_submit_inner(struct qcow2 *q, struct blk_request *r)
{
	line_append(&q->inner_line, r);
	start_waiting(q);
}

struct blk_ops qcow2_ops = {
	.submit = qcow2_submit,
	.commit = qcow2_commit,
	.drain = qcow2_drain_op,
	.measure = qcow2_measure_op,
	.destroy = qcow2_destroy_op,
};
