// SPDX-License-Identifier: MIT
// A disk in memory, and requests at random against a shadow of what the disk should hold.
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/iov.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_BYTES KIB(128)
#define DEPTH_MAX 400u

uint64_t fake_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void perform(struct fake_blk *f, struct blk_request *r)
{
	uint8_t *at = f->data + r->off;
	int rc = f->fail_in && --f->fail_in == 0 ? -EIO : 0;

	if (rc) {
		r->done(r, rc);
		return;
	}
	if (r->op == BLK_READ)
		iov_write(r->iov, r->iovcnt, 0, at, r->len);
	else if (r->op == BLK_WRITE)
		iov_read(r->iov, r->iovcnt, 0, at, r->len);
	else if (r->op != BLK_FLUSH)
		memset(at, r->op == BLK_DISCARD ? 0xdd : 0, r->len);
	f->reads += r->op == BLK_READ;
	f->writes += r->op == BLK_WRITE;
	f->flushes += r->op == BLK_FLUSH;
	r->done(r, 0);
}

static void complete_one(struct fake_blk *f)
{
	unsigned i = f->in_order ? 0 : (unsigned)(fake_random(&f->seed) % f->count);
	struct blk_request *r = f->pending[i];

	memmove(f->pending + i, f->pending + i + 1, (--f->count - i) * sizeof(r));
	perform(f, r);
}

static void fired(void *arg)
{
	struct fake_blk *f = arg;

	for (unsigned n = 1 + (unsigned)(fake_random(&f->seed) % 4); n && f->count; n--)
		complete_one(f);
	if (f->count)
		loop_arm(f->loop, &f->timer, 0);
}

static void submit(struct blk *b, struct blk_request *r)
{
	struct fake_blk *f = container_of(b, struct fake_blk, blk);

	assert_true(r->blk == b && f->count < FAKE_BLK_PENDING);
	if (r->op == BLK_READ || r->op == BLK_WRITE)
		assert_int_equal(iov_size(r->iov, r->iovcnt), r->len);
	f->pending[f->count++] = r;
}

static void commit(struct blk *b)
{
	struct fake_blk *f = container_of(b, struct fake_blk, blk);

	f->commits++;
	if (f->count && !f->timer.at_ns)
		loop_arm(f->loop, &f->timer, 0);
}

static int drain(struct blk *b)
{
	struct fake_blk *f = container_of(b, struct fake_blk, blk);

	while (f->count)
		complete_one(f);
	loop_disarm(f->loop, &f->timer);
	return 0;
}

static int64_t measure(struct blk *b)
{
	struct fake_blk *f = container_of(b, struct fake_blk, blk);

	return f->measured ? f->measured : (int64_t)b->size;
}

static void destroy(struct blk *b)
{
	struct fake_blk *f = container_of(b, struct fake_blk, blk);

	assert_int_equal(f->count, 0);
	loop_disarm(f->loop, &f->timer);
	free(f->data);
	free(f);
}

struct fake_blk *fake_blk_create(struct loop *loop, uint64_t size)
{
	static const struct blk_ops ops = {submit, commit, drain, measure, destroy};
	struct fake_blk *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->data = calloc(1, size);
	assert_non_null(f->data);
	f->loop = loop;
	f->seed = 88172645463325252ull;
	f->timer = TIMER_INIT(fired, f);
	f->blk = (struct blk){
		.ops = &ops,
		.name = "fake",
		.size = size,
		.physical_block = BLK_SECTOR,
		.discard_align = BLK_SECTOR,
		.can_zero = true,
	};
	return f;
}

void fake_layer_init(struct fake_layer *f, uint64_t size)
{
	*f = (struct fake_layer){0};
	assert_int_equal(loop_create(&f->loop, "test"), 0);
	f->below = fake_blk_create(f->loop, size);
}

void fake_layer_finish(struct fake_layer *f)
{
	blk_destroy(f->blk);
	loop_destroy(f->loop);
}

struct now {
	struct blk_request r;
	bool over;
	int rc;
};

static void now_done(struct blk_request *r, int rc)
{
	struct now *n = container_of(r, struct now, r);

	assert_false(n->over);
	n->over = true;
	n->rc = rc;
}

static int run_now(struct blk *b, struct now *n)
{
	n->r.done = now_done;
	blk_submit(b, &n->r);
	blk_commit(b);
	assert_int_equal(blk_drain(b), 0);
	assert_true(n->over);
	return n->rc;
}

int blk_now(struct blk *b, enum blk_op op, uint64_t off, void *buf, uint64_t len)
{
	struct iovec iov = {buf, len};
	struct now n = {
		.r = {.op = op, .off = off, .len = len, .iov = &iov, .iovcnt = buf != NULL}};

	return run_now(b, &n);
}

int blk_now_iov(struct blk *b, enum blk_op op, const struct iovec *iov, unsigned iovcnt)
{
	struct now n = {
		.r = {.op = op, .len = iov_size(iov, iovcnt), .iov = iov, .iovcnt = iovcnt}};

	return run_now(b, &n);
}

struct slot {
	struct blk_request r;
	struct run *run;
	bool busy;
	struct iovec iov[64];
	uint8_t *buf;
};

struct run {
	struct blk_stress *s;
	uint64_t seed;
	unsigned sent, ended, depth;
	bool filling;
	struct slot slot[DEPTH_MAX];
};

static void fill(struct run *run);

static void check_read(const struct run *run, const struct blk_request *r)
{
	uint8_t sector[BLK_SECTOR];

	for (uint64_t at = 0; at < r->len; at += BLK_SECTOR) {
		uint64_t off = r->off + at;

		if (!run->s->known[off / BLK_SECTOR])
			continue;
		iov_read(r->iov, r->iovcnt, at, sector, sizeof(sector));
		if (memcmp(sector, run->s->shadow + off, sizeof(sector)))
			fail_msg("request %u: the sector at %llu is not what was written",
				run->ended, (unsigned long long)off);
	}
}

static void apply(struct run *run, const struct blk_request *r)
{
	struct blk_stress *s = run->s;
	bool known = r->op != BLK_DISCARD;

	if (r->op == BLK_READ)
		check_read(run, r);
	if (r->op == BLK_WRITE)
		iov_read(r->iov, r->iovcnt, 0, s->shadow + r->off, r->len);
	if (r->op == BLK_WRITE_ZEROES)
		memset(s->shadow + r->off, 0, r->len);
	for (uint64_t at = r->off; r->op != BLK_READ && at < r->off + r->len; at += BLK_SECTOR)
		s->known[at / BLK_SECTOR] = known;
}

static void stress_done(struct blk_request *r, int rc)
{
	struct slot *slot = container_of(r, struct slot, r);
	struct run *run = slot->run;

	assert_true(slot->busy);
	if (rc)
		fail_msg("request %u: operation %u at %llu, %llu bytes: %s", run->ended, r->op,
			(unsigned long long)r->off, (unsigned long long)r->len, strerror(-rc));
	apply(run, r);
	slot->busy = false;
	run->ended++;
	if (run->ended == run->s->requests)
		loop_stop(run->s->loop);
	else if (!run->filling && run->sent - run->ended < run->depth / 2)
		fill(run);
}

static bool conflict(const struct run *run, const struct blk_request *r)
{
	for (unsigned i = 0; i < run->depth; i++) {
		const struct blk_request *o = &run->slot[i].r;

		if (run->slot[i].busy && (o->op != BLK_READ || r->op != BLK_READ) &&
			o->off < r->off + r->len && r->off < o->off + o->len)
			return true;
	}
	return false;
}

/* Cuts the buffer into pieces: whole sectors, or anything. */
static void cut(struct run *run, struct slot *slot, uint64_t len)
{
	unsigned most = 1 + (unsigned)(fake_random(&run->seed) % ARRAY_SIZE(slot->iov));
	uint8_t *at = slot->buf + (run->s->unaligned ? fake_random(&run->seed) % 64 : 0);
	unsigned n = 0;

	while (len) {
		uint64_t part = 1 + fake_random(&run->seed) % 2000;

		if (!run->s->unaligned)
			part = align_up(part, BLK_SECTOR);
		part = n + 1 == most ? len : MIN(part, len);
		slot->iov[n++] = (struct iovec){at, part};
		at += part;
		len -= part;
	}
	slot->r.iovcnt = n;
}

static void random_data(struct run *run, struct slot *slot)
{
	for (uint64_t at = 0; at + 8 <= SLOT_BYTES && at < slot->r.len + 64; at += 8)
		put_le64(slot->buf + at, fake_random(&run->seed));
}

static enum blk_op random_op(struct run *run)
{
	unsigned n = (unsigned)(fake_random(&run->seed) % 100);

	if (n < 45 || (run->s->blk->read_only && n < 90))
		return BLK_READ;
	if (run->s->blk->read_only)
		return BLK_FLUSH;
	if (n < 90)
		return BLK_WRITE;
	if (n < 93)
		return BLK_FLUSH;
	return n < 96 ? BLK_DISCARD : BLK_WRITE_ZEROES;
}

static bool prepare(struct run *run, struct slot *slot)
{
	struct blk_request *r = &slot->r;
	uint64_t sectors = run->s->blk->size / BLK_SECTOR;
	uint64_t most = fake_random(&run->seed) % 50 ? 16 : 200;
	uint64_t len = 1 + fake_random(&run->seed) % most;

	*r = (struct blk_request){.op = random_op(run), .done = stress_done, .iov = slot->iov};
	if (fake_random(&run->seed) % 8 == 0)
		r->flags |= BLK_FUA;
	if (fake_random(&run->seed) % 2)
		r->flags |= BLK_UNMAP;
	if (r->op == BLK_FLUSH)
		return true;
	r->off = fake_random(&run->seed) % (sectors - len) * BLK_SECTOR;
	r->len = len * BLK_SECTOR;
	if (conflict(run, r))
		return false;
	if (r->op <= BLK_WRITE)
		cut(run, slot, r->len);
	if (r->op == BLK_WRITE)
		random_data(run, slot);
	return true;
}

static void send_some(struct run *run)
{
	for (unsigned i = 0; i < run->depth && run->sent < run->s->requests; i++) {
		struct slot *slot = &run->slot[i];

		if (slot->busy || !prepare(run, slot))
			continue;
		slot->busy = true;
		run->sent++;
		blk_submit(run->s->blk, &slot->r);
	}
}

/* Leaves something under way, unless that was all: else no completion would come to go on from. */
static void fill(struct run *run)
{
	run->filling = true;
	do
		send_some(run);
	while (run->sent == run->ended && run->sent < run->s->requests);
	run->filling = false;
	blk_commit(run->s->blk);
}

static void check_all(struct blk_stress *s)
{
	uint8_t *all = malloc(s->blk->size);

	assert_non_null(all);
	for (uint64_t off = 0; off < s->blk->size; off += KIB(64))
		assert_int_equal(
			blk_now(s->blk, BLK_READ, off, all + off, MIN(KIB(64), s->blk->size - off)),
			0);
	for (uint64_t off = 0; off < s->blk->size; off += BLK_SECTOR)
		if (s->known[off / BLK_SECTOR])
			assert_memory_equal(all + off, s->shadow + off, BLK_SECTOR);
	free(all);
}

void blk_stress_run(struct blk_stress *s, uint64_t seed)
{
	struct run *run = calloc(1, sizeof(*run));

	assert_non_null(run);
	assert_true(s->depth <= DEPTH_MAX);
	run->s = s;
	run->seed = seed;
	run->depth = s->depth;
	for (unsigned i = 0; i < s->depth; i++) {
		run->slot[i].run = run;
		run->slot[i].buf = malloc(SLOT_BYTES);
		assert_non_null(run->slot[i].buf);
	}
	fill(run);
	assert_int_equal(loop_run(s->loop), 0);
	assert_int_equal(run->ended, s->requests);
	assert_int_equal(blk_drain(s->blk), 0);
	assert_int_equal(run->ended, run->sent);
	check_all(s);
	for (unsigned i = 0; i < s->depth; i++)
		free(run->slot[i].buf);
	free(run);
}

void blk_stress_zeroed(struct blk *b, struct loop *loop, unsigned requests, unsigned depth)
{
	struct blk_stress s = {
		.blk = b,
		.loop = loop,
		.requests = requests,
		.depth = depth,
		.unaligned = true,
		.shadow = calloc(1, b->size),
		.known = malloc(b->size / BLK_SECTOR * sizeof(bool)),
	};

	assert_non_null(s.shadow);
	assert_non_null(s.known);
	memset(s.known, true, b->size / BLK_SECTOR * sizeof(bool));
	blk_stress_run(&s, 0x9e3779b97f4a7c15ull + requests);
	free(s.shadow);
	free(s.known);
}
