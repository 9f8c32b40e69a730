// SPDX-License-Identifier: MIT
// Writes that are not in place: clusters are taken, written as a whole and linked; and zeroes and
// discards, which change entries.
//
// A cluster is linked when its data is in the file: until then the entry is what it was, and after
// a crash at any time one of the two is read. Around the data goes what was there before, read as a
// request of our own; nothing is needed around it where there were zeroes and the cluster is at the
// file's end, which is the usual case. While that is under way another write to the same clusters
// waits for it; then it finds them, and is in place.
#include "blk/qcow2_parts.h"

#include "base/iov.h"

#include <errno.h>

#define ZEROES KIB(64)
#define ZERO_IOVS 256u

/* Only ever read. */
static _Alignas(4096) uint8_t zeroes[ZEROES];

static uint64_t clusters_of(const struct qcow2 *q, uint64_t within, uint64_t len)
{
	return (within + len + q->cluster - 1) >> q->cluster_bits;
}

/* Waits for who is changing one of the clusters, if anyone is. */
static bool waits_for_other(struct qcow2_split *s, uint64_t first, uint64_t count)
{
	struct list *all = &s->q->changing;

	for (struct list *l = all->next; l != all; l = l->next) {
		struct qcow2_piece *p = container_of(l, struct qcow2_piece, changing);

		if (p->first < first + count && first < p->first + p->place.count) {
			qcow2_line_add(&p->others, &s->w);
			qcow2_split_wait(s);
			return true;
		}
	}
	return false;
}

/* What has gone wrong, or has to wait. True where neither is. */
static bool goes_on(struct qcow2_split *s, int rc)
{
	if (rc == QCOW2_WAIT)
		qcow2_split_wait(s);
	else if (rc)
		s->rc = rc;
	return !rc;
}

/* Whether the L2 table may be changed. If not, that is seen to, and all is looked at again. */
static bool has_table(struct qcow2_split *s, uint64_t cluster)
{
	if (s->q->l1.entries[cluster >> s->q->l2_bits] & QCOW2_COPIED)
		return true;
	goes_on(s, qcow2_table_make(s->q, cluster, &s->w));
	return false;
}

/* Whether all of it that is not there reads as zeroes. */
static bool absent_is_zeroes(const struct qcow2 *q, uint64_t off)
{
	return !q->backing || off >= q->backing->size;
}

static bool reads_zeroes(const struct qcow2 *q, const struct qcow2_map *m, uint64_t off)
{
	return m->kind == QCOW2_ZEROES || m->kind == QCOW2_PLACED ||
	       (m->kind == QCOW2_ABSENT && absent_is_zeroes(q, off));
}

/* ---- a piece that takes clusters ---- */

static void piece_over(struct qcow2_piece *p)
{
	struct qcow2 *q = p->split->q;
	struct qcow2_line others = p->others;

	if (p->bounce)
		qcow2_bounce_give(q, p->bounce);
	list_del(&p->changing);
	qcow2_piece_end(p, p->rc);
	qcow2_line_wake(&others, 0);
}

static void piece_failed(struct qcow2_piece *p, int rc)
{
	p->rc = rc;
	if (!p->kept)
		qcow2_unalloc(p->split->q, &p->place);
	piece_over(p);
}

static void link(struct qcow2_waiter *w, int rc)
{
	struct qcow2_piece *p = container_of(w, struct qcow2_piece, w);
	struct qcow2 *q = p->split->q;
	struct qcow2_slice *slice;
	unsigned index;

	rc = rc ? rc : qcow2_entry(q, p->first, w, &slice, &index);
	if (rc < 0)
		piece_failed(p, rc);
	if (rc || !qcow2_may_free(q, (unsigned)p->place.count, w))
		return;
	for (unsigned i = 0; i < p->place.count; i++) {
		uint8_t *entry = slice->data + 8 * (index + i);
		struct qcow2_map old;

		if (!p->kept && !qcow2_decode(q, get_be64(entry), p->first + i, &old))
			qcow2_free_entry(q, &old);
		put_be64(entry, (p->place.first + i) << q->cluster_bits | QCOW2_COPIED);
	}
	qcow2_slice_dirty(slice);
	if (p->split->whole->flags & BLK_FUA)
		p->split->flushes = true;
	piece_over(p);
}

static void written(struct blk_request *r, int rc)
{
	struct qcow2_piece *p = container_of(r, struct qcow2_piece, r);

	p->w.go = link;
	if (rc)
		piece_failed(p, rc);
	else
		link(&p->w, 0);
}

static void add_iov(struct blk_request *r, struct iovec *iov, void *base, uint64_t len)
{
	if (len)
		iov[r->iovcnt++] = (struct iovec){base, len};
}

/* Puts what goes around it around the data. */
static void surround(struct qcow2_piece *p, uint64_t head, uint64_t tail)
{
	struct qcow2 *q = p->split->q;
	struct iovec *iov = p->split->iov[p - p->split->piece];
	const struct iovec *data = p->r.iov;
	unsigned n = p->r.iovcnt, first = head != 0;

	memmove(iov + first, data, n * sizeof(*iov));
	p->r.iovcnt = 0;
	add_iov(&p->r, iov, p->bounce, head);
	p->r.iovcnt += n;
	add_iov(&p->r, iov, p->bounce + q->cluster, tail);
	p->r.iov = iov;
	p->r.len += head + tail;
}

static uint64_t head_of(const struct qcow2_piece *p)
{
	return p->at & (p->split->q->cluster - 1);
}

static uint64_t tail_of(const struct qcow2_piece *p)
{
	return (p->place.count << p->split->q->cluster_bits) - head_of(p) - p->r.len;
}

static void send_data(struct qcow2_piece *p)
{
	struct qcow2 *q = p->split->q;
	uint64_t head = head_of(p);

	p->r.off = (p->place.first << q->cluster_bits) + head;
	if (p->bounce) {
		surround(p, head, tail_of(p));
		p->r.off -= head;
	}
	p->r.op = BLK_WRITE;
	p->r.flags = 0;
	p->r.done = written;
	blk_submit(q->file, &p->r);
}

static void filled(struct qcow2_piece *p, int rc)
{
	p->rc = p->rc ? p->rc : rc;
	if (--p->fills)
		return;
	if (p->rc)
		piece_failed(p, p->rc);
	else
		send_data(p);
}

static void head_filled(struct blk_request *r, int rc)
{
	filled(container_of(r, struct qcow2_piece, fill[0]), rc);
}

static void tail_filled(struct blk_request *r, int rc)
{
	filled(container_of(r, struct qcow2_piece, fill[1]), rc);
}

static void read_around(struct qcow2_piece *p, unsigned which, uint64_t off, uint64_t len)
{
	struct qcow2 *q = p->split->q;
	uint8_t *to = p->bounce + which * q->cluster;
	uint64_t there = off < q->blk.size ? MIN(len, q->blk.size - off) : 0;

	memset(to + there, 0, len - there);
	if (!there)
		return;
	p->fill_iov[which] = (struct iovec){to, there};
	p->fill[which] = (struct blk_request){.op = BLK_READ,
		.off = off,
		.len = there,
		.iov = &p->fill_iov[which],
		.iovcnt = 1,
		.done = which ? tail_filled : head_filled};
	p->fills++;
	qcow2_submit_inner(q, &p->fill[which]);
}

static void fill(struct qcow2_waiter *w, int rc)
{
	struct qcow2_piece *p = container_of(w, struct qcow2_piece, w);
	struct qcow2 *q = p->split->q;
	uint64_t head = head_of(p), tail = tail_of(p);

	p->bounce = qcow2_bounce_take(q, w);
	if (!p->bounce)
		return;
	if (p->known) {
		memset(p->bounce, 0, head);
		memset(p->bounce + q->cluster, 0, tail);
		send_data(p);
		return;
	}
	p->fills = 1;
	if (head)
		read_around(p, 0, p->at - head, head);
	if (tail)
		read_around(p, 1, p->at + p->r.len, tail);
	filled(p, 0);
}

/* As much of it as is two pieces of memory less than the kernel takes, in whole sectors. */
static uint64_t fitting(const struct blk_request *w, uint64_t pos, uint64_t len)
{
	uint64_t skipped = 0, sum = 0;
	unsigned n = 0;

	if (w->op != BLK_WRITE)
		return MIN(len, ZERO_IOVS * ZEROES);
	if (w->iovcnt <= BLK_IOV_MAX - 2)
		return len;
	for (unsigned i = 0; i < w->iovcnt && n < BLK_IOV_MAX - 2; i++) {
		skipped += w->iov[i].iov_len;
		if (skipped > pos) {
			sum = skipped - pos;
			n++;
		}
	}
	return MIN(len, align_down(sum, BLK_SECTOR));
}

static void zero_iov(struct qcow2_piece *p)
{
	struct iovec *iov = p->split->iov[p - p->split->piece];
	uint64_t left = p->r.len;

	p->r.iov = iov;
	for (p->r.iovcnt = 0; left; left -= iov[p->r.iovcnt++].iov_len)
		iov[p->r.iovcnt] = (struct iovec){zeroes, MIN(left, ZEROES)};
}

void qcow2_write_piece(struct qcow2_split *s, unsigned index, const struct qcow2_map *m)
{
	struct qcow2 *q = s->q;
	struct qcow2_piece *p = &s->piece[index];
	uint64_t at = s->whole->off + s->pos, within = at & (q->cluster - 1);
	uint64_t len = fitting(s->whole, s->pos, m->len), count = clusters_of(q, within, len);

	if (waits_for_other(s, at >> q->cluster_bits, count) ||
		!has_table(s, at >> q->cluster_bits))
		return;
	p->kept = m->kind == QCOW2_PLACED && m->copied;
	if (p->kept)
		p->place = (struct qcow2_place){m->host >> q->cluster_bits, count, false};
	else if (!goes_on(s, qcow2_alloc(q, count, &s->w, &p->place)))
		return;
	qcow2_cut(s, index, MIN(len, (p->place.count << q->cluster_bits) - within));
	if (s->whole->op != BLK_WRITE)
		zero_iov(p);
	p->at = at;
	p->first = at >> q->cluster_bits;
	p->known = reads_zeroes(q, m, p->first << q->cluster_bits);
	p->others.first = NULL;
	p->bounce = NULL;
	p->rc = 0;
	list_init(&p->changing);
	list_append(&q->changing, &p->changing);
	p->w.go = fill;
	if ((head_of(p) || tail_of(p)) && !(p->known && p->place.zeroes))
		fill(&p->w, 0);
	else
		send_data(p);
}

/* ---- zeroes and discards ---- */

static void skip(struct qcow2_split *s, uint64_t len)
{
	s->pos += len;
}

/* Gives `count` clusters that entry, which has no place, and what they had back. */
static void set_entries(struct qcow2_split *s, uint64_t count, uint64_t len, uint64_t entry)
{
	struct qcow2 *q = s->q;
	uint64_t first = (s->whole->off + s->pos) >> q->cluster_bits;
	struct qcow2_slice *slice;
	unsigned index;

	if (waits_for_other(s, first, count) || !has_table(s, first))
		return;
	if (!goes_on(s, qcow2_entry(q, first, &s->w, &slice, &index)))
		return;
	if (!qcow2_may_free(q, (unsigned)count, &s->w)) {
		qcow2_split_wait(s);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		uint8_t *at = slice->data + 8 * (index + i);
		struct qcow2_map old;

		if (!qcow2_decode(q, get_be64(at), first + i, &old))
			qcow2_free_entry(q, &old);
		put_be64(at, entry);
	}
	qcow2_slice_dirty(slice);
	if (s->whole->flags & BLK_FUA)
		s->flushes = true;
	skip(s, len);
}

/* In the file, where the data stays where it is. */
static void zero_in_place(struct qcow2_split *s, unsigned index, uint64_t host, uint64_t len)
{
	qcow2_cut(s, index, len);
	qcow2_send(&s->piece[index], s->q->file, host);
}

/* Less than a cluster, or what has no entry that says zeroes. */
static void write_zeroes(struct qcow2_split *s, unsigned index, struct qcow2_map *m, uint64_t len)
{
	if (m->kind == QCOW2_DATA && m->copied) {
		zero_in_place(s, index, m->host, len);
	} else {
		m->len = len;
		qcow2_write_piece(s, index, m);
	}
}

static void discard(struct qcow2_split *s, const struct qcow2_map *m, uint64_t count, uint64_t len)
{
	struct qcow2 *q = s->q;

	if (!count || m->kind == QCOW2_ABSENT || m->kind == QCOW2_ZEROES)
		skip(s, len);
	else
		set_entries(s, count, len,
			q->h.info.version == 3 && (q->backing || m->kind == QCOW2_PLACED)
				? QCOW2_ZERO
				: 0);
}

static void zero(
	struct qcow2_split *s, unsigned index, struct qcow2_map *m, uint64_t count, uint64_t len)
{
	struct qcow2 *q = s->q;
	bool unmap = s->whole->flags & BLK_UNMAP, version_3 = q->h.info.version == 3;
	uint64_t off = s->whole->off + s->pos;

	if (reads_zeroes(q, m, off) && !(m->kind == QCOW2_PLACED && unmap && count))
		skip(s, len);
	else if (!count || (m->kind == QCOW2_DATA && m->copied && !unmap))
		write_zeroes(s, index, m, len);
	else if (version_3 || absent_is_zeroes(q, off))
		set_entries(s, count, len, version_3 ? QCOW2_ZERO : 0);
	else
		write_zeroes(s, index, m, len);
}

void qcow2_clear_piece(struct qcow2_split *s, unsigned index, struct qcow2_map *m)
{
	struct qcow2 *q = s->q;
	uint64_t off = s->whole->off + s->pos, within = off & (q->cluster - 1);
	/* Past the disk's end there is nothing that would be lost. */
	uint64_t rest = off + m->len == q->blk.size ? q->cluster - 1 : 0;
	uint64_t count = within ? 0 : (m->len + rest) >> q->cluster_bits;
	uint64_t len =
		count ? MIN(m->len, count << q->cluster_bits) : MIN(m->len, q->cluster - within);

	if (s->whole->op == BLK_DISCARD)
		discard(s, m, count, len);
	else
		zero(s, index, m, count, len);
}
