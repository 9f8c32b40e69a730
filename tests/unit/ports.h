// SPDX-License-Identifier: MIT
// Port accesses as a guest makes them, and interrupt lines that a test can look at.
#ifndef TESTS_UNIT_PORTS_H
#define TESTS_UNIT_PORTS_H

#include "hw/bus.h"
#include "hw/irq.h"

#include <unistd.h>

static inline uint8_t in8(struct bus *b, uint64_t port)
{
	uint8_t v;

	bus_read(b, port, &v, 1);
	return v;
}

static inline uint32_t in32(struct bus *b, uint64_t port)
{
	uint32_t v;

	bus_read(b, port, &v, 4);
	return v;
}

static inline void out8(struct bus *b, uint64_t port, uint8_t v)
{
	bus_write(b, port, &v, 1);
}

/* Edges since the last call. */
static inline uint64_t edges(const struct irq *irq)
{
	uint64_t n = 0;

	return read(irq->fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

#endif
