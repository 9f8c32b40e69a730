// SPDX-License-Identifier: MIT
// A disk with a volatile cache: of each sector all values that the medium may have, oldest first.
#include "tests/unit/medium.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/test.h"

#include "base/iov.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the history of a sector ---- */

void history_init(struct history *h, uint32_t id)
{
	h->n = 1;
	h->value[0].id = id;
	h->value[0].done = 1;
}

void history_add(struct history *h, uint32_t id)
{
	assert_true(h->n < HISTORY_MAX);
	h->value[h->n].id = id;
	h->value[h->n++].done = 0;
}

static void forget_before(struct history *h, unsigned index)
{
	h->n -= index;
	memmove(h->value, h->value + index, h->n * sizeof(h->value[0]));
}

void history_done(struct history *h, uint32_t id, unsigned now, bool durable)
{
	for (unsigned i = h->n; i-- > 0;)
		if (h->value[i].id == id) {
			h->value[i].done = now;
			if (durable)
				forget_before(h, i);
			return;
		}
}

void history_flush(struct history *h, unsigned before)
{
	for (unsigned i = h->n; i-- > 0;)
		if (h->value[i].done && h->value[i].done < before) {
			forget_before(h, i);
			return;
		}
}

bool history_has(const struct history *h, uint32_t id)
{
	for (unsigned i = 0; i < h->n; i++)
		if (h->value[i].id == id)
			return true;
	return false;
}

uint32_t history_now(const struct history *h)
{
	unsigned i = h->n - 1;

	while (i && !h->value[i].done)
		i--;
	return h->value[i].id;
}

/* ---- the disk ---- */

static struct medium *of(struct blk *b)
{
	return container_of(b, struct medium, blk);
}

static uint64_t sectors(const struct medium *m)
{
	return m->blk.size / BLK_SECTOR;
}

static bool changes(const struct blk_request *r)
{
	return r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES || r->op == BLK_DISCARD;
}

/* From now on each sector of it may be on the medium. */
static void put_into_cache(struct medium *m, const struct blk_request *r, uint32_t id)
{
	for (uint64_t at = 0; at < r->len; at += BLK_SECTOR, id++) {
		struct history *h = &m->sector[(r->off + at) / BLK_SECTOR];
		uint8_t *bytes = m->bytes[id];

		memset(bytes, r->op == BLK_DISCARD ? 0xdd : 0, BLK_SECTOR);
		if (r->op == BLK_WRITE)
			iov_read(r->iov, r->iovcnt, at, bytes, BLK_SECTOR);
		/* A cache that is never flushed writes out by itself some time. */
		if (h->n == HISTORY_MAX)
			history_flush(h, UINT32_MAX);
		history_add(h, id);
	}
}

static void medium_submit(struct blk *b, struct blk_request *r)
{
	struct medium *m = of(b);

	assert_true(m->count < MEDIUM_PENDING);
	m->pending[m->count].r = r;
	m->pending[m->count].id = m->ids;
	m->pending[m->count++].since = ++m->now;
	if (!changes(r))
		return;
	assert_true(m->ids + r->len / BLK_SECTOR <= m->ids_max);
	put_into_cache(m, r, m->ids);
	m->ids += (uint32_t)(r->len / BLK_SECTOR);
}

static void perform(struct medium *m, struct blk_request *r, uint32_t id, unsigned since)
{
	struct history *first = m->sector + r->off / BLK_SECTOR;

	if (r->op == BLK_FLUSH)
		for (uint64_t i = 0; i < sectors(m); i++)
			history_flush(&m->sector[i], since);
	for (uint64_t i = 0; i < r->len / BLK_SECTOR; i++) {
		if (changes(r))
			history_done(&first[i], id + (uint32_t)i, m->now, r->flags & BLK_FUA);
		else
			iov_write(r->iov, r->iovcnt, i * BLK_SECTOR,
				m->bytes[history_now(&first[i])], BLK_SECTOR);
	}
}

/* Of a request that ends now: which fails is for the test to say. */
static int outcome(struct medium *m, const struct blk_request *r)
{
	if (m->fail_in && --m->fail_in == 0)
		return -EIO;
	return m->full && changes(r) && r->off + r->len > m->full ? -ENOSPC : 0;
}

bool medium_step(struct medium *m)
{
	unsigned i;
	struct blk_request *r;
	uint32_t id;
	unsigned since;
	int rc;

	if (!m->count)
		return false;
	i = (unsigned)(fake_random(&m->seed) % m->count);
	r = m->pending[i].r;
	id = m->pending[i].id;
	since = m->pending[i].since;
	m->pending[i] = m->pending[--m->count];
	m->now++;
	rc = outcome(m, r);
	if (!rc)
		perform(m, r, id, since);
	r->done(r, rc);
	if (m->after)
		m->after(m->arg);
	return true;
}

static int medium_drain(struct blk *b)
{
	while (medium_step(of(b)))
		;
	return 0;
}

static int64_t medium_measure(struct blk *b)
{
	return (int64_t)b->size;
}

static void medium_destroy(struct blk *b)
{
	struct medium *m = of(b);

	assert_int_equal(m->count, 0);
	free(m->sector);
	free(m->bytes);
	free(m->image);
	free(m);
}

struct medium *medium_create(uint64_t size, unsigned writes)
{
	static const struct blk_ops ops = {
		.submit = medium_submit,
		.drain = medium_drain,
		.measure = medium_measure,
		.destroy = medium_destroy,
	};
	struct medium *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->blk = (struct blk){.ops = &ops,
		.name = "medium",
		.size = size,
		.physical_block = BLK_SECTOR,
		.discard_align = BLK_SECTOR,
		.can_zero = true};
	m->seed = 0x9e3779b97f4a7c15ull;
	m->ids_max = writes;
	m->sector = calloc(sectors(m), sizeof(*m->sector));
	m->bytes = calloc(writes, sizeof(*m->bytes));
	m->image = malloc(size);
	assert_true(m->sector && m->bytes && m->image);
	for (uint64_t i = 0; i < sectors(m); i++)
		history_init(&m->sector[i], 0);
	m->ids = 1;
	m->now = 1;
	return m;
}

void medium_fill(struct medium *m, uint64_t off, const uint8_t *bytes, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += BLK_SECTOR) {
		memcpy(m->bytes[m->ids], bytes + at, BLK_SECTOR);
		history_init(&m->sector[(off + at) / BLK_SECTOR], m->ids++);
	}
}

/* ---- its states ---- */

static uint64_t count_states(const struct medium *m, uint64_t most)
{
	uint64_t n = 1;

	for (uint64_t i = 0; i < sectors(m) && n <= most; i++)
		n *= m->sector[i].n;
	return n;
}

/* The state of that number, counted in digits of as many values as each sector has. */
static void make_state(const struct medium *m, uint64_t number, uint8_t *image)
{
	for (uint64_t i = 0; i < sectors(m); i++) {
		const struct history *h = &m->sector[i];

		memcpy(image + i * BLK_SECTOR, m->bytes[h->value[number % h->n].id], BLK_SECTOR);
		number /= h->n;
	}
}

static void make_random_state(struct medium *m, uint8_t *image)
{
	for (uint64_t i = 0; i < sectors(m); i++) {
		const struct history *h = &m->sector[i];
		unsigned pick = (unsigned)(fake_random(&m->seed) % h->n);

		memcpy(image + i * BLK_SECTOR, m->bytes[h->value[pick].id], BLK_SECTOR);
	}
}

unsigned medium_states(
	struct medium *m, unsigned most, void (*see)(void *arg, const uint8_t *image), void *arg)
{
	uint64_t all = count_states(m, most);
	unsigned n = (unsigned)MIN(all, most);

	for (unsigned i = 0; i < n; i++) {
		/* Number 0 has nothing that was not flushed. */
		if (all <= most || i == 0)
			make_state(m, i, m->image);
		else
			make_random_state(m, m->image);
		see(arg, m->image);
	}
	return n;
}
