// SPDX-License-Identifier: MIT
// The archive's entries, kept as headers ready to be copied, and the copying of them with their
// data.
//
// The log is one block of memory that only grows: an entry is a struct item, then its header (with
// the name, and a symbolic link's target too), then padding to eight bytes. Adding is appending;
// filling is one pass over it.
#include "loader/initramfs.h"

#include "base/fd.h"
#include "base/log.h"
#include "loader/cpio.h"
#include "loader/initramfs_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define LOG_START KIB(64)

int initramfs_create(struct initramfs **out)
{
	struct initramfs *a = calloc(1, sizeof(*a));

	if (!a)
		return fail(ENOMEM, "no memory for an initramfs");
	a->tree_fd = -1;
	*out = a;
	return 0;
}

void initramfs_destroy(struct initramfs *a)
{
	if (!a)
		return;
	free(a->log);
	free(a);
}

static int make_room(struct initramfs *a, size_t len)
{
	size_t cap = a->cap ? a->cap : LOG_START;
	char *log;

	while (cap - a->len < len)
		cap *= 2;
	if (cap == a->cap)
		return 0;
	log = realloc(a->log, cap);
	if (!log)
		return fail(ENOMEM, "no memory for an initramfs of %zu entries", a->entries);
	a->log = log;
	a->cap = cap;
	return 0;
}

int initramfs_append(
	struct initramfs *a, const struct item *what, const struct cpio_entry *e, const char *link)
{
	size_t header = cpio_header_size(strlen(e->name));
	size_t target = link ? cpio_padded(e->size) : 0;
	size_t len = align_up(sizeof(*what) + header + target, 8);
	struct item *it;
	int rc = make_room(a, len);

	if (rc)
		return rc;
	it = (struct item *)(void *)(a->log + a->len);
	*it = *what;
	it->header = (uint32_t)(header + target);
	it->size = link ? 0 : e->size;
	cpio_write_header(it->bytes, e);
	if (link) {
		memset(it->bytes + header, 0, target);
		memcpy(it->bytes + header, link, e->size);
	}
	a->len += len;
	a->size += it->header + cpio_padded(it->size);
	a->entries++;
	return 0;
}

static int add_own(
	struct initramfs *a, const char *path, const struct item *what, struct cpio_entry *e)
{
	if (path[0] == '/' || path[0] == '\0')
		return fail(EINVAL, "\"%s\": not a path relative to the root", path);
	if (strlen(path) >= PATH_MAX)
		return fail(ENAMETOOLONG, "%.60s...: the name is too long", path);
	e->name = path;
	e->ino = ++a->last_ino;
	e->nlink = S_ISDIR(e->mode) ? 2 : 1;
	return initramfs_append(a, what, e, NULL);
}

int initramfs_add_dir(struct initramfs *a, const char *path, mode_t mode)
{
	return add_own(a, path, &(struct item){.kind = ITEM_BARE},
		&(struct cpio_entry){.mode = S_IFDIR | (mode & 07777)});
}

int initramfs_add_node(struct initramfs *a, const char *path, mode_t mode, dev_t dev)
{
	return add_own(a, path, &(struct item){.kind = ITEM_BARE},
		&(struct cpio_entry){.mode = mode, .rmajor = major(dev), .rminor = minor(dev)});
}

static int add_file(
	struct initramfs *a, const char *path, mode_t mode, uint64_t size, const struct item *what)
{
	if (size > UINT32_MAX)
		return fail(EFBIG, "%s: a file of 4 GiB or more cannot be in an initramfs", path);
	return add_own(a, path, what,
		&(struct cpio_entry){.mode = S_IFREG | (mode & 07777), .size = (uint32_t)size});
}

int initramfs_add_data(
	struct initramfs *a, const char *path, mode_t mode, const void *data, uint64_t size)
{
	return add_file(a, path, mode, size, &(struct item){.kind = ITEM_DATA, .data = data});
}

int initramfs_add_fd(struct initramfs *a, const char *path, mode_t mode, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return failno(errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return fail(EINVAL, "%s: what it is made from is not a regular file", path);
	return add_file(
		a, path, mode, (uint64_t)st.st_size, &(struct item){.kind = ITEM_FD, .fd = fd});
}

size_t initramfs_entries(const struct initramfs *a)
{
	return a->entries;
}

/* Never leaves the tree: a directory that has become a link since it was walked is refused. */
static int open_in_tree(int tree, const char *path)
{
	const struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, tree, path, &how, sizeof(how));

	if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* before Linux 5.6; old containers */
		fd = openat(tree, path, (int)how.flags);
	return fd < 0 ? -errno : fd;
}

static int read_into(int fd, const char *path, char *to, uint64_t size)
{
	ssize_t n = fd_pread_full(fd, to, size, 0);

	if (n < 0)
		return failno((int)-n, "reading %s", path);
	memset(to + n, 0, size - (size_t)n); /* it has shrunk since its size was seen */
	return 0;
}

static int copy_data(const struct initramfs *a, const struct item *it, char *to)
{
	const char *path = it->bytes + CPIO_HEADER;
	int fd CLEANUP_FD = -1;

	switch (it->kind) {
	case ITEM_BARE:
		return 0;
	case ITEM_DATA:
		memcpy(to, it->data, it->size);
		return 0;
	case ITEM_FD:
		return read_into(it->fd, path, to, it->size);
	case ITEM_TREE:
		fd = open_in_tree(a->tree_fd, path);
		if (fd < 0)
			return failno(-fd, "opening %s", path);
		return read_into(fd, path, to, it->size);
	}
	return fail(EINVAL, "%s: of no known kind", path);
}

static int fill(void *arg, void *dst, uint64_t size)
{
	const struct initramfs *a = arg;
	char *to = dst;

	if (size != a->size)
		return fail(EINVAL, "%llu bytes wanted of an archive of %llu",
			(unsigned long long)size, (unsigned long long)a->size);
	for (size_t pos = 0; pos < a->len;) {
		const struct item *it = (const struct item *)(const void *)(a->log + pos);
		uint64_t padded = cpio_padded(it->size);
		int rc;

		memcpy(to, it->bytes, it->header);
		to += it->header;
		rc = it->size ? copy_data(a, it, to) : 0;
		if (rc)
			return rc;
		memset(to + it->size, 0, padded - it->size);
		to += padded;
		pos += align_up(sizeof(*it) + it->header, 8);
	}
	return 0;
}

int initramfs_finish(struct initramfs *a, struct loader_initrd *out)
{
	int rc = initramfs_append(a, &(struct item){.kind = ITEM_BARE},
		&(struct cpio_entry){.name = CPIO_TRAILER, .nlink = 1}, NULL);

	if (rc)
		return rc;
	a->entries--; /* it is none */
	*out = (struct loader_initrd){
		.name = a->tree_name ? a->tree_name : "(made in memory)",
		.size = a->size,
		.fill = fill,
		.arg = a,
	};
	return 0;
}
