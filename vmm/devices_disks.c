// SPDX-License-Identifier: MIT
// The machine's disks: the layers are made on the loop that owns the queues, as the engine is
// that loop's; then the disk gets its place on the bus.
#include "vmm/devices.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/engine.h"
#include "blk/raw.h"
#include "virtio/blk.h"
#include "vmm/disk.h"

#include <errno.h>
#include <stdio.h>

struct making {
	struct devices *d;
	const struct disk_config *cfg;
	const struct disk_files *files;
	struct disk disk;
	int rc;
	char why[512]; /* messages are each thread's own */
};

static void make(void *arg)
{
	struct making *m = arg;
	const struct disk_host host = {
		.engine = m->d->engine,
		.loop = m->d->io,
		.stopped = m->d->host.disk_stopped,
		.arg = m->d->host.arg,
	};
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
	return 0;
}

int devices_add_disks(struct devices *d, const struct machine_config *cfg)
{
	int rc = cfg->disk_count ? create_engine(d, cfg) : 0;

	for (unsigned i = 0; i < cfg->disk_count; i++)
		if (rc)
			disk_close(&cfg->disk_files[i]);
		else
			rc = add_disk(d, &cfg->disks[i], &cfg->disk_files[i], cfg->disks[i].slot);
	return rc;
}

struct disk *devices_find_disk(struct devices *d, const char *id)
{
	for (unsigned i = 0; i < d->disks; i++)
		if (!strcmp(disk_name(d->disk[i].cfg), id))
			return &d->disk[i];
	return NULL;
}
