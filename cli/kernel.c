// SPDX-License-Identifier: MIT
// Finds the kernel, the root and the helpers that a guest is made of by default.
#include "cli/kernel.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

/* BASE/kvick/`rest` in the user's cache, malloc'd; NULL when there is no home. */
static char *cache_path(const char *rest)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *path = NULL;
	int n = -1;

	if (xdg && *xdg)
		n = asprintf(&path, "%s/kvick/%s", xdg, rest);
	else if (home && *home)
		n = asprintf(&path, "%s/.cache/kvick/%s", home, rest);
	return n < 0 ? NULL : path;
}

static char *host_kernel_path(void)
{
	struct utsname u;
	char *path = NULL;

	if (uname(&u) < 0 || asprintf(&path, "/boot/vmlinuz-%s", u.release) < 0)
		return NULL;
	return path;
}

/* A kernel that the user has named must be there. */
static int open_named(const char *option, const char *name, char **path)
{
	CLEANUP_FD int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return failno(errno, "%s %s", option, name);
	if (!S_ISREG(st.st_mode))
		return fail(EINVAL, "%s %s: not a regular file", option, name);
	*path = strdup(name);
	return *path ? steal_fd(&fd) : fail(ENOMEM, "out of memory");
}

/* A kernel that may be there. Takes `name`; -ENOENT when it is not. */
static int open_candidate(char *name, char **path)
{
	int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	int err = errno;

	if (fd >= 0) {
		*path = name;
		return fd;
	}
	if (name && err != ENOENT && err != ENOTDIR)
		fd = fail(err,
			"kernel %s: %s; get another with tools/get-kernel, or name one with "
			"--kernel",
			name, strerror(err));
	else
		fd = -ENOENT;
	free(name);
	return fd;
}

int kernel_open(const char *given, char **path)
{
	const char *env = getenv("KVICK_KERNEL");
	int fd;

	if (given)
		return open_named("--kernel", given, path);
	if (env && *env)
		return open_named("KVICK_KERNEL", env, path);
	fd = open_candidate(cache_path("kernels/default/vmlinux"), path);
	if (fd == -ENOENT)
		fd = open_candidate(cache_path("kernels/default/vmlinuz"), path);
	if (fd == -ENOENT)
		fd = open_candidate(host_kernel_path(), path);
	if (fd == -ENOENT)
		return fail(ENOENT,
			"no kernel for the guest: get one with tools/get-kernel, or name "
			"one with --kernel");
	return fd;
}

int root_open(const char *given, char **path)
{
	int fd;

	*path = given ? strdup(given) : cache_path("roots/busybox");
	if (!*path)
		return fail(ENOENT, "no root for the guest: name one with --rootfs");
	fd = open(*path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	fd = -errno;
	if (given)
		failno(-fd, "--rootfs %s", given);
	else if (fd == -ENOENT)
		fail(ENOENT, "no root for the guest: get one with tools/get-root busybox, or name "
			     "one with --rootfs");
	else
		failno(-fd, "root %s", *path);
	free(steal_ptr(path));
	return fd;
}

int helper_open(const char *name)
{
	static const char *const places[] = {"guest", "loader/unpack", "net/bridge", "net/slirp",
		"cli/image", "../libexec/kvick"};
	char exe[512], path[640];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (n < 0)
		return failno(errno, "/proc/self/exe");
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	if (slash)
		*slash = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/%s/%s", exe, places[i], name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno != ENOENT && errno != ENOTDIR)
			return failno(errno, "%s", path);
	}
	return fail(ENOENT, "%s: not found in %s/../libexec/kvick, where meson install puts it",
		name, exe);
}
