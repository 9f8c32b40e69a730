// SPDX-License-Identifier: MIT
// How this process uses its own stdin, stdout and stderr, whatever they are.
#include "cli/stdfd.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A description of our own for what `fd` refers to; -1 where there is none to be had. */
static int reopen(int fd, int mode)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int stdfd_open(int fd, int mode, enum stdfd_kind *kind)
{
	struct stat st;
	int own;

	if (fstat(fd, &st))
		return failno(errno, "descriptor %d", fd);
	*kind = S_ISSOCK(st.st_mode) ? STDFD_SOCKET : STDFD_SHARED;
	if (!S_ISFIFO(st.st_mode) && !isatty(fd))
		return fd;
	own = reopen(fd, mode);
	if (own < 0)
		return fd;
	*kind = STDFD_OWN;
	return own;
}

void stdfd_close(int *fd, enum stdfd_kind kind)
{
	if (kind == STDFD_OWN)
		close(*fd);
	*fd = -1;
}

int stdfd_watch(struct loop *l, struct watch *w, int *fd, enum stdfd_kind *kind)
{
	int rc = loop_add(l, w, *fd, 0);

	if (rc == -EPERM) {
		*kind = STDFD_FILE;
		rc = 0;
	}
	if (rc)
		stdfd_close(fd, *kind);
	return rc;
}
