// SPDX-License-Identifier: MIT
// A driver for one virtqueue, over guest memory without a guest: honest by default, as broken as a
// test wants.
#ifndef TESTS_UNIT_DRIVER_H
#define TESTS_UNIT_DRIVER_H

#include "base/util.h"
#include "hw/mem.h"
#include "virtio/queue.h"

#include <linux/virtio_ring.h>

/* The rings lie one after the other from `base`; each field may be written to directly. */
struct driver {
	struct mem *mem;
	struct queue_setup setup;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t avail_next, used_next;
};

/* Bytes of RAM that a ring of `size` takes. */
static inline uint64_t driver_bytes(uint16_t size)
{
	return align_up(size * 16ull + 6 + 2ull * size, 4) + 6 + 8ull * size;
}

/* Zeroes the rings. `at` is where both indices begin. */
static inline void driver_init(
	struct driver *d, struct mem *mem, uint64_t base, uint16_t size, uint16_t at)
{
	uint64_t avail = base + size * 16ull;
	uint64_t used = align_up(avail + 6 + 2ull * size, 4);

	*d = (struct driver){
		.mem = mem,
		.setup = {.size = size,
			.desc = base,
			.avail = avail,
			.used = used,
			.next_avail = at,
			.next_used = at,
			.kick = -1,
			.call = -1},
		.desc = mem_get(mem, base, size * 16ull),
		.avail = mem_get(mem, avail, 6 + 2ull * size),
		.used = mem_get(mem, used, 6 + 8ull * size),
		.avail_next = at,
		.used_next = at,
	};
	memset(d->desc, 0, driver_bytes(size));
	d->avail->idx = d->used->idx = at;
}

static inline void driver_desc(
	struct driver *d, uint16_t i, uint64_t addr, uint32_t len, unsigned flags)
{
	d->desc[i] = (struct vring_desc){
		.addr = addr, .len = len, .flags = (uint16_t)flags, .next = (uint16_t)(i + 1)};
}

/* Makes the chain that starts at descriptor `head` available. */
static inline void driver_offer(struct driver *d, uint16_t head)
{
	d->avail->ring[d->avail_next++ % d->setup.size] = head;
	__atomic_store_n(&d->avail->idx, d->avail_next, __ATOMIC_RELEASE);
}

/* The next used entry; false when there is none. */
static inline bool driver_reap(struct driver *d, uint32_t *id, uint32_t *len)
{
	if (__atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE) == d->used_next)
		return false;
	*id = d->used->ring[d->used_next % d->setup.size].id;
	*len = d->used->ring[d->used_next % d->setup.size].len;
	d->used_next++;
	return true;
}

/* Interrupt when entry `at` is used (EVENT_IDX). */
static inline void driver_want_call(struct driver *d, uint16_t at)
{
	__atomic_store_n(&d->avail->ring[d->setup.size], at, __ATOMIC_SEQ_CST);
}

/* The entry at which the device wants to be kicked (EVENT_IDX). */
static inline uint16_t driver_kick_event(const struct driver *d)
{
	uint16_t v;

	memcpy(&v, &d->used->ring[d->setup.size], sizeof(v));
	return v;
}

#endif
