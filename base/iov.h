// SPDX-License-Identifier: MIT
// Scattered memory: copying to and from a list of pieces, and cutting a part out of one.
//
// The pieces may be guest memory, which changes while it is read. The copies are real: what was
// copied is not fetched a second time.
#ifndef BASE_IOV_H
#define BASE_IOV_H

#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

/*
 * Copies memory that someone else may be writing to. The compiler is made to take what was copied
 * from the copy: where both are in its sight it may otherwise drop the copy and load from the
 * source again.
 */
static inline void copy_once(void *copy, const void *from, size_t len)
{
	memcpy(copy, from, len);
	__asm__ volatile("" : : "r"(copy) : "memory");
}

/* Bytes in all pieces. The sum must fit; that is for whoever made the list to have checked. */
size_t iov_size(const struct iovec *iov, unsigned n);

/* Copies up to `len` bytes from offset `off` of the list into buf. Returns the bytes there were. */
size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *buf, size_t len);

/* Copies up to `len` bytes of buf to offset `off` of the list. Returns the bytes there was room
 * for. */
size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *buf, size_t len);

/* As iov_write, of zeroes. */
size_t iov_zero(const struct iovec *iov, unsigned n, size_t off, size_t len);

/*
 * Puts into `out`, which has room for n pieces, those that make up [off, off + len) of the list, or
 * as much of that as the list has. Returns how many pieces. `out` may be `iov` itself.
 */
unsigned iov_slice(struct iovec *out, const struct iovec *iov, unsigned n, size_t off, size_t len);

#endif
