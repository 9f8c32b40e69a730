// SPDX-License-Identifier: MIT
// A bounded queue of bytes: what a stream's reader has taken on credit and cannot write out yet.
#ifndef GUEST_RING_H
#define GUEST_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring {
	uint8_t *buffer; /* the caller's */
	size_t size, start, used;
};

void ring_init(struct ring *r, uint8_t *buffer, size_t size);
/* Appends; length is at most size - used. */
void ring_put(struct ring *r, const uint8_t *bytes, size_t length);
/* The oldest bytes that lie in one piece, and how many; 0 only when the ring is empty. */
const uint8_t *ring_peek(const struct ring *r, size_t *length);
/* Drops the oldest bytes; length is at most used. */
void ring_drop(struct ring *r, size_t length);

#endif
