// SPDX-License-Identifier: MIT
// Sorted ranges and a binary search.
#include "hw/bus.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

void bus_finish(struct bus *b)
{
	free(b->ranges);
	*b = (struct bus){0};
}

/* The number of ranges that start at or below `addr`. */
static unsigned upper_bound(const struct bus *b, uint64_t addr)
{
	unsigned lo = 0, hi = b->count;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (b->ranges[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int grow(struct bus *b)
{
	unsigned cap = b->cap ? b->cap * 2 : 16;
	struct bus_range *r = reallocarray(b->ranges, cap, sizeof(*r));

	if (!r)
		return fail(ENOMEM, "no memory for a bus of %u ranges", cap);
	b->ranges = r;
	b->cap = cap;
	return 0;
}

static int overlap(const struct bus_range *a, const struct bus_range *b)
{
	return fail(EEXIST, "%s at 0x%llx overlaps %s at 0x%llx", a->name,
		(unsigned long long)a->base, b->name, (unsigned long long)b->base);
}

int bus_add(struct bus *b, const struct bus_range *r)
{
	unsigned at = upper_bound(b, r->base);

	if (!r->size || r->base + (r->size - 1) < r->base)
		return fail(EINVAL, "%s: bad range 0x%llx + 0x%llx", r->name,
			(unsigned long long)r->base, (unsigned long long)r->size);
	if (at > 0 && r->base - b->ranges[at - 1].base < b->ranges[at - 1].size)
		return overlap(r, &b->ranges[at - 1]);
	if (at < b->count && b->ranges[at].base - r->base < r->size)
		return overlap(r, &b->ranges[at]);
	if (b->count == b->cap && grow(b))
		return -ENOMEM;
	memmove(b->ranges + at + 1, b->ranges + at, (b->count - at) * sizeof(*r));
	b->ranges[at] = *r;
	b->ranges[at].hits = 0;
	b->count++;
	return 0;
}

void bus_del(struct bus *b, uint64_t base)
{
	unsigned at = upper_bound(b, base);

	if (!at || b->ranges[at - 1].base != base)
		return;
	memmove(b->ranges + at - 1, b->ranges + at, (b->count - at) * sizeof(*b->ranges));
	b->count--;
}

static struct bus_range *find(struct bus *b, uint64_t addr, unsigned len)
{
	unsigned at = upper_bound(b, addr);
	struct bus_range *r = at ? &b->ranges[at - 1] : NULL;

	if (!r || !range_ok(addr - r->base, len, r->size)) {
		__atomic_fetch_add(&b->missed, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	__atomic_fetch_add(&r->hits, 1, __ATOMIC_RELAXED);
	return r;
}

bool bus_read(struct bus *b, uint64_t addr, void *data, unsigned len)
{
	struct bus_range *r = find(b, addr, len);

	if (r && r->ops->read)
		r->ops->read(r->dev, addr - r->base, data, len);
	else
		memset(data, 0xff, len);
	return r;
}

bool bus_write(struct bus *b, uint64_t addr, const void *data, unsigned len)
{
	struct bus_range *r = find(b, addr, len);

	if (r && r->ops->write)
		r->ops->write(r->dev, addr - r->base, data, len);
	return r;
}
