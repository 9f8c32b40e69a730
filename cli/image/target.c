// SPDX-License-Identifier: MIT
// A file without a name (O_TMPFILE) gets one with linkat, which replaces nothing: where something
// is to be replaced it gets another name for a moment, to be renamed.
#include "cli/image/target.h"

#include "base/log.h"
#include "base/util.h"
#include "blk/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is removed when a signal ends the program. */
static const char *volatile doomed;

static void remove_doomed(int signo)
{
	if (doomed)
		unlink(doomed);
	raise(signo); /* its action is the default's again */
}

static void watch_signals(const char *path)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	const struct sigaction a = {.sa_handler = remove_doomed, .sa_flags = (int)SA_RESETHAND};

	doomed = path;
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &a, NULL);
}

static const char *base_of(const struct target *t)
{
	return strrchr(t->path, '/') + 1;
}

/* The place without links in it. Of what is not there yet it is the folder that is looked up. */
static int find_place(struct target *t)
{
	const char *slash = strrchr(t->name, '/');
	const char *base = slash ? slash + 1 : t->name;
	char *dir, real[PATH_MAX];
	int rc = 0;

	t->path = realpath(t->name, NULL);
	if (t->path)
		return 0;
	if (errno != ENOENT || !*base)
		return failno(*base ? errno : EISDIR, "%s", t->name);
	dir = strndup(t->name, slash ? (size_t)(slash + 1 - t->name) : 0);
	if (!dir || !realpath(*dir ? dir : ".", real))
		rc = failno(errno, "%s", t->name);
	else if (asprintf(&t->path, "%s/%s", strcmp(real, "/") ? real : "", base) < 0)
		rc = fail(ENOMEM, "out of memory");
	free(dir);
	return rc;
}

/* Locks what is there, so that nobody has it when it goes. */
static int look_at_old(struct target *t, bool replace, mode_t *mode)
{
	struct stat st;
	int fd, rc = 0;

	if (fstatat(t->dir, base_of(t), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : failno(errno, "%s", t->name);
	if (!replace)
		return fail(EEXIST, "%s: is there already", t->name);
	if (!S_ISREG(st.st_mode))
		return fail(EINVAL, "%s: is no file, and only files are replaced", t->name);
	fd = openat(t->dir, base_of(t), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return failno(errno, "%s", t->name);
	*mode = st.st_mode & 07777;
	t->replaces = true;
	t->old_lock = lock_image(fd, false, t->name);
	if (t->old_lock < 0)
		rc = t->old_lock;
	close(fd);
	return rc;
}

static int open_named(struct target *t, mode_t mode)
{
	if (asprintf(&t->unlinked, "%s.XXXXXX", t->path) < 0)
		return fail(ENOMEM, "out of memory");
	t->fd = mkostemp(t->unlinked, O_CLOEXEC);
	if (t->fd < 0) {
		free(t->unlinked);
		t->unlinked = NULL;
		return failno(errno, "%s", t->name);
	}
	watch_signals(t->unlinked);
	return fchmod(t->fd, mode) < 0 ? failno(errno, "%s", t->name) : 0;
}

static int open_file(struct target *t, mode_t mode)
{
	t->fd = openat(t->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	if (t->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
		return open_named(t, mode);
	if (t->fd < 0)
		return failno(errno, "%s", t->name);
	return t->replaces && fchmod(t->fd, mode) < 0 ? failno(errno, "%s", t->name) : 0;
}

int target_open(struct target *t, const char *name, bool replace)
{
	mode_t mask = umask(0), mode = 0666 & ~mask;
	char *slash;
	int rc;

	umask(mask);
	*t = (struct target){.name = name, .fd = -1, .dir = -1};
	rc = find_place(t);
	if (rc)
		return rc;
	slash = strrchr(t->path, '/');
	*slash = '\0';
	t->dir = open(slash == t->path ? "/" : t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*slash = '/';
	if (t->dir < 0)
		return failno(errno, "%s", name);
	rc = look_at_old(t, replace, &mode);
	return rc ? rc : open_file(t, mode);
}

static int link_file(const struct target *t, const char *as)
{
	char file[32];

	snprintf(file, sizeof(file), "/proc/self/fd/%d", t->fd);
	return linkat(AT_FDCWD, file, t->dir, as, AT_SYMLINK_FOLLOW);
}

/* What a signal comes between is told apart from any other file by its name alone. */
static int replace_file(struct target *t)
{
	const char *base;
	int rc;

	if (!t->unlinked) {
		if (asprintf(&t->unlinked, "%s.kvick-%d", t->path, (int)getpid()) < 0)
			return fail(ENOMEM, "out of memory");
		watch_signals(t->unlinked);
		if (link_file(t, strrchr(t->unlinked, '/') + 1) < 0) {
			rc = failno(errno, "%s", t->unlinked);
			free(t->unlinked);
			t->unlinked = NULL;
			return rc;
		}
	}
	base = strrchr(t->unlinked, '/') + 1;
	if (t->replaces ? renameat(t->dir, base, t->dir, base_of(t)) < 0
			: linkat(t->dir, base, t->dir, base_of(t), 0) < 0)
		return failno(errno, "%s", t->name);
	if (!t->replaces)
		unlinkat(t->dir, base, 0);
	doomed = NULL;
	free(t->unlinked);
	t->unlinked = NULL;
	return 0;
}

static int sync_fd(const struct target *t, int fd)
{
	return !t->no_sync && fsync(fd) < 0 ? failno(errno, "%s", t->name) : 0;
}

int target_finish(struct target *t)
{
	int rc = sync_fd(t, t->fd);

	if (rc)
		return rc;
	if (t->replaces || t->unlinked)
		rc = replace_file(t);
	else if (link_file(t, base_of(t)) < 0)
		rc = failno(errno, "%s", t->name);
	rc = rc ? rc : sync_fd(t, t->fd);
	return rc ? rc : sync_fd(t, t->dir);
}

void target_close(struct target *t)
{
	if (!t->path)
		return;
	if (t->unlinked)
		unlink(t->unlinked);
	doomed = NULL;
	free(t->unlinked);
	lock_release(t->old_lock);
	if (t->fd >= 0)
		close(t->fd);
	if (t->dir >= 0)
		close(t->dir);
	free(t->path);
	*t = (struct target){0};
}
