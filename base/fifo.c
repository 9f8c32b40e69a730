// SPDX-License-Identifier: MIT
// A bounded queue of bytes, whose memory is taken when something is first put into it.
#include "base/fifo.h"

#include "base/iov.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void fifo_finish(struct fifo *f)
{
	free(f->buf);
	f->buf = NULL;
	f->head = f->len = 0;
}

int fifo_put(struct fifo *f, const struct iovec *iov, unsigned n)
{
	uint32_t len = (uint32_t)iov_size(iov, n);
	uint32_t tail = (f->head + f->len) % f->size;
	uint32_t first = MIN(len, f->size - tail);

	assert(len <= f->size - f->len);
	if (!f->buf)
		f->buf = malloc(f->size);
	if (!f->buf)
		return -ENOMEM;
	iov_read(iov, n, 0, f->buf + tail, first);
	iov_read(iov, n, first, f->buf, len - first);
	f->len += len;
	return 0;
}

unsigned fifo_peek(const struct fifo *f, struct iovec out[2])
{
	uint32_t first = MIN(f->len, f->size - f->head);

	out[0] = (struct iovec){.iov_base = f->buf + f->head, .iov_len = first};
	out[1] = (struct iovec){.iov_base = f->buf, .iov_len = f->len - first};
	return f->len == 0 ? 0 : f->len == first ? 1 : 2;
}

void fifo_drop(struct fifo *f, uint32_t n)
{
	assert(n <= f->len);
	f->len -= n;
	/* From the start again where it can: fewer pieces, and fewer pages touched. */
	f->head = f->len ? (f->head + n) % f->size : 0;
}
