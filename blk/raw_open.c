// SPDX-License-Identifier: MIT
// What a descriptor is, how large, and what its file system asks of those who use it.
#include "blk/raw_parts.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* What no file system asks more than. */
#define ALIGN_MAX 4096u
#define PHYSICAL_MAX 65536u

static const char *kind_of(mode_t mode)
{
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISFIFO(mode))
		return "a FIFO";
	if (S_ISSOCK(mode))
		return "a socket";
	return S_ISCHR(mode) ? "a character device" : "of no known kind";
}

int raw_check_kind(mode_t mode, const char *name)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return 0;
	return fail(EINVAL, "disk %s: is %s, not a file or a block device", name, kind_of(mode));
}

/* O_NONBLOCK is taken off: on some devices it makes the kernel give up where it should wait. */
static int check_flags(const struct raw *w, const struct raw_config *c)
{
	int flags = fcntl(c->fd, F_GETFL);
	int mode = flags & O_ACCMODE;

	if (flags < 0)
		return failno(errno, "disk %s", c->name);
	if (mode == O_WRONLY || (mode == O_RDONLY && !c->read_only))
		return fail(EBADF, "disk %s: not open for reading%s", c->name,
			c->read_only ? "" : " and writing");
	if (flags & O_APPEND)
		return fail(EINVAL, "disk %s: is open for appending", c->name);
	flags &= ~(O_NONBLOCK | O_DIRECT);
	if (fcntl(c->fd, F_SETFL, flags | (w->cache == RAW_NONE ? O_DIRECT : 0)) < 0)
		return failno(
			errno, "disk %s: cache=%s", c->name, raw_cache_names[(unsigned)w->cache]);
	return 0;
}

int64_t raw_file_bytes(const struct raw *w)
{
	uint64_t size;
	struct stat st;

	if (w->device ? ioctl(w->file.fd, BLKGETSIZE64, &size) : fstat(w->file.fd, &st))
		return failno(errno, "disk %s: size", w->blk.name);
	return w->device ? (int64_t)MIN(size, INT64_MAX) : st.st_size;
}

int64_t raw_measure(const struct raw *w)
{
	int64_t bytes = raw_file_bytes(w);
	uint64_t size = (uint64_t)bytes;

	if (bytes < 0)
		return bytes;
	if (w->file.endless && !w->device)
		return (int64_t)RAW_SIZE_MAX;
	if (size == 0)
		return fail(EINVAL, "disk %s: is empty", w->blk.name);
	if (size == INT64_MAX)
		return fail(EFBIG, "disk %s: is too large", w->blk.name);
	if (!range_ok(w->file.base, w->len, size))
		return fail(EINVAL, "disk %s: its %llu bytes end before the partition does",
			w->blk.name, (unsigned long long)size);
	if (w->len)
		size = w->len;
	if (size % MAX(w->align, BLK_SECTOR))
		return fail(EINVAL, "disk %s: its %llu bytes are not whole blocks of %u",
			w->blk.name, (unsigned long long)size, MAX(w->align, BLK_SECTOR));
	if (w->file.base % MAX(w->align, BLK_SECTOR))
		return fail(EINVAL, "disk %s: byte %llu, where it begins, is amid a block of %u",
			w->blk.name, (unsigned long long)w->file.base, MAX(w->align, BLK_SECTOR));
	return (int64_t)size;
}

static void know_file(struct raw *w, const struct stat *st)
{
	uint64_t block = (uint64_t)st->st_blksize;
	bool usual = block >= BLK_SECTOR && block <= PHYSICAL_MAX && !(block & (block - 1));

	w->blk.physical_block = usual ? (uint32_t)block : BLK_SECTOR;
	/* A hole past the end is none: this only asks whether there are holes. */
	w->no_punch = w->blk.read_only ||
		      fallocate(w->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, st->st_size,
			      BLK_SECTOR) < 0;
	w->blk.can_zero = !w->no_punch;
	w->blk.discard_align = w->no_punch ? 0 : w->blk.physical_block;
}

static int know_device(struct raw *w)
{
	unsigned physical = 0, optimal = 0;
	int read_only = 0, sector = 0;

	if (ioctl(w->file.fd, BLKROGET, &read_only) < 0 ||
		ioctl(w->file.fd, BLKSSZGET, &sector) < 0 ||
		ioctl(w->file.fd, BLKPBSZGET, &physical) < 0 ||
		ioctl(w->file.fd, BLKIOOPT, &optimal) < 0)
		return failno(errno, "disk %s", w->blk.name);
	if (read_only && !w->blk.read_only)
		return fail(EROFS, "disk %s: the device is read-only", w->blk.name);
	w->blk.sector = (uint32_t)sector;
	w->blk.physical_block = MAX(physical, BLK_SECTOR);
	w->blk.optimal_io = optimal;
	w->blk.can_zero = !w->blk.read_only;
	w->blk.discard_align = w->blk.read_only ? 0 : w->blk.physical_block;
	return 0;
}

/* The least alignment that the host reads with: no kernel before 6.1 can be asked. */
static int find_align(struct raw *w)
{
	static _Alignas(ALIGN_MAX) uint8_t buf[2 * ALIGN_MAX];

	w->align = 1;
	if (w->cache != RAW_NONE)
		return 0;
	for (w->align = BLK_SECTOR; w->align <= ALIGN_MAX; w->align *= 2)
		if (TEMP_FAILURE_RETRY(pread(w->file.fd, buf + w->align, w->align, w->align)) >= 0)
			return 0;
	return failno(errno, "disk %s: cache=none", w->blk.name);
}

int raw_open(struct raw *w, const struct raw_config *c)
{
	struct stat st;
	int64_t size;
	int rc;

	if (fstat(c->fd, &st) < 0)
		return failno(errno, "disk %s", c->name);
	rc = raw_check_kind(st.st_mode, c->name);
	if (rc)
		return rc;
	w->device = S_ISBLK(st.st_mode);
	w->cache = c->cache;
	w->blk.name = c->name;
	w->blk.read_only = c->read_only;
	rc = check_flags(w, c);
	rc = rc ? rc : find_align(w);
	if (rc)
		return rc;
	size = raw_measure(w);
	if (size < 0)
		return (int)size;
	w->blk.size = (uint64_t)size;
	if (w->device)
		return know_device(w);
	know_file(w, &st);
	return 0;
}
