// SPDX-License-Identifier: MIT
// Which of them FILE in overlay=FILE is: a directory gets a file without a name, any other name is
// that of a qcow2 image whose backing file is the disk's. One that is not there is made under
// another name and gets its own when it is whole.
#include "vmm/disk_overlay.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/engine.h"
#include "blk/lock.h"
#include "blk/memory.h"
#include "blk/overlay.h"
#include "blk/qcow2.h"
#include "blk/raw.h"
#include "vmm/disk_new.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool disk_overlay_in_file(const struct disk_config *d)
{
	return disk_has_overlay(d) && strcmp(d->overlay, "memory") != 0;
}

/* ---- thrown away ---- */

/* Where the file system makes no files without a name, one that has a name for a moment. */
static int open_unnamed(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	char *path = NULL;

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	if (asprintf(&path, "%s/kvick-XXXXXX", dir) < 0)
		return -1;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	free(path);
	return fd;
}

/* ---- kept ---- */

/* What images are looked at with, and made. */
struct bench {
	struct loop *loop;
	struct blk_engine *engine;
};

static int bench_init(struct bench *b)
{
	int rc = loop_create(&b->loop, "images");

	return rc ? rc : engine_create(&b->engine, b->loop, ENGINE_SYNC);
}

static void bench_finish(struct bench *b)
{
	engine_destroy(b->engine);
	loop_destroy(b->loop);
}

/* Its disk; `fd` stays the caller's. */
static int file_of(struct blk **out, const struct bench *b, const struct disk_config *d, int fd)
{
	struct raw_config raw = {
		.name = d->overlay, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .holds_format = true};
	int rc = raw.fd < 0 ? failno(errno, "disk %s", d->overlay)
			    : raw_create(out, b->engine, &raw);

	if (rc && raw.fd >= 0)
		close(raw.fd);
	return rc;
}

/* Of the image, as it is without the overlay. */
static int size_of(uint64_t *size, const struct bench *b, const struct disk_config *d)
{
	struct chain_options o = disk_chain(d);
	struct chain *c;
	struct blk *image;
	int rc;

	o.no_lock = true;
	rc = chain_open(&c, &o);
	rc = rc ? rc : chain_create(&image, c, b->engine, NULL);
	if (rc)
		return rc;
	*size = image->size;
	blk_destroy(image);
	return 0;
}

/* The image's name for a file there: beside it, else from the root on. Such a name may be `room`.
 */
static const char *name_for_overlay(const struct disk_config *d, char room[PATH_MAX])
{
	bool beside = !strchr(d->overlay, '/') && d->path[strcspn(d->path, ":/")] != ':';
	CLEANUP_FD int fd = -1;
	char link[32];
	ssize_t n;

	if (beside || d->path[0] == '/')
		return d->path;
	fd = open(d->path, O_PATH | O_CLOEXEC);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, room, PATH_MAX - 1);
	room[MAX(n, 0)] = '\0';
	return n > 0 ? room : NULL;
}

static int make(const struct bench *b, const struct disk_config *d, enum image_format format)
{
	char room[PATH_MAX];
	struct qcow2_create c = {
		.backing = name_for_overlay(d, room), .backing_format = image_format_names[format]};
	int rc = c.backing ? size_of(&c.size, b, d) : failno(errno, "disk %s", d->path);

	return rc ? rc : disk_new_image(d->overlay, IMAGE_QCOW2, &c);
}

static bool same_file(const char *path, const char *other)
{
	struct stat a, b;

	return stat(path, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/* What it says that it stands on is what is below it. */
static int judge(const struct qcow2_info *i, const struct disk_config *d, enum image_format format)
{
	const char *slash = strrchr(d->overlay, '/');
	int dir = slash && i->backing[0] != '/' ? (int)(slash + 1 - d->overlay) : 0;
	CLEANUP_FREE char *path = NULL;

	if (!i->backing[0])
		return fail(EINVAL,
			"overlay %s: is an image of its own, and no overlay of %s: a new file "
			"becomes one",
			d->overlay, d->path);
	if (asprintf(&path, "%.*s%s", dir, d->overlay, i->backing) < 0)
		return fail(ENOMEM, "disk %s: no memory", d->path);
	if (!same_file(path, d->path))
		return fail(
			EINVAL, "overlay %s: is one of %s, not of %s", d->overlay, path, d->path);
	if (i->backing_format[0] && strcmp(i->backing_format, image_format_names[format]) != 0)
		return fail(EINVAL,
			"overlay %s: has %s for a %s image, which is used as a %s one here: "
			"format=%s is what it was made with",
			d->overlay, d->path, i->backing_format, image_format_names[format],
			i->backing_format);
	return 0;
}

static int look_at(
	int fd, const struct bench *b, const struct disk_config *d, enum image_format format)
{
	struct qcow2_info info;
	struct blk *file;
	int rc = file_of(&file, b, d, fd);

	if (rc)
		return rc;
	rc = qcow2_look(&info, file);
	blk_destroy(file);
	if (!rc && info.dirty)
		rc = fail(EUCLEAN, "overlay %s: has to be repaired", d->overlay);
	return rc ? rc : judge(&info, d, format);
}

/* Opens one that is there, and locks it before it is looked at. */
static int open_kept(struct disk_overlay *o, const struct bench *b, const struct disk_config *d,
	enum image_format format)
{
	CLEANUP_FD int fd = open(d->overlay, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int lock, rc;

	if (fd < 0)
		return failno(errno, "overlay %s", d->overlay);
	lock = lock_image(fd, false, d->overlay);
	if (lock < 0)
		return lock;
	rc = look_at(fd, b, d, format);
	if (rc) {
		lock_release(lock);
		return rc;
	}
	*o = (struct disk_overlay){.fd = steal_fd(&fd), .lock = lock, .kept = true};
	return 0;
}

/* One of another kind may do something when it is opened. */
static int find_kept(struct disk_overlay *o, const struct bench *b, const struct disk_config *d,
	enum image_format format)
{
	struct stat st;
	int rc = 0;

	if (stat(d->overlay, &st) == 0)
		rc = raw_check_kind(st.st_mode, d->overlay);
	else if (errno == ENOENT)
		rc = make(b, d, format);
	return rc ? rc : open_kept(o, b, d, format);
}

int disk_overlay_open(
	struct disk_overlay *out, const struct disk_config *d, enum image_format format)
{
	struct bench b = {0};
	struct stat st;
	int fd, rc;

	*out = (struct disk_overlay){0};
	if (!disk_overlay_in_file(d))
		return 0;
	if (stat(d->overlay, &st) == 0 && S_ISDIR(st.st_mode)) {
		fd = open_unnamed(d->overlay);
		out->fd = MAX(fd, 0);
		return fd < 0 ? failno(errno, "disk %s: overlay %s", d->path, d->overlay) : 0;
	}
	rc = bench_init(&b);
	rc = rc ? rc : find_kept(out, &b, d, format);
	bench_finish(&b);
	return rc ? fail_context(rc, "disk %s", d->path) : 0;
}

void disk_overlay_close(const struct disk_overlay *o)
{
	if (o->fd)
		close(o->fd);
	lock_release(o->lock);
}

/* ---- the layer ---- */

/* Nothing in it is to last, so that nothing is ever flushed. In whole blocks of any file system, as
 * O_DIRECT wants it. */
static int create_upper(struct blk **out, const struct disk_config *d, const struct disk_overlay *o,
	uint64_t size, struct blk_engine *e)
{
	const struct raw_config raw = {.name = d->overlay,
		.fd = o->fd,
		.cache = d->cache == RAW_NONE ? RAW_NONE : RAW_UNSAFE};
	int rc;

	if (!o->fd)
		rc = memory_create(out, d->path, size);
	else if (ftruncate(o->fd, (off_t)align_up(size, KIB(4))) < 0)
		rc = failno(errno, "%s", d->overlay);
	else
		rc = raw_create(out, e, &raw);
	if (rc && o->fd)
		close(o->fd);
	return rc ? fail_context(rc, "overlay") : 0;
}

static int add_thrown_away(struct blk **b, const struct disk_config *d,
	const struct disk_overlay *o, struct blk_engine *e)
{
	struct blk *upper = NULL;
	int rc = create_upper(&upper, d, o, (*b)->size, e);

	if (rc)
		return rc;
	rc = overlay_create(b, *b, upper);
	if (rc)
		blk_destroy(upper);
	return rc;
}

int disk_overlay_add(struct blk **b, const struct disk_config *d, const struct disk_overlay *o,
	struct blk_engine *e, struct decompressor *decompressor)
{
	const struct qcow2_config qcow2 = {.decompressor = decompressor};
	const struct raw_config raw = {.name = d->overlay,
		.fd = o->fd,
		.lock_fd = o->lock,
		.cache = (enum raw_cache)d->cache,
		.holds_format = true};
	struct blk *file;
	int rc;

	if (!o->kept)
		return add_thrown_away(b, d, o, e);
	rc = raw_create(&file, e, &raw);
	if (rc) {
		disk_overlay_close(o);
		return rc;
	}
	rc = qcow2_open(b, file, *b, &qcow2);
	if (rc)
		blk_destroy(file);
	return rc;
}
