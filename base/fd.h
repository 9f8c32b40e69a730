// SPDX-License-Identifier: MIT
// Descriptors and short-lived memory: released at the end of a scope, read and written whole.
#ifndef BASE_FD_H
#define BASE_FD_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static inline void cleanup_fd_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

/* glibc has it; other C libraries do not. */
#ifndef TEMP_FAILURE_RETRY
#define TEMP_FAILURE_RETRY(call)                                                                   \
	({                                                                                         \
		__typeof__(call) result_;                                                          \
		do                                                                                 \
			result_ = (call);                                                          \
		while (result_ == -1 && errno == EINTR);                                           \
		result_;                                                                           \
	})
#endif

#define CLEANUP_FD __attribute__((cleanup(cleanup_fd_)))
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free_)))

/* Gives up a descriptor that CLEANUP_FD would close. */
static inline int steal_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

/* The pointer in *p, which becomes NULL: gives up what CLEANUP_FREE would free. */
#define steal_ptr(p)                                                                               \
	({                                                                                         \
		__typeof__(*(p)) stolen_ = *(p);                                                   \
		*(p) = NULL;                                                                       \
		stolen_;                                                                           \
	})

/* Reads until `len` bytes or end of file, at `off`. Returns the bytes read or -errno. */
ssize_t fd_pread_full(int fd, void *buf, size_t len, uint64_t off);

/* Writes all of `len` bytes, waiting where the descriptor is non-blocking. 0 or -errno. */
int fd_write_full(int fd, const void *buf, size_t len);

/* Waits for one of poll(2)'s events until then, CLOCK_MONOTONIC. 0, -ETIMEDOUT or -errno. */
int fd_await(int fd, short events, uint64_t deadline_ns);

#endif
