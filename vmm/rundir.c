// SPDX-License-Identifier: MIT
// Directories of running VMs; vmm/rundir.h has the theory.
#include "vmm/rundir.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define TRIES 64 /* each lost to another process that got further */
#define SWEEP_LIMIT                                                                                \
	64 /* directories that a start looks at, so that thousands of VMs do not slow it */
#define BACKLOG 64
#define CONNECT_SECONDS 2

bool rundir_name_ok(const char *name)
{
	static const char first[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t len = strlen(name);

	if (!len || len > RUNDIR_NAME_MAX || !strchr(first, name[0]))
		return false;
	for (size_t i = 1; i < len; i++) {
		if (!strchr(first, name[i]) && !strchr("._-", name[i]))
			return false;
	}
	return true;
}

/* Where the directory of all VMs may be, best first. False when there is no such candidate. */
static bool base_path(unsigned candidate, char *buf, size_t len)
{
	const char *own = getenv("KVICK_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n = -1;

	if (own && *own)
		n = candidate ? -1 : snprintf(buf, len, "%s", own);
	else if (!candidate && geteuid() == 0)
		n = snprintf(buf, len, "/run/kvick");
	else if (!candidate && xdg && *xdg == '/')
		n = snprintf(buf, len, "%s/kvick", xdg);
	else if (candidate < 2)
		n = snprintf(buf, len, "/tmp/kvick-%u", geteuid());
	return n >= 0 && (size_t)n < len;
}

static int open_base_at(const char *path)
{
	CLEANUP_FD int fd = open(path, DIR_FLAGS);
	struct stat st;

	if (fd < 0 && errno == ENOENT) {
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return failno(errno, "%s: cannot make the directory for running VMs", path);
		fd = open(path, DIR_FLAGS);
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return failno(errno, "%s", path);
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return fail(EPERM,
			"%s: must belong to user %u and be writable by no one else; "
			"make it so, or name another with KVICK_RUNTIME_DIR",
			path, geteuid());
	return steal_fd(&fd);
}

static int open_base(void)
{
	char path[256];
	int fd = fail(EINVAL, "KVICK_RUNTIME_DIR: too long");

	for (unsigned i = 0; base_path(i, path, sizeof(path)); i++) {
		fd = open_base_at(path);
		if (fd >= 0)
			return fd;
	}
	return fd;
}

/* Bytes of the lock file, each a lock of its own. */
enum lock { LOCK_LIFE, LOCK_TURN };

static struct flock lock_of(enum lock which, short type)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)which, .l_len = 1};
}

/* 0 with the lock held, else -errno: where it does not wait for another that holds it, too. */
static int take_lock(int fd, enum lock which, bool wait)
{
	struct flock l = lock_of(which, F_WRLCK);

	return TEMP_FAILURE_RETRY(fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l)) ? -errno : 0;
}

/* Whether the VM lives; takes nothing, so that looking disturbs no one. */
static bool is_alive(int fd)
{
	struct flock l = lock_of(LOCK_LIFE, F_WRLCK);

	return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

/* In a turn of its own, so that who sweeps is never taken for the VM, nor takes what is new. */
static int take_life(int fd)
{
	struct flock over = lock_of(LOCK_TURN, F_UNLCK);
	struct stat st;
	int rc = take_lock(fd, LOCK_TURN, true);

	if (!rc)
		rc = take_lock(fd, LOCK_LIFE, false);
	if (!rc && (fstat(fd, &st) < 0 || !st.st_nlink))
		rc = -EAGAIN;
	return rc || !fcntl(fd, F_OFD_SETLK, &over) ? rc : -errno;
}

static bool is_dot(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Calls fn for each entry of the open directory, from its start; stops at what is not 0. */
static int each_entry(int dir, int (*fn)(int dir, const char *name, void *arg), void *arg)
{
	union {
		char bytes[2048];
		struct dirent64 align;
	} buf;
	ssize_t n;

	lseek(dir, 0, SEEK_SET);
	while ((n = getdents64(dir, &buf.align, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *e = (const void *)(buf.bytes + at);
			int rc = is_dot(e->d_name) ? 0 : fn(dir, e->d_name, arg);

			if (rc)
				return rc;
			at += e->d_reclen;
		}
	}
	return n < 0 ? -errno : 0;
}

static int remove_entry(int dir, const char *name, void *arg)
{
	if (strcmp(name, "lock"))
		unlinkat(dir, name, 0);
	return 0;
}

/* Empties and removes a directory of which the caller holds either lock. */
static void remove_locked(int base, int dir, const char *name)
{
	each_entry(dir, remove_entry, NULL);
	unlinkat(dir, "lock", 0);
	unlinkat(base, name, AT_REMOVEDIR);
}

/* 0: nothing of that name is there any more; -EBUSY: the VM lives, or without `wait` another is at
 * it; -EAGAIN: look again. */
static int sweep_one(int base, const char *name, bool wait)
{
	CLEANUP_FD int dir = openat(base, name, DIR_FLAGS);
	CLEANUP_FD int lock = -1;

	if (dir < 0)
		return errno == ENOENT ? 0 : -errno;
	lock = openat(dir, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (lock < 0) {
		if (!unlinkat(base, name, AT_REMOVEDIR) || errno == ENOENT)
			return 0;
		return -EAGAIN;
	}
	if (is_alive(lock) || take_lock(lock, LOCK_TURN, wait) < 0 || is_alive(lock))
		return -EBUSY;
	remove_locked(base, dir, name);
	return 0;
}

static int sweep_entry(int base, const char *name, void *arg)
{
	unsigned *left = arg;

	sweep_one(base, name, false);
	return --*left ? 0 : 1;
}

/* One try. 0; -EBUSY: the name is taken by a living VM; -EAGAIN: lost a race, try again. */
static int try_create(struct rundir *d)
{
	CLEANUP_FD int dir = -1;
	CLEANUP_FD int lock = -1;

	if (mkdirat(d->base, d->name, 0700) < 0) {
		int rc = errno == EEXIST ? sweep_one(d->base, d->name, true) : -errno;

		return rc ? rc : -EAGAIN;
	}
	dir = openat(d->base, d->name, DIR_FLAGS);
	if (dir < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	/* Exclusively: by now the name may be that of another's directory, with things in it. */
	lock = openat(dir, "lock", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (lock < 0)
		return errno == ENOENT || errno == EEXIST ? -EAGAIN : -errno;
	if (take_life(lock) < 0)
		return -EAGAIN;
	d->fd = steal_fd(&dir);
	d->lock = steal_fd(&lock);
	return 0;
}

static int create_in(struct rundir *d, const char *name)
{
	unsigned taken = 0;
	int rc = -EAGAIN;

	for (unsigned i = 0; i < TRIES && rc == -EAGAIN; i++) {
		if (name)
			snprintf(d->name, sizeof(d->name), "%s", name);
		else if (taken)
			snprintf(d->name, sizeof(d->name), "vm-%d-%u", getpid(), taken);
		else
			snprintf(d->name, sizeof(d->name), "vm-%d", getpid());
		rc = try_create(d);
		if (rc == -EBUSY && !name) {
			taken++;
			rc = -EAGAIN;
		}
	}
	if (rc == -EBUSY)
		return fail(EEXIST, "--name %s: a VM of that name is running; see kvick ps", name);
	return rc < 0 ? failno(-rc, "%s: cannot make the VM's directory", d->name) : 0;
}

int rundir_create(struct rundir *d, const char *name)
{
	unsigned left = SWEEP_LIMIT;
	int rc;

	*d = RUNDIR_NONE;
	d->base = open_base();
	if (d->base < 0)
		return d->base;
	each_entry(d->base, sweep_entry, &left);
	rc = create_in(d, name);
	if (rc < 0)
		rundir_close(d);
	return rc;
}

void rundir_remove(struct rundir *d)
{
	if (d->lock >= 0)
		remove_locked(d->base, d->fd, d->name);
	rundir_close(d);
}

void rundir_close(struct rundir *d)
{
	cleanup_fd_(&d->fd);
	cleanup_fd_(&d->base);
	cleanup_fd_(&d->lock);
	*d = RUNDIR_NONE;
}

/* Looks at base/name: 0 with d->fd open when it lives. */
static int look(struct rundir *d, const char *name)
{
	CLEANUP_FD int lock = -1;

	if (!rundir_name_ok(name))
		return -ENOENT;
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->fd = openat(d->base, name, DIR_FLAGS);
	if (d->fd < 0)
		return -errno;
	lock = openat(d->fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (lock >= 0 && is_alive(lock))
		return 0;
	close(steal_fd(&d->fd));
	return -ENOENT;
}

int rundir_open(struct rundir *d, const char *name)
{
	int rc;

	*d = RUNDIR_NONE;
	d->base = open_base();
	if (d->base < 0)
		return d->base;
	rc = look(d, name);
	if (rc < 0) {
		rundir_close(d);
		return fail(ENOENT, "%s: no VM of that name is running; see kvick ps", name);
	}
	return 0;
}

struct names {
	char (*list)[RUNDIR_NAME_MAX + 1];
	unsigned count;
};

static int collect(int base, const char *name, void *arg)
{
	struct names *n = arg;
	void *grown;

	if (!rundir_name_ok(name))
		return 0;
	if (!(n->count & (n->count - 1))) {
		grown = realloc(n->list, MAX(2 * n->count, 1u) * sizeof(*n->list));
		if (!grown)
			return -ENOMEM;
		n->list = grown;
	}
	snprintf(n->list[n->count++], sizeof(*n->list), "%s", name);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int list_in(
	int base, const struct names *n, int (*each)(void *, const struct rundir *), void *arg)
{
	for (unsigned i = 0; i < n->count; i++) {
		struct rundir d = RUNDIR_NONE;
		int rc;

		d.base = base;
		if (look(&d, n->list[i]) < 0) {
			sweep_one(base, n->list[i], false);
			continue;
		}
		rc = each(arg, &d);
		close(d.fd);
		if (rc)
			return rc;
	}
	return 0;
}

int rundir_list(int (*each)(void *arg, const struct rundir *d), void *arg)
{
	CLEANUP_FD int base = open_base();
	struct names n = {0};
	int rc;

	if (base < 0)
		return base;
	rc = each_entry(base, collect, &n);
	if (!rc && n.count)
		qsort(n.list, n.count, sizeof(*n.list), by_name);
	if (!rc)
		rc = list_in(base, &n, each, arg);
	free(n.list);
	return rc;
}

/* Through /proc, because a socket's address holds 107 bytes and a path may need more. */
static int address(const struct rundir *d, const char *file, struct sockaddr_un *a)
{
	int n;

	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%s", d->fd, file);
	return n > 0 && (size_t)n < sizeof(a->sun_path) ? 0 : fail(ENAMETOOLONG, "%s", file);
}

int rundir_listen(const struct rundir *d, const char *file)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;

	if (fd < 0 || address(d, file, &a) < 0 || bind(fd, (void *)&a, sizeof(a)) < 0 ||
		listen(fd, BACKLOG) < 0)
		return failno(errno, "%s: cannot listen on its socket \"%s\"", d->name, file);
	return steal_fd(&fd);
}

/* Where it hangs, each who has given up on it has kept a place in the queue of its socket. */
int rundir_connect(const struct rundir *d, const char *file)
{
	const struct timeval patience = {.tv_sec = CONNECT_SECONDS}, none = {0};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;
	int rc;

	if (fd < 0 || address(d, file, &a) < 0)
		return failno(errno, "%s: cannot connect to its socket \"%s\"", d->name, file);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	rc = TEMP_FAILURE_RETRY(connect(fd, (void *)&a, sizeof(a)));
	if (rc < 0 && errno == EAGAIN)
		return fail(ETIMEDOUT,
			"%s: its process does not answer, and too many wait for it already",
			d->name);
	if (rc < 0)
		return failno(errno, "%s: cannot connect to its socket \"%s\"", d->name, file);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	return steal_fd(&fd);
}

int rundir_write(const struct rundir *d, const char *file, const void *data, size_t len)
{
	CLEANUP_FD int fd = openat(d->fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : fd_write_full(fd, data, len);

	return rc < 0 ? failno(-rc, "%s: cannot write its %s", d->name, file) : 0;
}
