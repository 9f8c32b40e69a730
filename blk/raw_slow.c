// SPDX-License-Identifier: MIT
// What the kernel does not take as it is: unaligned requests with O_DIRECT, and zeroes where the
// host cannot make them.
//
// One request at a time is cut into pieces that fit the bounce buffer. A piece that is not whole
// blocks is read, changed and written back as whole blocks; nothing else is under way meanwhile, or
// a write beside it in the same block would be undone. So once something waits, what comes after it
// waits too, and goes on in order.
#include "blk/raw_parts.h"

#include "base/iov.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Only ever read, so that all of it is the host's page of zeroes, and none of it in the program's
 * file, as a constant would be. */
static _Alignas(4096) uint8_t zeroes[RAW_BOUNCE];

int raw_slow_init(struct raw *w)
{
	struct raw_slow *s = &w->slow;

	if (w->align > 1)
		s->bounce = aligned_alloc(4096, RAW_BOUNCE);
	if (w->align > 1 && !s->bounce)
		return fail(ENOMEM, "disk %s: no memory", w->blk.name);
	return 0;
}

void raw_slow_finish(struct raw *w)
{
	free(w->slow.bounce);
}

static bool whole_blocks(const struct raw *w, const struct blk_request *r)
{
	return ((r->off | r->len) & (w->align - 1)) == 0;
}

static bool aligned(const struct raw *w, const struct blk_request *r)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < r->iovcnt && w->align > 1; i++)
		bits |= (uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len;
	return (bits & (w->align - 1)) == 0 && whole_blocks(w, r);
}

/* Of a device, only whole blocks. */
static bool can_zero(const struct raw *w, const struct blk_request *r)
{
	if (w->device && ((r->off | r->len) & (w->blk.physical_block - 1)))
		return false;
	return r->flags & BLK_UNMAP ? !w->no_punch : !w->no_zero;
}

/* Whether the engine takes it as it is. */
static bool direct(const struct raw *w, const struct blk_request *r)
{
	switch (r->op) {
	case BLK_READ:
	case BLK_WRITE:
		return aligned(w, r);
	case BLK_WRITE_ZEROES:
		return can_zero(w, r);
	case BLK_FLUSH:
	case BLK_DISCARD:
		break;
	}
	return true;
}

bool raw_slow_take(struct raw *w, struct blk_request *r)
{
	const struct raw_slow *s = &w->slow;
	bool waits = s->line.first || (s->now && !whole_blocks(w, s->now));

	if (!waits && direct(w, r))
		return false;
	raw_slow_append(w, r);
	return true;
}

void raw_slow_append(struct raw *w, struct blk_request *r)
{
	line_append(&w->slow.line, r);
	raw_slow_next(w);
}

static void send(struct raw *w, enum engine_op op, unsigned iovcnt)
{
	struct raw_slow *s = &w->slow;

	s->part = (struct blk_request){
		.off = s->window,
		.len = s->window_len,
		.iov = s->iov,
		.iovcnt = iovcnt,
	};
	engine_submit(&w->file, &s->part, op);
}

static void send_bounce(struct raw *w, enum engine_op op)
{
	w->slow.iov[0] = (struct iovec){w->slow.bounce, w->slow.window_len};
	send(w, op, 1);
}

static void send_zeroes(struct raw *w)
{
	struct raw_slow *s = &w->slow;
	uint64_t left = s->window_len;
	unsigned n = 0;

	while (left) {
		/* pwritev takes what it may not change as void * all the same. */
		s->iov[n].iov_base = zeroes;
		s->iov[n].iov_len = MIN(left, sizeof(zeroes));
		left -= s->iov[n++].iov_len;
	}
	send(w, raw_write_op(w, s->now), n);
}

/* The buffer has what lies around the piece: puts the piece into it. */
static void write_bounce(struct raw *w)
{
	struct raw_slow *s = &w->slow;
	const struct blk_request *r = s->now;
	uint8_t *at = s->bounce + (r->off + s->pos - s->window);

	if (r->op == BLK_WRITE_ZEROES)
		memset(at, 0, s->len);
	else
		iov_read(r->iov, r->iovcnt, s->pos, at, s->len);
	send_bounce(w, raw_write_op(w, r));
}

static void start_piece(struct raw *w)
{
	struct raw_slow *s = &w->slow;
	const struct blk_request *r = s->now;
	uint64_t at = r->off + s->pos, most = RAW_BOUNCE;
	bool zero = r->op == BLK_WRITE_ZEROES && whole_blocks(w, r);

	if (zero)
		most = RAW_ZERO_PIECES * RAW_BOUNCE;
	s->window = align_down(at, w->align);
	s->len = MIN(r->len - s->pos, s->window + most - at);
	s->window_len = align_up(at + s->len, w->align) - s->window;
	if (zero)
		send_zeroes(w);
	else if (r->op == BLK_READ || s->window_len != s->len)
		send_bounce(w, ENGINE_READ);
	else
		write_bounce(w);
}

static void end(struct raw *w, int rc)
{
	struct blk_request *r = w->slow.now;

	w->slow.now = NULL;
	r->done(r, rc);
	raw_slow_next(w);
}

void raw_slow_done(struct raw *w, int rc)
{
	struct raw_slow *s = &w->slow;
	const struct blk_request *r = s->now;

	if (!rc && s->part.step == ENGINE_READ) {
		if (r->op != BLK_READ) {
			write_bounce(w);
			return;
		}
		iov_write(r->iov, r->iovcnt, s->pos, s->bounce + (r->off + s->pos - s->window),
			s->len);
	}
	s->pos += s->len;
	if (rc || s->pos == r->len)
		end(w, rc);
	else
		start_piece(w);
}

void raw_slow_next(struct raw *w)
{
	struct raw_slow *s = &w->slow;

	while (!s->now && s->line.first) {
		struct blk_request *r = s->line.first;
		bool as_is = direct(w, r);

		if (!as_is && !whole_blocks(w, r) && w->file.inflight)
			return;
		line_take(&s->line);
		if (as_is) {
			raw_send(w, r);
			continue;
		}
		s->now = r;
		s->pos = 0;
		start_piece(w);
	}
}
