// SPDX-License-Identifier: MIT
// The bus: who answers at which port or address. One struct for each of the two address spaces.
#ifndef HW_BUS_H
#define HW_BUS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * `off` is relative to the range's base; `len` is 1, 2, 4 or 8 and off + len is within the range.
 * Both are called on vCPU threads, several at once: the device takes its own lock.
 * read fills all of `data`. Either may be NULL: reads then give all ones, writes are dropped.
 */
struct bus_ops {
	void (*read)(void *dev, uint64_t off, void *data, unsigned len);
	void (*write)(void *dev, uint64_t off, const void *data, unsigned len);
};

struct bus_range {
	uint64_t base, size;
	const struct bus_ops *ops;
	void *dev;
	const char *name; /* for messages; borrowed */
	uint64_t hits;    /* accesses so far; counted by the bus */
};

/* Zero-initialised is an empty bus. Changes are made only while no vCPU runs. */
struct bus {
	struct bus_range *ranges; /* sorted by base */
	unsigned count, cap;
	uint64_t missed; /* accesses that no range claimed */
};

void bus_finish(struct bus *b);

/* -EEXIST where it overlaps another range, naming both; -ENOMEM. */
int bus_add(struct bus *b, const struct bus_range *r);

/* Removes the range that starts at `base`, if there is one. */
void bus_del(struct bus *b, uint64_t base);

/* False when no range holds [addr, addr + len): reads then give all ones, writes are dropped. */
bool bus_read(struct bus *b, uint64_t addr, void *data, unsigned len);
bool bus_write(struct bus *b, uint64_t addr, const void *data, unsigned len);

#endif
