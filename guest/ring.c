// SPDX-License-Identifier: MIT
// A bounded queue of bytes.
#include "guest/ring.h"

#include <string.h>

void ring_init(struct ring *r, uint8_t *buffer, size_t size)
{
	*r = (struct ring){.buffer = buffer, .size = size};
}

void ring_put(struct ring *r, const uint8_t *bytes, size_t length)
{
	size_t at = (r->start + r->used) % r->size;
	size_t first = r->size - at < length ? r->size - at : length;

	memcpy(r->buffer + at, bytes, first);
	memcpy(r->buffer, bytes + first, length - first);
	r->used += length;
}

const uint8_t *ring_peek(const struct ring *r, size_t *length)
{
	size_t tail = r->size - r->start;

	*length = r->used < tail ? r->used : tail;
	return r->buffer + r->start;
}

void ring_drop(struct ring *r, size_t length)
{
	r->used -= length;
	/* From the front again when empty: what never holds much never touches more pages. */
	r->start = r->used ? (r->start + length) % r->size : 0;
}
