// SPDX-License-Identifier: MIT
// Starting the programs of libexec/kvick.
#include "vmm/helper.h"

#include "base/fd.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

#define ABOVE 16 /* numbers that no program is given anything under */

/* A copy out of the way of the numbers that are to be filled. */
static int add_fd(posix_spawn_file_actions_t *actions, const struct helper_fd *f, int *copy)
{
	*copy = fcntl(f->fd, F_DUPFD_CLOEXEC, ABOVE);
	return *copy < 0 ? errno : posix_spawn_file_actions_adddup2(actions, *copy, f->as);
}

int helper_spawn(
	pid_t *pid, int program, char *const argv[], const struct helper_fd *fds, unsigned count)
{
	static char *env[] = {NULL};
	posix_spawn_file_actions_t actions;
	int copy[HELPER_FDS_MAX];
	char path[32];
	unsigned n = 0;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return rc;
	while (!rc && n < count) {
		rc = add_fd(&actions, &fds[n], &copy[n]);
		n += copy[n] >= 0;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", program);
	rc = rc ? rc : posix_spawn(pid, path, &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	while (n)
		close(copy[--n]);
	if (rc)
		*pid = 0;
	return rc;
}

int helper_wait(pid_t *pid)
{
	int status = -1;

	if (*pid)
		(void)TEMP_FAILURE_RETRY(waitpid(*pid, &status, 0));
	*pid = 0;
	return status;
}
