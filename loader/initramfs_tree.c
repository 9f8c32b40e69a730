// SPDX-License-Identifier: MIT
// The walk over a directory tree that is to be packed.
#include "base/fd.h"
#include "base/log.h"
#include "loader/cpio.h"
#include "loader/initramfs.h"
#include "loader/initramfs_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Files that have several names: the first is packed with the data, the others refer to it. */
struct hard_link {
	dev_t dev;
	ino_t ino;
	uint32_t packed_as; /* 0: a free slot */
};

struct link_table {
	struct hard_link *slot;
	size_t count, size; /* size is a power of two, at least twice count */
};

struct walk {
	struct initramfs *a;
	struct link_table links;
	char path[PATH_MAX]; /* of the entry at hand, relative to the root */
	size_t len;
};

struct names {
	char **v;
	size_t count, cap;
};

static struct hard_link *find_slot(const struct link_table *t, dev_t dev, ino_t ino)
{
	size_t i = (size_t)((ino ^ dev << 7) * 0x9e3779b97f4a7c15ull >> 20);

	for (;; i++) {
		struct hard_link *l = &t->slot[i & (t->size - 1)];

		if (!l->packed_as || (l->ino == ino && l->dev == dev))
			return l;
	}
}

static int grow_table(struct link_table *t)
{
	struct link_table bigger = {.count = t->count, .size = t->size ? t->size * 2 : 256};

	bigger.slot = calloc(bigger.size, sizeof(*bigger.slot));
	if (!bigger.slot)
		return fail(ENOMEM, "no memory for %zu hard links", t->count);
	for (size_t i = 0; i < t->size; i++)
		if (t->slot[i].packed_as)
			*find_slot(&bigger, t->slot[i].dev, t->slot[i].ino) = t->slot[i];
	free(t->slot);
	*t = bigger;
	return 0;
}

/* Sets e->ino; 1 when the file is packed already under another name, 0 when not, -errno. */
static int number_file(struct walk *w, const struct stat *st, struct cpio_entry *e)
{
	struct link_table *t = &w->links;
	struct hard_link *l;
	int rc;

	if (e->nlink < 2 || S_ISDIR(st->st_mode)) {
		e->ino = ++w->a->last_ino;
		return 0;
	}
	rc = (t->count + 1) * 2 > t->size ? grow_table(t) : 0;
	if (rc)
		return rc;
	l = find_slot(t, st->st_dev, st->st_ino);
	if (l->packed_as) {
		e->ino = l->packed_as;
		return 1;
	}
	t->count++;
	*l = (struct hard_link){st->st_dev, st->st_ino, ++w->a->last_ino};
	e->ino = l->packed_as;
	return 0;
}

static int add_link(struct walk *w, int dir, const char *name, struct cpio_entry *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));

	if (n < 0)
		return failno(errno, "reading the link %s", w->path);
	if ((size_t)n == sizeof(target))
		return fail(ENAMETOOLONG, "the link %s has too long a target", w->path);
	e->size = (uint32_t)n;
	return initramfs_append(w->a, &(struct item){.kind = ITEM_BARE}, e, target);
}

static int add_regular(struct walk *w, const struct stat *st, struct cpio_entry *e, bool packed)
{
	if ((uint64_t)st->st_size > UINT32_MAX)
		return fail(EFBIG, "%s has %llu bytes: an initramfs holds files of less than 4 GiB",
			w->path, (unsigned long long)st->st_size);
	e->size = packed ? 0 : (uint32_t)st->st_size;
	return initramfs_append(w->a, &(struct item){.kind = ITEM_TREE}, e, NULL);
}

static int add_entry(struct walk *w, int dir, const char *name, const struct stat *st)
{
	struct cpio_entry e = {
		.name = w->path,
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.nlink = (uint32_t)MIN(st->st_nlink, UINT32_MAX),
		.mtime = (uint32_t)MIN(MAX(st->st_mtime, 0), (time_t)UINT32_MAX),
	};
	int packed = number_file(w, st, &e);

	if (packed < 0)
		return packed;
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		return add_regular(w, st, &e, packed);
	case S_IFLNK:
		return add_link(w, dir, name, &e);
	case S_IFCHR:
	case S_IFBLK:
		e.rmajor = major(st->st_rdev);
		e.rminor = minor(st->st_rdev);
		break;
	default:
		break;
	}
	return initramfs_append(w->a, &(struct item){.kind = ITEM_BARE}, &e, NULL);
}

static int add_name(struct names *n, const char *name)
{
	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 32;
		char **v = reallocarray(n->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		n->v = v;
		n->cap = cap;
	}
	n->v[n->count] = strdup(name);
	return n->v[n->count] ? (n->count++, 0) : -ENOMEM;
}

static void free_names(struct names *n)
{
	while (n->count)
		free(n->v[--n->count]);
	free(n->v);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *d, struct names *out)
{
	struct dirent *e;
	int rc = 0;

	while (errno = 0, !rc && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			rc = add_name(out, e->d_name);
	return rc ? rc : -errno;
}

static int list_dir(int dir, struct names *out)
{
	int fd CLEANUP_FD = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	int rc;

	if (!d)
		return -errno;
	steal_fd(&fd);
	rc = read_names(d, out);
	closedir(d);
	if (out->count)
		qsort(out->v, out->count, sizeof(*out->v), compare);
	return rc;
}

static int walk_dir(struct walk *w, int dir);

/* What is in /proc and /sys is the host kernel's. */
static bool is_left_empty(const struct walk *w)
{
	return strcmp(w->path, "proc") == 0 || strcmp(w->path, "sys") == 0;
}

static int walk_subdir(struct walk *w, int dir, const char *name)
{
	int fd CLEANUP_FD = -1;

	if (is_left_empty(w))
		return 0;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? failno(errno, "opening the directory %s", w->path) : walk_dir(w, fd);
}

static int walk_name(struct walk *w, int dir, const char *name)
{
	struct stat st;
	int rc;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : failno(errno, "%s", w->path);
	if (S_ISSOCK(st.st_mode))
		return 0;
	rc = add_entry(w, dir, name, &st);
	return !rc && S_ISDIR(st.st_mode) ? walk_subdir(w, dir, name) : rc;
}

/* Puts a name behind the path of its directory; w->len comes to count it. */
static int push_name(struct walk *w, const char *name)
{
	size_t slash = w->len ? 1 : 0, n = strlen(name);

	if (w->len + slash + n >= sizeof(w->path))
		return fail(ENAMETOOLONG, "%.60s...: the path is too long", w->path);
	if (slash)
		w->path[w->len] = '/';
	memcpy(w->path + w->len + slash, name, n + 1);
	w->len += slash + n;
	return 0;
}

static int walk_dir(struct walk *w, int dir)
{
	struct names n = {0};
	size_t len = w->len;
	int rc = list_dir(dir, &n);

	if (rc)
		failno(-rc, "reading the directory %s", w->len ? w->path : "itself");
	for (size_t i = 0; !rc && i < n.count; i++) {
		rc = push_name(w, n.v[i]);
		if (!rc)
			rc = walk_name(w, dir, n.v[i]);
		w->len = len;
		w->path[len] = '\0';
	}
	free_names(&n);
	return rc;
}

int initramfs_add_tree(struct initramfs *a, int dirfd, const char *name)
{
	struct walk *w;
	int rc;

	if (a->tree_fd >= 0)
		return fail(EEXIST, "%s: there is a tree in the initramfs already", name);
	w = calloc(1, sizeof(*w));
	if (!w)
		return fail(ENOMEM, "no memory to walk %s", name);
	w->a = a;
	a->tree_fd = dirfd;
	a->tree_name = name;
	rc = walk_dir(w, dirfd);
	free(w->links.slot);
	free(w);
	return rc ? fail_context(rc, "%s", name) : 0;
}
