// SPDX-License-Identifier: MIT
// A disk from its file or device up to what the guest has: opened, locked, put together of layers.
#include "vmm/disk.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/guard.h"
#include "blk/limit.h"
#include "blk/lock.h"
#include "blk/memory.h"
#include "blk/on_error.h"
#include "blk/overlay.h"
#include "blk/partition.h"
#include "blk/probe.h"
#include "blk/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the file ---- */

static bool has_overlay_file(const struct disk_config *d)
{
	return disk_has_overlay(d) && strcmp(d->overlay, "memory") != 0;
}

/* An overlay takes the writes, so that the file is only read. */
static bool only_reads(const struct disk_config *d)
{
	return d->read_only || disk_has_overlay(d);
}

static int look_at_format(const struct disk_config *d, int fd)
{
	uint8_t head[PROBE_BYTES];
	ssize_t n = d->format == DISK_PROBED ? fd_pread_full(fd, head, sizeof(head), 0) : 0;
	const char *format;

	if (n < 0)
		return failno((int)-n, "disk %s", d->path);
	format = probe_format(head, (size_t)n);
	if (!format)
		return 0;
	return fail(ENOTSUP,
		"disk %s: it is a %s image, and only raw ones can be used; format=raw takes it as "
		"it is",
		d->path, format);
}

/* What is looked up is there, whether it is for us or for the guest to use. */
static int look_at_partitions(const struct disk_config *d, struct disk_files *f)
{
	unsigned number = d->root ? d->root : d->partition;
	off_t size = lseek(f->image, 0, SEEK_END);
	struct partition p;
	int rc;

	if (!number)
		return 0;
	if (size < 0)
		return failno(errno, "disk %s", d->path);
	rc = partition_find(&p, f->image, d->path, (uint64_t)size, number);
	if (!rc && d->root && p.sector != BLK_SECTOR)
		return fail(ENOTSUP,
			"disk %s: its partition table counts in sectors of %u bytes: the guest, "
			"whose sectors are of %u, would not find partition %u; partition=%u makes "
			"that one the disk",
			d->path, p.sector, BLK_SECTOR, number, number);
	if (!rc && d->partition) {
		f->off = p.off;
		f->len = p.len;
	}
	return rc;
}

#define OVERLAY_FLAGS (O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW)

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

static int open_named(const char *path)
{
	int fd = open(path, OVERLAY_FLAGS, 0600);

	if (fd >= 0)
		unlink(path);
	return fd;
}

/* A sparse file as large as the image, which is gone with its last descriptor. */
static int open_overlay(const struct disk_config *d, int image)
{
	off_t size = lseek(image, 0, SEEK_END);
	CLEANUP_FD int fd = -1;
	struct stat st;

	if (!has_overlay_file(d))
		return 0;
	fd = stat(d->overlay, &st) == 0 && S_ISDIR(st.st_mode) ? open_unnamed(d->overlay)
							       : open_named(d->overlay);
	if (fd < 0 && errno == EEXIST)
		return fail(EEXIST,
			"disk %s: overlay %s: is there already; a file must be new, or name its "
			"directory",
			d->path, d->overlay);
	/* In whole blocks of any file system, as O_DIRECT wants it. */
	if (fd < 0 || (size > 0 && ftruncate(fd, (off_t)align_up((uint64_t)size, KIB(4))) < 0))
		return failno(errno, "disk %s: overlay %s", d->path, d->overlay);
	return steal_fd(&fd);
}

/* Locks the image, once it is known that it is one, and opens what belongs to it. */
static int look_at(const struct disk_config *d, struct disk_files *f)
{
	int rc = look_at_format(d, f->image);

	rc = rc ? rc : look_at_partitions(d, f);
	if (rc)
		return rc;
	f->lock = lock_image(f->image, only_reads(d), d->path);
	if (f->lock < 0)
		return f->lock;
	f->overlay = open_overlay(d, f->image);
	if (f->overlay < 0)
		lock_release(f->lock);
	return MIN(f->overlay, 0);
}

int disk_open(const struct disk_config *d, struct disk_files *out)
{
	int flags = (only_reads(d) ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	CLEANUP_FD int fd = -1;
	struct disk_files f = {0};
	struct stat st;
	int rc;

	/* To open one of another kind may do something, or fail in words that say nothing. */
	if (stat(d->path, &st) < 0)
		return failno(errno, "disk %s", d->path);
	rc = raw_check_kind(st.st_mode, d->path);
	if (rc)
		return rc;
	/* A device that someone has mounted or opened so is left alone. */
	if (S_ISBLK(st.st_mode) && !only_reads(d))
		flags |= O_EXCL;
	f.image = fd = open(d->path, flags);
	if (fd < 0)
		return failno(errno, "disk %s", d->path);
	rc = fstat(fd, &st) < 0 ? failno(errno, "disk %s", d->path) : 0;
	/* What is neither is refused in plain words when the disk is made of it. */
	if (!rc && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		rc = look_at(d, &f);
	if (rc)
		return rc;
	steal_fd(&fd);
	*out = f;
	return 0;
}

void disk_close(const struct disk_files *files)
{
	close(files->image);
	lock_release(files->lock);
	if (files->overlay)
		close(files->overlay);
}

unsigned disk_files_list(const struct disk_files *files, int fds[DISK_FILES_MAX])
{
	unsigned n = 0;

	fds[n++] = files->image;
	if (files->overlay)
		fds[n++] = files->overlay;
	if (files->lock)
		fds[n++] = files->lock;
	return n;
}

int disk_files_take(const struct disk_config *d, int *fds, unsigned count, struct disk_files *files)
{
	unsigned least = 1 + has_overlay_file(d), n = 0;

	if (count < least || count > least + 1)
		return fail(EINVAL,
			"disk %s: %u descriptors have come with it; these are wanted: the image's"
			"%s, and its lock's where it has one",
			d->path, count, least > 1 ? ", the overlay's" : "");
	*files = (struct disk_files){.image = fds[n]};
	fds[n++] = -1;
	if (least > 1) {
		files->overlay = fds[n];
		fds[n++] = -1;
	}
	if (n < count) {
		files->lock = fds[n];
		fds[n] = -1;
	}
	return 0;
}

/* ---- the layers ---- */

/* Nothing in it is to last, so that nothing is ever flushed. Takes `fd`, also on failure; 0: none.
 */
static int create_upper(
	struct blk **out, const struct disk_config *d, int fd, uint64_t size, struct blk_engine *e)
{
	const struct raw_config raw = {.name = d->overlay,
		.fd = fd,
		.cache = d->cache == RAW_NONE ? RAW_NONE : RAW_UNSAFE};
	int rc = fd ? raw_create(out, e, &raw) : memory_create(out, d->path, size);

	if (rc && fd)
		close(fd);
	return rc ? fail_context(rc, "overlay") : 0;
}

static int add_overlay(struct blk **b, const struct disk_config *d, int fd, struct blk_engine *e)
{
	struct blk *upper;
	int rc = create_upper(&upper, d, fd, (*b)->size, e);

	if (rc)
		return rc;
	rc = overlay_create(b, *b, upper);
	if (rc)
		blk_destroy(upper);
	return rc;
}

static struct limit_config limit_config(const struct disk_limits *l)
{
	return (struct limit_config){
		.bytes = {l->bandwidth, l->bandwidth_burst},
		.requests = {l->iops, l->iops_burst},
	};
}

/* Always there, as limits may come later: without any it costs a request 10 ns. */
static int add_limit(struct disk *disk, struct blk **b, struct loop *loop)
{
	const struct limit_config limits = limit_config(&disk->limits);
	int rc = limit_create(b, loop, *b, &limits);

	disk->limit = *b;
	return rc;
}

/* Above what does I/O, below what judges the guest. */
static int add_judge(struct disk *disk, struct blk **b, const struct disk_host *host)
{
	const struct on_error_config c = {
		.policy = (enum on_error)disk->cfg->on_error,
		.name = disk_name(disk->cfg),
		.stopped = host->stopped,
		.arg = host->arg,
	};
	int rc = on_error_create(b, *b, &c);

	disk->judge = *b;
	return rc;
}

int disk_create(struct disk *out, const struct disk_config *d, const struct disk_files *files,
	const struct disk_host *host)
{
	const struct raw_config raw = {.name = d->path,
		.fd = files->image,
		.lock_fd = files->lock,
		.read_only = only_reads(d),
		.cache = (enum raw_cache)d->cache,
		.off = files->off,
		.len = files->len};
	struct blk *b = NULL;
	int rc = raw_create(&b, host->engine, &raw);

	if (rc) {
		disk_close(files);
		return rc;
	}
	*out = (struct disk){.cfg = d, .limits = d->limits};
	if (disk_has_overlay(d))
		rc = add_overlay(&b, d, files->overlay, host->engine);
	if (!rc)
		rc = add_judge(out, &b, host);
	if (!rc && d->format == DISK_PROBED && !only_reads(d))
		rc = guard_create(&b, b);
	if (!rc)
		rc = add_limit(out, &b, host->loop);
	if (rc)
		blk_destroy(b);
	out->blk = b;
	return rc;
}

void disk_set_limits(struct disk *disk, const struct disk_limits *limits)
{
	const struct limit_config c = limit_config(limits);

	disk->limits = *limits;
	limit_set(disk->limit, &c);
}
