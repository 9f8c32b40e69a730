// SPDX-License-Identifier: MIT
// A permission is a byte of the image file, whatever the file has there. Who uses the permission
// has a shared lock on byte 100 + n; who does not bear another's using it, on byte 200 + n. After
// that each looks whether any other's lock contradicts: both see it where two come at once. The
// locks are of the open file (F_OFD_SETLK), not of the process.
//
// They are on an open file of their own: a ring's files are given back some time after the process
// has ended, a tenth of a second was seen, and whoever starts the VM again would meet its own lock.
#include "blk/lock.h"

#include "base/fd.h"
#include "base/log.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define USED 100
#define UNSHARED 200
#define PERMISSIONS 64

/* QEMU's numbers. Its others, to write what is there already and to resize, are everyone's. */
enum permission { PERMISSION_READ, PERMISSION_WRITE };

static int set_lock(int fd, short type, off_t at, off_t len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = len};

	return TEMP_FAILURE_RETRY(fcntl(fd, F_OFD_SETLK, &l)) < 0 ? -errno : 0;
}

/* -EBUSY where someone else has a lock on the byte. */
static int check_free(int fd, off_t at)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	if (fcntl(fd, F_OFD_GETLK, &l) < 0)
		return -errno;
	return l.l_type == F_UNLCK ? 0 : -EBUSY;
}

void lock_release(int lock_fd)
{
	if (lock_fd <= 0)
		return;
	/* Closing is not enough where it is a duplicate. */
	set_lock(lock_fd, F_UNLCK, USED, UNSHARED + PERMISSIONS - USED);
	close(lock_fd);
}

/* The same file, opened once more; what may not be opened is duplicated. */
static int reopen(int fd)
{
	CLEANUP_FD int again = -1;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	return fcntl(again >= 0 ? again : fd, F_DUPFD_CLOEXEC, 3);
}

static int take(int fd, bool read_only)
{
	int rc = set_lock(fd, F_RDLCK, USED + PERMISSION_READ, 1);

	if (!rc && !read_only)
		rc = set_lock(fd, F_RDLCK, USED + PERMISSION_WRITE, 1);
	rc = rc ? rc : set_lock(fd, F_RDLCK, UNSHARED + PERMISSION_WRITE, 1);
	rc = rc ? rc : check_free(fd, UNSHARED + PERMISSION_READ);
	if (!rc && !read_only)
		rc = check_free(fd, UNSHARED + PERMISSION_WRITE);
	return rc ? rc : check_free(fd, USED + PERMISSION_WRITE);
}

/* Whether descriptor `fd` of process `pid` is of that file, and has a lock. */
static bool holds(const char *pid, const char *fd, const struct stat *file)
{
	char path[64], text[1024];
	CLEANUP_FD int info = -1;
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.16s/fd/%.16s", pid, fd);
	if (stat(path, &st) < 0 || st.st_dev != file->st_dev || st.st_ino != file->st_ino)
		return false;
	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : fd_pread_full(info, text, sizeof(text) - 1, 0);
	if (n < 0)
		return false;
	text[n] = '\0';
	return strstr(text, "OFDLCK");
}

static bool process_holds(const char *pid, const struct stat *file, int except)
{
	char path[32], ours[16];
	struct dirent *d;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	snprintf(ours, sizeof(ours), "%d", except);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (d = readdir(dir)))
		found = isdigit((unsigned char)d->d_name[0]) && strcmp(d->d_name, ours) != 0 &&
			holds(pid, d->d_name, file);
	closedir(dir);
	return found;
}

static void describe(const char *pid, char *out, size_t len)
{
	char path[32], comm[17] = "";
	CLEANUP_FD int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : fd_pread_full(fd, comm, sizeof(comm) - 1, 0);
	comm[MAX(n, 0)] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
	snprintf(out, len, "%s (pid %.16s)", comm[0] ? comm : "a process", pid);
}

/* The kernel names no owner of such a lock: those who have the file open are looked through. */
static void find_holder(int fd, char *out, size_t len)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	struct stat st;

	snprintf(out, len, "another process");
	if (!proc || fstat(fd, &st) < 0) {
		if (proc)
			closedir(proc);
		return;
	}
	while ((d = readdir(proc))) {
		bool self = atoi(d->d_name) == getpid();

		if (!isdigit((unsigned char)d->d_name[0]) ||
			!process_holds(d->d_name, &st, self ? fd : -1))
			continue;
		describe(d->d_name, out, len);
		if (!self)
			break;
	}
	closedir(proc);
}

static int take_or_say(int fd, bool read_only, const char *name)
{
	int rc = take(fd, read_only);
	char holder[64];

	if (rc == -EBUSY || rc == -EAGAIN || rc == -EACCES) {
		find_holder(fd, holder, sizeof(holder));
		return fail(EBUSY, "disk %s: %s %s", name,
			read_only ? "is written to by" : "is in use by", holder);
	}
	if (rc)
		log_warn("disk %s: cannot be locked against other users: %s", name, strerror(-rc));
	return 0;
}

/* No look into /proc: this is for behind a jail too. */
int lock_raise(int lock_fd, const char *name)
{
	int rc = take(lock_fd, false);

	if (!rc)
		return 0;
	lock_lower(lock_fd);
	if (rc == -EBUSY || rc == -EAGAIN || rc == -EACCES)
		return fail(EBUSY, "disk %s: another uses it", name);
	return failno(-rc, "disk %s: lock", name);
}

void lock_lower(int lock_fd)
{
	set_lock(lock_fd, F_UNLCK, USED + PERMISSION_WRITE, 1);
}

int lock_image(int fd, bool read_only, const char *name)
{
	int lock_fd = reopen(fd), rc;

	if (lock_fd < 0)
		return failno(errno, "disk %s: lock", name);
	rc = take_or_say(lock_fd, read_only, name);
	if (rc)
		lock_release(lock_fd);
	return rc ? rc : lock_fd;
}
