// SPDX-License-Identifier: MIT
// A bounded queue of bytes, whose memory is taken when something is first put into it.
#ifndef BASE_FIFO_H
#define BASE_FIFO_H

#include <stdint.h>
#include <sys/uio.h>

/* Zero-initialised but for `size` is an empty one. */
struct fifo {
	char *buf;     /* NULL until needed */
	uint32_t size; /* bytes it can hold */
	uint32_t head, len;
};

void fifo_finish(struct fifo *f);

/*
 * Appends all bytes of the pieces, for which there must be room: len + theirs <= size. 0, or
 * -ENOMEM with nothing appended.
 */
int fifo_put(struct fifo *f, const struct iovec *iov, unsigned n);

/* The bytes in it, oldest first, as 0, 1 or 2 pieces. Valid until the next put. */
unsigned fifo_peek(const struct fifo *f, struct iovec out[2]);

/* Drops the oldest `n`, which must be there. */
void fifo_drop(struct fifo *f, uint32_t n);

#endif
