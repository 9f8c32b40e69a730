// SPDX-License-Identifier: MIT
// Split virtqueues as a device sees them (virtio 1.2, 2.7).
//
// Three areas in guest memory make a queue. The driver writes chains of descriptors into the table
// (address, length, flags, next) and the head of each into the available ring, then moves
// avail->idx. The device takes heads from next_avail up to avail->idx, and when it is done with a
// chain writes its head and the bytes written into the used ring and moves used->idx. Both indices
// run freely through 65536 and are reduced modulo the size, a power of two, to find a slot.
//
// Memory order. Each index publishes what was written before it, so the pairs are:
//   - driver stores heads, store-releases avail->idx; we load-acquire avail->idx, then load heads
//   and
//     descriptors (avail_idx).
//   - we store used entries, store-release used->idx (queue_publish); the driver load-acquires it.
//   - Notifications need the strong form, as each side stores its index and then loads what the
//   other wants
//     to be told: we publish used->idx, full fence, load used_event or the flags (queue_notify); we
//     store avail_event or the flags, full fence, load avail->idx (queue_enable_kicks). The driver
//     does the mirror image. Without the fences both may read the old value, and each then waits
//     for the other.
//
// The driver is not trusted. Indices, heads and descriptors are each loaded once, into locals, by
// loads that the compiler may not repeat; the local is judged and used. A chain that visits more
// descriptors than its table has must have visited one twice, so a bound on the count is all that
// loops need.
#include "virtio/queue.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/util.h"
#include "hw/mem.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>

static_assert(
	QUEUE_FEATURES == (1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX),
	"the ring features offered are those implemented");

/* A table of descriptors being walked: the queue's own, or an indirect one, which may lie anyhow.
 */
struct table {
	const char *desc;
	uint32_t count;
	bool indirect;
};

static uint16_t load_once16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

/* Acquire: heads and descriptors are loaded after it. */
static uint16_t avail_idx(const struct queue *q)
{
	return __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
}

static void full_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint16_t slot(const struct queue *q, uint16_t idx)
{
	return idx & (q->size - 1);
}

/* The driver's wish about interrupts lies behind the available ring, ours about kicks behind the
 * used. */
static uint16_t used_event(const struct queue *q)
{
	return load_once16(&q->avail->ring[q->size]);
}

static void set_avail_event(struct queue *q, uint16_t v)
{
	uint16_t *event = (uint16_t *)(void *)&q->used->ring[q->size];

	store16(event, v);
	mem_dirty_ptr(q->mem, event, sizeof(*event));
}

static void set_used_flags(struct queue *q, uint16_t v)
{
	store16(&q->used->flags, v);
	mem_dirty_ptr(q->mem, &q->used->flags, sizeof(q->used->flags));
}

static bool printf_like(2, 3) broke(struct queue *q, const char *fmt, ...)
{
	char why[160];
	va_list ap;
	int n = snprintf(why, sizeof(why), "queue %u: ", q->index);

	va_start(ap, fmt);
	vsnprintf(why + n, sizeof(why) - (size_t)n, fmt, ap);
	va_end(ap);
	q->broken = true;
	q->host->broken(q->host->arg, why);
	return false;
}

/* One of the three areas: what it is called, where it is, how it must lie (virtio 1.2, 2.7). */
struct ring {
	const char *what;
	uint64_t gpa, len, align;
};

static int ring_get(struct mem *mem, const struct ring *r, void **out)
{
	if (r->gpa % r->align)
		return fail(EINVAL, "%s at %#lx is not aligned to %lu", r->what, r->gpa, r->align);
	*out = mem_get(mem, r->gpa, r->len);
	if (!*out)
		return fail(
			EINVAL, "%s of %lu bytes at %#lx is not in RAM", r->what, r->len, r->gpa);
	return 0;
}

static int rings_get(struct queue *q, const struct queue_setup *s)
{
	const uint64_t n = s->size;
	const struct ring rings[] = {
		{"descriptor table", s->desc, n * sizeof(struct vring_desc), 16},
		{"available ring", s->avail, sizeof(uint16_t) * (3 + n), 2},
		{"used ring", s->used, sizeof(uint16_t) * 3 + n * sizeof(struct vring_used_elem),
			4},
	};
	void *ptr[ARRAY_SIZE(rings)];

	for (unsigned i = 0; i < ARRAY_SIZE(rings); i++) {
		int rc = ring_get(q->mem, &rings[i], &ptr[i]);

		if (rc < 0)
			return rc;
	}
	q->desc = ptr[0];
	q->avail = ptr[1];
	q->used = ptr[2];
	return 0;
}

int queue_start(struct queue *q, struct mem *mem, const struct queue_setup *setup,
	uint64_t features, const struct queue_host *host)
{
	uint16_t size = setup->size;

	if (size == 0 || size > QUEUE_SIZE_MAX || (size & (size - 1)))
		return fail(EINVAL, "size %u is not a power of two up to %u", size, QUEUE_SIZE_MAX);
	*q = (struct queue){
		.mem = mem,
		.host = host,
		.index = q->index,
		.calls = q->calls,
		.calls_spared = q->calls_spared,
		.size = size,
		.next_avail = setup->next_avail,
		.next_used = setup->next_used,
		.called = setup->next_used,
		.call_unknown = true,
		.event_idx = features & 1ull << VIRTIO_RING_F_EVENT_IDX,
		.indirect = features & 1ull << VIRTIO_RING_F_INDIRECT_DESC,
	};
	return rings_get(q, setup);
}

void queue_stop(struct queue *q, struct queue_setup *setup)
{
	setup->next_avail = q->next_avail;
	setup->next_used = q->next_used;
	*q = (struct queue){.index = q->index, .calls = q->calls, .calls_spared = q->calls_spared};
}

bool queue_live(const struct queue *q)
{
	return q->desc && !q->broken;
}

void queue_break(struct queue *q)
{
	q->broken = true;
}

/* Adds one buffer to the request. */
static bool add_buffer(struct queue *q, struct queue_elem *e, const struct vring_desc *d)
{
	unsigned n = e->out_n + e->in_n;
	bool write = d->flags & VRING_DESC_F_WRITE;
	void *p;

	if (d->len == 0)
		return broke(q, "a buffer at %#llx has no length", d->addr);
	if (n == e->cap)
		return broke(q, "a request of more than %u buffers", e->cap);
	if (!write && e->in_n)
		return broke(q, "a buffer to be read comes after one to be written");
	if ((uint64_t)e->out_len + e->in_len + d->len > UINT32_MAX)
		return broke(q, "a request of 4 GiB or more");
	p = mem_get(q->mem, d->addr, d->len);
	if (!p)
		return broke(q, "a buffer of %u bytes at %#llx is not in RAM", d->len, d->addr);
	e->iov[n] = (struct iovec){.iov_base = p, .iov_len = d->len};
	*(write ? &e->in_n : &e->out_n) += 1;
	*(write ? &e->in_len : &e->out_len) += d->len;
	return true;
}

/* Goes over to the indirect table that `d` refers to; its WRITE flag means nothing (2.7.5.3.2). */
static bool enter_indirect(struct queue *q, struct table *t, const struct vring_desc *d)
{
	uint32_t count = d->len / sizeof(struct vring_desc);

	if (!q->indirect)
		return broke(q, "an indirect descriptor, which was not negotiated");
	if (t->indirect)
		return broke(q, "an indirect descriptor in an indirect table");
	if (d->flags & VRING_DESC_F_NEXT)
		return broke(q, "an indirect descriptor that has a next one");
	if (count == 0 || d->len % sizeof(struct vring_desc))
		return broke(q, "an indirect table of %u bytes", d->len);
	if (count > QUEUE_SIZE_MAX)
		return broke(q, "an indirect table of %u descriptors", count);
	t->desc = mem_get(q->mem, d->addr, d->len);
	if (!t->desc)
		return broke(
			q, "an indirect table of %u bytes at %#llx is not in RAM", d->len, d->addr);
	t->count = count;
	t->indirect = true;
	return true;
}

/* Walks the chain that starts at `at`, through at most one change of table. */
static bool take_chain(struct queue *q, struct queue_elem *e, uint16_t at)
{
	struct table t = {.desc = (const char *)q->desc, .count = q->size};
	struct vring_desc d;

	for (uint32_t visited = 0;;) {
		if (at >= t.count)
			return broke(q, "descriptor %u of a table of %u", at, t.count);
		if (++visited > t.count)
			return broke(
				q, "a chain longer than its table of %u: it has a loop", t.count);
		copy_once(&d, t.desc + at * sizeof(d), sizeof(d));
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (!enter_indirect(q, &t, &d))
				return false;
			at = 0;
			visited = 0;
			continue;
		}
		if (!add_buffer(q, e, &d))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		at = d.next;
	}
}

static bool take_request(struct queue *q, struct queue_elem *e, uint16_t head)
{
	e->head = head;
	e->out_n = e->in_n = 0;
	e->out_len = e->in_len = 0;
	return take_chain(q, e, head);
}

bool queue_pending(const struct queue *q)
{
	return queue_live(q) && avail_idx(q) != q->next_avail;
}

bool queue_pop(struct queue *q, struct queue_elem *e)
{
	uint16_t ready;

	if (!queue_live(q))
		return false;
	ready = (uint16_t)(avail_idx(q) - q->next_avail);
	if (ready == 0)
		return false;
	if (ready > q->size)
		return broke(q, "%u requests available at once in a ring of %u", ready, q->size);
	if (!take_request(q, e, load_once16(&q->avail->ring[slot(q, q->next_avail)])))
		return false;
	q->next_avail++;
	q->last_len = e->out_len + e->in_len;
	return true;
}

bool queue_pop_again(struct queue *q, struct queue_elem *e, uint16_t head)
{
	return queue_live(q) && take_request(q, e, head);
}

void queue_unpop(struct queue *q, unsigned count)
{
	q->next_avail = (uint16_t)(q->next_avail - count);
}

static void mark_written(struct queue *q, const struct queue_elem *e, uint32_t written)
{
	const struct iovec *v = e->iov + e->out_n;

	for (uint32_t left = written; left > 0; v++) {
		uint32_t part = MIN(left, (uint32_t)v->iov_len);

		mem_dirty_ptr(q->mem, v->iov_base, part);
		left -= part;
	}
}

void queue_put(struct queue *q, const struct queue_elem *e, uint32_t written)
{
	struct vring_used_elem *u;

	assert(written <= e->in_len);
	if (!queue_live(q))
		return;
	mark_written(q, e, written);
	u = &q->used->ring[slot(q, q->next_used)];
	__atomic_store_n(&u->id, e->head, __ATOMIC_RELAXED);
	__atomic_store_n(&u->len, written, __ATOMIC_RELAXED);
	mem_dirty_ptr(q->mem, u, sizeof(*u));
	q->next_used++;
}

/* Release: the used entries were stored before it. */
void queue_publish(struct queue *q)
{
	if (!queue_live(q))
		return;
	__atomic_store_n(&q->used->idx, q->next_used, __ATOMIC_RELEASE);
	mem_dirty_ptr(q->mem, &q->used->idx, sizeof(q->used->idx));
}

void queue_push(struct queue *q, const struct queue_elem *e, uint32_t written)
{
	queue_put(q, e, written);
	queue_publish(q);
}

/* Whether the driver wants an interrupt for what was used since it was last considered. */
static bool call_wanted(struct queue *q)
{
	uint16_t old = q->called;

	if (!q->event_idx)
		return !(load_once16(&q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	return q->call_unknown || vring_need_event(used_event(q), q->next_used, old);
}

void queue_notify(struct queue *q)
{
	bool wanted;

	if (!queue_live(q) || q->next_used == q->called)
		return;
	full_fence();
	wanted = call_wanted(q);
	q->called = q->next_used;
	q->call_unknown = false;
	if (!wanted) {
		q->calls_spared++;
		return;
	}
	q->calls++;
	q->host->raise(q->host->arg, q->index);
}

void queue_disable_kicks(struct queue *q)
{
	/* With EVENT_IDX the event stays where it is: the driver has passed it and does not kick.
	 */
	if (queue_live(q) && !q->event_idx)
		set_used_flags(q, VRING_USED_F_NO_NOTIFY);
}

bool queue_enable_kicks(struct queue *q)
{
	if (!queue_live(q))
		return false;
	if (q->event_idx)
		set_avail_event(q, q->next_avail);
	else
		set_used_flags(q, 0);
	full_fence();
	return queue_pending(q);
}
