// SPDX-License-Identifier: MIT
// Scattered memory: copying to and from a list of pieces, and cutting a part out of one.
#include "base/iov.h"

#include "base/util.h"

size_t iov_size(const struct iovec *iov, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN(iov[i].iov_len - off, len - done);

		copy_once((char *)buf + done, (const char *)iov[i].iov_base + off, part);
		done += part;
		off = 0;
	}
	return done;
}

/* `buf` NULL: zeroes. */
static size_t put(const struct iovec *iov, unsigned n, size_t off, const char *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN(iov[i].iov_len - off, len - done);

		if (buf)
			memcpy((char *)iov[i].iov_base + off, buf + done, part);
		else
			memset((char *)iov[i].iov_base + off, 0, part);
		done += part;
		off = 0;
	}
	return done;
}

size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *buf, size_t len)
{
	return put(iov, n, off, buf, len);
}

size_t iov_zero(const struct iovec *iov, unsigned n, size_t off, size_t len)
{
	return put(iov, n, off, NULL, len);
}

unsigned iov_slice(struct iovec *out, const struct iovec *iov, unsigned n, size_t off, size_t len)
{
	unsigned used = 0;

	for (unsigned i = 0; i < n && len > 0; i++) {
		struct iovec v = iov[i];

		if (off >= v.iov_len) {
			off -= v.iov_len;
			continue;
		}
		v.iov_base = (char *)v.iov_base + off;
		v.iov_len = MIN(v.iov_len - off, len);
		len -= v.iov_len;
		off = 0;
		out[used++] = v;
	}
	return used;
}
