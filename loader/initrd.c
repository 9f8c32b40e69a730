// SPDX-License-Identifier: MIT
// An initrd from a file.
#include "base/fd.h"
#include "base/log.h"
#include "loader/loader.h"

#include <errno.h>
#include <sys/stat.h>

/* The descriptor is all there is to remember, so it takes the pointer's place: nothing to free. */
static int fill(void *arg, void *dst, uint64_t size)
{
	int fd = (int)(intptr_t)arg;
	ssize_t n = fd_pread_full(fd, dst, size, 0);

	if (n < 0)
		return failno((int)-n, "reading it");
	if ((uint64_t)n < size)
		return fail(EIO, "it has shrunk to %zd bytes while being read", n);
	return 0;
}

int loader_initrd_from_fd(struct loader_initrd *out, int fd, const char *name)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return failno(errno, "initrd %s", name);
	if (!S_ISREG(st.st_mode))
		return fail(EINVAL, "initrd %s: not a regular file", name);
	if (st.st_size == 0)
		return fail(EINVAL, "initrd %s: the file is empty", name);
	*out = (struct loader_initrd){.name = name,
		.size = (uint64_t)st.st_size,
		.fill = fill,
		.arg = (void *)(intptr_t)fd};
	return 0;
}
