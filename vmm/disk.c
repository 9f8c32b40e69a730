// SPDX-License-Identifier: MIT
// A disk from its file or device up to what the guest has: opened, locked, put together of layers.
#include "vmm/disk.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/guard.h"
#include "blk/limit.h"
#include "blk/mirror.h"
#include "blk/on_error.h"
#include "blk/partition.h"
#include "blk/window.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the files ---- */

int disk_open(const struct disk_config *d, struct disk_files *out)
{
	const struct chain_options o = disk_chain(d);
	struct disk_files f = {0};
	int rc = chain_open(&f.chain, &o);

	if (rc)
		return rc;
	f.format = chain_format(f.chain);
	rc = disk_overlay_open(&f.overlay, d, f.format);
	if (rc)
		chain_close(f.chain);
	else
		*out = f;
	return rc;
}

bool disk_may_be_compressed(const struct disk_files *files)
{
	return files->format != IMAGE_RAW || files->overlay.kept;
}

void disk_close(const struct disk_files *files)
{
	chain_close(files->chain);
	for (unsigned i = 0; i < files->count; i++)
		if (files->fds[i] >= 0)
			close(files->fds[i]);
	free(files->fds);
	disk_overlay_close(&files->overlay);
	disk_end_helper(files->helper);
}

void disk_end_helper(struct decompress_helper *h)
{
	if (!h)
		return;
	decompress_helper_unwatch(h);
	decompress_helper_finish(h);
	free(h);
}

void disk_hand_over(const struct disk_files *files)
{
	chain_hand_over(files->chain);
	if (files->overlay.fd)
		close(files->overlay.fd);
	if (files->overlay.lock)
		close(files->overlay.lock);
	if (files->helper)
		decompress_helper_hand_over(files->helper);
	free(files->helper);
}

int disk_files_list(const struct disk_files *files, struct disk_parts *parts, int *fds)
{
	unsigned n = chain_fds(files->chain, fds);

	*parts = (struct disk_parts){.chain = n, .kept = files->overlay.kept};
	if (n > DISK_CHAIN_MAX)
		return fail(E2BIG,
			"it is made of files with %u descriptors, and a running VM takes a disk of "
			"%u at most",
			n, DISK_CHAIN_MAX);
	if (files->overlay.fd)
		fds[n++] = files->overlay.fd;
	if (files->overlay.lock)
		fds[n++] = files->overlay.lock;
	parts->overlay = n - parts->chain;
	if (files->helper) {
		decompress_helper_files(files->helper, &fds[n]);
		n += DECOMPRESS_FILES;
	}
	return (int)n;
}

static int check_parts(const struct disk_config *d, const struct disk_parts *p, unsigned count)
{
	unsigned file = disk_overlay_in_file(d), most = file ? 1 + p->kept : 0;

	if (p->chain && p->chain <= count && p->overlay >= file && p->overlay <= most &&
		(count - p->chain == p->overlay ||
			count - p->chain == p->overlay + DECOMPRESS_FILES))
		return 0;
	return fail(EINVAL,
		"disk %s: %u descriptors have come with it, %u of the image and %u of the overlay, "
		"which cannot be",
		d->path, count, p->chain, p->overlay);
}

static int take_helper(struct disk_files *f, int *fds)
{
	int rc;

	f->helper = calloc(1, sizeof(*f->helper));
	if (!f->helper)
		return fail(ENOMEM, "out of memory");
	rc = decompress_helper_adopt(f->helper, fds);
	if (rc)
		free(steal_ptr(&f->helper));
	return rc;
}

int disk_files_take(struct disk_files *out, const struct disk_config *d, const struct disk_parts *p,
	int *fds, unsigned count)
{
	struct disk_files f = {0};
	int rc = check_parts(d, p, count);

	if (rc)
		return rc;
	f.fds = calloc(p->chain, sizeof(*f.fds));
	rc = f.fds ? 0 : fail(ENOMEM, "out of memory");
	if (!rc && count > p->chain + p->overlay)
		rc = take_helper(&f, fds + p->chain + p->overlay);
	if (rc) {
		free(f.fds);
		return rc;
	}
	for (; f.count < p->chain; f.count++)
		f.fds[f.count] = steal_fd(&fds[f.count]);
	f.overlay.kept = p->kept;
	if (p->overlay)
		f.overlay.fd = steal_fd(&fds[p->chain]);
	if (p->overlay > 1)
		f.overlay.lock = steal_fd(&fds[p->chain + 1]);
	*out = f;
	return 0;
}

/* ---- the layers ---- */

/* The image's own disk, of open files or of descriptors that have come from elsewhere. */
int disk_create_image(struct blk **out, const struct disk_config *d, struct disk_files *f,
	const struct disk_host *host)
{
	const struct chain_options o = disk_chain(d);
	int rc = 0;

	if (!f->chain)
		rc = chain_take(&f->chain, &o, host->engine, f->fds, f->count);
	if (rc)
		return rc;
	f->format = chain_format(f->chain);
	return chain_create(out, steal_ptr(&f->chain), host->engine, host->decompressor);
}

int disk_create_file(struct blk **out, const struct disk_config *d, struct disk_files *f,
	const struct disk_host *host)
{
	char *name = strdup(d->path);
	const struct raw_config raw = {.name = name,
		.own_name = name,
		.fd = f->fds[0],
		.lock_fd = f->count > 1 ? f->fds[1] : 0,
		.cache = (enum raw_cache)d->cache,
		.holds_format = true};
	int rc = name ? raw_create(out, host->engine, &raw) : fail(ENOMEM, "out of memory");

	if (rc) {
		free(name);
		return rc;
	}
	f->fds[0] = -1;
	if (f->count > 1)
		f->fds[1] = -1;
	return 0;
}

/* What is looked up is there, whether it is for us or for the guest to use. */
static int look_at_partitions(struct partition *p, const struct disk_config *d, struct blk *b)
{
	unsigned number = d->root ? d->root : d->partition;
	int rc = number ? partition_find(p, b, number) : 0;

	if (!rc && d->root && p->sector != BLK_SECTOR)
		return fail(ENOTSUP,
			"disk %s: its partition table counts in sectors of %u bytes: the guest, "
			"whose sectors are of %u, would not find partition %u; partition=%u makes "
			"that one the disk",
			d->path, p->sector, BLK_SECTOR, number, number);
	return rc;
}

static int add_window(struct blk **b, const struct disk_config *d)
{
	struct partition p;
	int rc = look_at_partitions(&p, d, *b);

	return rc || !d->partition ? rc : window_create(b, *b, p.off, p.len);
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

/* A guest that wrote a format's magic to what was found raw would choose what it is next time. */
static bool needs_guard(const struct disk_config *d, const struct disk_files *f)
{
	return d->format == IMAGE_PROBED && f->format == IMAGE_RAW && !d->read_only &&
	       (!disk_has_overlay(d) || f->overlay.kept);
}

/* *b is the image's own disk, and what the guest has on success. */
static int add_layers(
	struct disk *out, struct blk **b, struct disk_files *f, const struct disk_host *host)
{
	const struct disk_config *d = out->cfg;
	const struct disk_overlay overlay = f->overlay;
	int rc = 0;

	f->overlay = (struct disk_overlay){0};
	if (disk_has_overlay(d))
		rc = disk_overlay_add(b, d, &overlay, host->engine, host->decompressor);
	f->overlay.kept = overlay.kept;
	if (!rc) {
		rc = mirror_create(b, host->loop, *b);
		out->mirror = *b;
	}
	if (!rc)
		rc = add_judge(out, b, host);
	if (!rc && needs_guard(d, f))
		rc = guard_create(b, *b);
	if (!rc)
		rc = add_window(b, d);
	return rc ? rc : add_limit(out, b, host->loop);
}

int disk_create(struct disk *out, const struct disk_config *d, const struct disk_files *files,
	const struct disk_host *host)
{
	struct disk_files f = *files;
	struct disk_host h = *host;
	struct blk *b = NULL;
	int rc = 0;

	*out = (struct disk){.cfg = d, .limits = d->limits};
	if (f.helper) {
		f.helper->ended = host->warned;
		f.helper->arg = host->arg;
		h.decompressor = &f.helper->decompressor;
		rc = decompress_helper_watch(f.helper, host->loop);
	}
	rc = rc ? rc : disk_create_image(&b, d, &f, &h);
	rc = rc ? rc : add_layers(out, &b, &f, &h);
	if (rc) {
		blk_destroy(b);
		disk_close(&f);
		return rc;
	}
	out->helper = steal_ptr(&f.helper);
	disk_close(&f);
	out->format = image_format_names[f.format];
	out->has_books = f.overlay.kept || (f.format != IMAGE_RAW && !disk_chain(d).read_only);
	out->blk = b;
	return 0;
}

void disk_set_limits(struct disk *disk, const struct disk_limits *limits)
{
	const struct limit_config c = limit_config(limits);

	disk->limits = *limits;
	limit_set(disk->limit, &c);
}
