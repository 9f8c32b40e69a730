// SPDX-License-Identifier: MIT
// Starting the programs of libexec/kvick.
#include "vmm/helper.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ABOVE 16 /* numbers that no program is given anything under */
#define FDS_MAX (1 + HELPER_MORE_MAX)

/* A copy out of the way of the numbers that are to be filled. */
static int add_fd(posix_spawn_file_actions_t *actions, const struct helper_fd *f, int *copy)
{
	*copy = fcntl(f->fd, F_DUPFD_CLOEXEC, ABOVE);
	return *copy < 0 ? errno : posix_spawn_file_actions_adddup2(actions, *copy, f->as);
}

/* 0, or a positive errno. */
static int spawn(
	pid_t *pid, int program, char *const argv[], const struct helper_fd *fds, unsigned count)
{
	static char *env[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int copy[FDS_MAX];
	char path[32];
	unsigned n = 0;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return rc;
	posix_spawnattr_init(&attributes);
	rc = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
	while (!rc && n < count) {
		rc = add_fd(&actions, &fds[n], &copy[n]);
		n += copy[n] >= 0;
	}
	rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", program);
	rc = rc ? rc : posix_spawn(pid, path, &actions, &attributes, argv, env);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	while (n)
		close(copy[--n]);
	if (rc)
		*pid = 0;
	return rc;
}

int helper_start(struct helper *h, int program, char *const argv[], const struct helper_fd *more,
	unsigned count)
{
	struct helper_fd fds[FDS_MAX];
	int file CLEANUP_FD = program;
	int pair[2], rc;

	if (file < 0)
		return file;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return failno(errno, "%s", argv[0]);
	h->socket = pair[0];
	fds[0] = (struct helper_fd){pair[1], STDIN_FILENO};
	for (unsigned i = 0; i < count; i++)
		fds[1 + i] = more[i];
	rc = spawn(&h->pid, file, argv, fds, 1 + count);
	close(pair[1]);
	if (!rc)
		return 0;
	close(steal_fd(&h->socket));
	return failno(rc, "%s", argv[0]);
}

int helper_wait(struct helper *h)
{
	int status = -1;

	if (h->pid > 0)
		(void)TEMP_FAILURE_RETRY(waitpid(h->pid, &status, 0));
	h->pid = 0;
	return status;
}

void helper_finish(struct helper *h)
{
	cleanup_fd_(&h->socket);
	h->socket = -1;
	helper_wait(h);
}
