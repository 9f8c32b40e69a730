// SPDX-License-Identifier: MIT
// A piece is read into a buffer of its slot and written from there, run by run where it has zeroes
// in between. All slots are at it at once; each is told of its completions by state, and one pump
// moves all of them on, so that what completes at once makes no deep stack.
#include "cli/image/copy.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "cli/image/stretches.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define SLOTS 8u
#define PIECE MIB(1)
#define AHEAD MIB(32)
#define CLEAR_MAX GIB(1)

enum slot_state { SLOT_FREE, SLOT_BUSY, SLOT_READ, SLOT_WRITTEN };

struct slot {
	struct blk_request r;
	struct iovec iov;
	struct copying *copying;
	enum slot_state state;
	uint8_t *buf;
	uint64_t off, len; /* the piece */
	uint64_t done;     /* of it, bytes */
};

struct copying {
	struct copy *c;
	struct loop *loop;
	struct stretches *s;
	unsigned next; /* stretch, and how much of it is given out */
	uint64_t given;
	bool pumping, again;
	int rc;
	struct slot slot[SLOTS];
};

typedef uint64_t words __attribute__((vector_size(64)));

bool copy_is_zero(const void *buf, uint64_t len)
{
	const uint64_t *first = buf;
	const words *w = buf;
	words sum = {0};

	/* Most of what is not zero is not from the first. */
	if (first[0] | first[len / 16] | first[len / 8 - 1])
		return false;
	for (uint64_t i = 0; i < len / sizeof(words); i += 8) {
		sum = w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] |
		      w[i + 7];
		for (unsigned j = 0; j < 8; j++)
			if (sum[j])
				return false;
	}
	return true;
}

/* What is to be durable in the end may as well go out while the rest is copied. */
void copy_wrote(struct copy *c, uint64_t len)
{
	c->written += len;
	if (c->fd < 0 || c->written - c->begun < AHEAD)
		return;
	c->begun = c->written;
	sync_file_range(c->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static void pump(struct copying *k);

static void completed(struct blk_request *r, int rc)
{
	struct slot *s = container_of(r, struct slot, r);
	struct copying *k = s->copying;
	bool read = r->op == BLK_READ;

	if (rc && !k->rc)
		k->rc = failno(-rc, "%s: byte %llu: %s", r->blk->name, (unsigned long long)r->off,
			read ? "reading" : "writing");
	s->state = k->rc ? SLOT_FREE : read ? SLOT_READ : SLOT_WRITTEN;
	if (!read)
		copy_wrote(k->c, r->len);
	pump(k);
}

static void submit(struct slot *s, struct blk *b, enum blk_op op, uint64_t len)
{
	s->iov = (struct iovec){s->buf + s->done, len};
	s->r = (struct blk_request){.op = op,
		.off = s->off + s->done,
		.len = len,
		.iov = &s->iov,
		.iovcnt = 1,
		.done = completed};
	if (op == BLK_WRITE_ZEROES) {
		s->r.iovcnt = 0;
		s->r.flags = BLK_UNMAP;
	}
	s->state = SLOT_BUSY;
	if (op != BLK_READ)
		s->done += len;
	blk_submit(b, &s->r);
}

/* The next piece of the stretches, if there is one. */
static bool feed(struct copying *k, struct slot *s)
{
	const struct stretch *x = &k->s->at[k->next];

	if (k->rc || k->next == k->s->count)
		return false;
	s->off = x->off + k->given;
	s->len = MIN(x->len - k->given, x->zero ? CLEAR_MAX : PIECE);
	s->done = 0;
	k->given += s->len;
	if (k->given == x->len) {
		k->next++;
		k->given = 0;
	}
	progress_at(&k->c->progress, s->off);
	if (x->zero)
		submit(s, k->c->to, BLK_WRITE_ZEROES, s->len);
	else
		submit(s, k->c->from, BLK_READ, s->len);
	return true;
}

/* Bytes from s->done on that are all zero, or all to be written. */
static uint64_t find_run(const struct slot *s, uint64_t grain, bool zero)
{
	uint64_t at = s->done;

	while (at < s->len) {
		uint64_t len = MIN(grain, s->len - at);

		if (copy_is_zero(s->buf + at, len) != zero)
			break;
		at += len;
	}
	return at - s->done;
}

/* The piece is in memory: writes its next run. False: there is none. */
static bool write_on(struct copying *k, struct slot *s)
{
	uint64_t len = s->len - s->done;

	if (!k->c->own) {
		s->done += find_run(s, k->c->grain, true);
		len = find_run(s, k->c->grain, false);
	}
	if (!len || k->rc)
		return false;
	submit(s, k->c->to, BLK_WRITE, len);
	return true;
}

/* False: nothing can be done for it now. */
static bool step(struct copying *k, struct slot *s)
{
	if (s->state == SLOT_BUSY)
		return false;
	if (s->state == SLOT_FREE)
		return feed(k, s);
	if (s->done == s->len || !write_on(k, s))
		s->state = SLOT_FREE;
	return true;
}

static bool idle(const struct copying *k)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (k->slot[i].state != SLOT_FREE)
			return false;
	return true;
}

static void pump(struct copying *k)
{
	if (k->pumping) {
		k->again = true;
		return;
	}
	k->pumping = true;
	do {
		k->again = false;
		for (unsigned i = 0; i < SLOTS; i++)
			while (step(k, &k->slot[i]))
				;
		blk_commit(k->c->from);
		blk_commit(k->c->to);
	} while (k->again);
	k->pumping = false;
	if (idle(k))
		loop_stop(k->loop);
}

static int copy_stretches(struct copying *k)
{
	int rc = 0;

	k->next = 0;
	k->given = 0;
	pump(k);
	/* It may have been stopped before it ran. */
	while (!rc && !idle(k))
		rc = loop_run(k->loop);
	if (rc) {
		blk_drain(k->c->from);
		blk_drain(k->c->to);
	}
	return rc ? rc : k->rc;
}

static int copy_all(struct copying *k)
{
	int n, rc = 0;

	while (!rc && (n = stretches_next(k->s)) != 0)
		rc = n < 0 ? n : copy_stretches(k);
	return rc;
}

int copy_run(struct copy *c, struct tool *t)
{
	static struct stretches s;
	struct copying k = {.c = c, .loop = t->loop, .s = &s};
	size_t room = SLOTS * PIECE;
	uint8_t *buf = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc;

	if (buf == MAP_FAILED)
		return fail(ENOMEM, "no memory to copy with");
	s = (struct stretches){
		.from = c->from, .grain = c->own ? BLK_SECTOR : c->grain, .own = c->own};
	for (unsigned i = 0; i < SLOTS; i++) {
		k.slot[i].copying = &k;
		k.slot[i].buf = buf + i * PIECE;
	}
	rc = copy_all(&k);
	munmap(buf, room);
	return rc;
}
