// SPDX-License-Identifier: MIT
// The machine's disks: made at start, and while it runs, in the same way: the layers on the loop
// that owns the queues, as the engine is that loop's, then the place on the bus.
#include "vmm/devices.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/engine.h"
#include "blk/raw.h"
#include "virtio/blk.h"
#include "vmm/disk_job.h"

#include <errno.h>
#include <stdio.h>

/* ---- Birth ---- */

struct making {
	struct devices *d;
	const struct disk_config *cfg;
	const struct disk_files *files;
	struct disk disk;
	int rc;
	char why[512]; /* messages are each thread's own */
};

struct disk_host devices_disk_host(const struct devices *d)
{
	return (struct disk_host){
		.engine = d->engine,
		.loop = d->io,
		.decompressor = d->cfg->decompress ? &d->cfg->decompress->decompressor : NULL,
		.stopped = d->host.disk_stopped,
		.warned = d->host.disk_warned,
		.arg = d->host.arg,
	};
}

static void make(void *arg)
{
	struct making *m = arg;
	const struct disk_host host = devices_disk_host(m->d);
	struct virtio_blk_config_args args = {
		.name = disk_name(m->cfg),
		.serial = m->cfg->serial,
		.queues = m->cfg->queues,
		.writeback = m->cfg->cache != RAW_WRITETHROUGH,
	};

	m->rc = disk_create(&m->disk, m->cfg, m->files, &host);
	args.blk = m->disk.blk;
	if (!m->rc)
		m->rc = virtio_blk_create(&m->disk.dev, &args);
	if (m->rc)
		snprintf(m->why, sizeof(m->why), "%s", last_error());
}

/* Takes the files. `place` as in devices_plug; on success the disk is the last one. */
static int add_disk(struct devices *d, const struct disk_config *cfg,
	const struct disk_files *files, unsigned place)
{
	struct making m = {.d = d, .cfg = cfg, .files = files};
	int rc;

	loop_call(d->io, make, &m);
	if (m.rc)
		return fail(-m.rc, "%s", m.why);
	rc = devices_plug(d, m.disk.dev, virtio_blk_destroy, &place);
	if (rc)
		return rc;
	m.disk.place = place;
	d->disk[d->disks++] = m.disk;
	return 0;
}

static int create_engine(struct devices *d, const struct machine_config *cfg)
{
	int rc = engine_create(&d->engine, d->io, (enum engine_kind)cfg->disk_engine);

	if (rc)
		return fail_context(rc, "--disk-engine %s", engine_kind_names[cfg->disk_engine]);
	log_info("disks are read and written through %s", engine_name(d->engine));
	if (!cfg->decompress)
		return 0;
	cfg->decompress->ended = d->host.disk_warned;
	cfg->decompress->arg = d->host.arg;
	return decompress_helper_watch(cfg->decompress, d->io);
}

int devices_add_disks(struct devices *d, const struct machine_config *cfg)
{
	int rc = cfg->disk_count ? create_engine(d, cfg) : 0;

	for (unsigned i = 0; i < cfg->disk_count; i++)
		if (rc)
			disk_close(&cfg->disk_files[i]);
		else
			rc = add_disk(d, &cfg->disks[i], &cfg->disk_files[i],
				places_take(&d->places, cfg->disks[i].slot));
	return rc;
}

/* ---- While the machine runs ---- */

struct disk *devices_find_disk(struct devices *d, const char *id)
{
	for (unsigned i = 0; i < d->disks; i++)
		if (!strcmp(disk_name(d->disk[i].cfg), id))
			return &d->disk[i];
	return NULL;
}

int devices_attach_disk(struct devices *d, struct disk_config *cfg, const struct disk_files *files)
{
	const struct arrival a = {"disk", disk_name(cfg), cfg->slot, d->disks == MACHINE_DISKS_MAX};
	unsigned place;
	int rc = devices_check_arrival(d, &a, &place);

	if (rc)
		disk_close(files);
	else
		rc = add_disk(d, cfg, files, place);
	if (rc) {
		disk_config_free(cfg);
		return rc;
	}
	d->disk[d->disks - 1].owned = cfg;
	devices_has_come(d, place);
	return 0;
}

static void end_job(void *arg)
{
	disk_job_end(arg);
}

void devices_end_job(struct devices *d, const struct virtio_device *dev)
{
	for (unsigned i = 0; i < d->disks; i++)
		if (d->disk[i].dev == dev)
			loop_call(d->io, end_job, &d->disk[i]);
}

static void close_disk(void *arg)
{
	virtio_blk_close(arg);
}

void devices_close_disks(struct devices *d)
{
	for (unsigned i = 0; i < d->disks; i++) {
		loop_call(d->io, end_job, &d->disk[i]);
		if (!d->disk[i].has_books)
			continue;
		slot_pause(&d->slot[d->disk[i].place]);
		loop_call(d->io, close_disk, d->disk[i].dev);
	}
}

static void end_helper(void *arg)
{
	disk_end_helper(arg);
}

void devices_forget_disk(struct devices *d, const struct virtio_device *dev)
{
	for (unsigned i = 0; i < d->disks; i++)
		if (d->disk[i].dev == dev) {
			loop_call(d->io, end_helper, d->disk[i].helper);
			disk_config_free(d->disk[i].owned);
			disk_config_free(d->disk[i].now);
			memmove(&d->disk[i], &d->disk[i + 1], (--d->disks - i) * sizeof(*d->disk));
		}
}
