// SPDX-License-Identifier: MIT
// The machine's disks: made at start, attached and detached while it runs.
//
// A disk that is attached is made as one at start is: the layers on the loop that owns its queues,
// as the engine is that loop's, then its place on the bus. ACPI tells the guest that the slot has
// changed. To detach one the guest is asked, and it is the guest that says when it has let go: it
// ejects the slot. What it was not asked for it cannot eject.
#include "vmm/devices.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/engine.h"
#include "blk/raw.h"
#include "hw/pci.h"
#include "hw/pm.h"
#include "virtio/blk.h"
#include "vmm/disk.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOT_LAST (PCI_HOT_FIRST + PCI_HOT_SLOTS - 1)

/* ---- Birth ---- */

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
	m.disk.told = -1;
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
			rc = add_disk(d, &cfg->disks[i], &cfg->disk_files[i],
				places_take(&d->places, cfg->disks[i].slot));
	return rc;
}

/* ---- While the machine runs ---- */

static bool is_hot(unsigned place)
{
	return place >= PCI_HOT_FIRST && place <= HOT_LAST;
}

/* 0: nothing comes to this place or goes. */
static unsigned hot_bit(unsigned place)
{
	return is_hot(place) ? 1u << (place - PCI_HOT_FIRST) : 0;
}

void devices_set_leaving(struct devices *d, unsigned place)
{
	atomic_fetch_or(&d->leaving, hot_bit(place));
}

bool devices_is_leaving(const struct devices *d, unsigned place)
{
	return atomic_load(&d->leaving) & hot_bit(place);
}

struct disk *devices_find_disk(struct devices *d, const char *id)
{
	for (unsigned i = 0; i < d->disks; i++)
		if (!strcmp(disk_name(d->disk[i].cfg), id))
			return &d->disk[i];
	return NULL;
}

static int check_bus(const struct devices *d, const char *name)
{
	return d->pci ? 0
		      : fail(ENOTSUP,
				"disk %s: disks come and go only in a machine made with "
				"--transport pci",
				name);
}

static int find_hot_slot(struct devices *d, const struct disk_config *cfg, unsigned *place)
{
	const char *name = disk_name(cfg);
	unsigned first = cfg->slot ? cfg->slot : PCI_HOT_FIRST;
	unsigned last = cfg->slot ? cfg->slot : HOT_LAST;

	if (first < PCI_HOT_FIRST || last > HOT_LAST)
		return fail(EINVAL,
			"disk %s: addr %u: while the machine runs, disks come to slots %u to %u",
			name, cfg->slot, PCI_HOT_FIRST, HOT_LAST);
	for (*place = first; *place <= last; ++*place)
		if (pci_is_free(d->pci, *place))
			return 0;
	if (cfg->slot)
		return fail(EBUSY, "disk %s: addr %u is taken", name, cfg->slot);
	return fail(ENOSPC,
		"disk %s: slots %u to %u, which take disks while the machine runs, are taken", name,
		PCI_HOT_FIRST, HOT_LAST);
}

static int check_new(struct devices *d, const struct disk_config *cfg, unsigned *place)
{
	const char *name = disk_name(cfg);
	int rc = check_bus(d, name);

	if (rc)
		return rc;
	if (devices_find_disk(d, name))
		return fail(EEXIST, "disk %s: there is one of that name", name);
	if (d->disks == MACHINE_DISKS_MAX)
		return fail(ENOSPC, "disk %s: there are %u disks, and no more can be", name,
			MACHINE_DISKS_MAX);
	return find_hot_slot(d, cfg, place);
}

int devices_attach_disk(struct devices *d, struct disk_config *cfg, const struct disk_files *files)
{
	unsigned place = 0;
	int rc = check_new(d, cfg, &place);

	if (rc)
		disk_close(files);
	else
		rc = add_disk(d, cfg, files, place);
	if (rc) {
		disk_config_free(cfg);
		return rc;
	}
	d->disk[d->disks - 1].owned = cfg;
	pm_raise(d->pm, PM_EVENT_ADDED(place - PCI_HOT_FIRST));
	return 0;
}

int devices_detach_disk(struct devices *d, const char *id, int told)
{
	struct disk *disk = devices_find_disk(d, id);
	int rc = disk ? check_bus(d, id) : fail(ENOENT, "it has no disk %s", id);

	if (rc)
		return rc;
	if (!is_hot(disk->place))
		return fail(ENOTSUP,
			"disk %s: it is in slot %u, and only slots %u to %u can be emptied while "
			"the machine runs",
			id, disk->place, PCI_HOT_FIRST, HOT_LAST);
	devices_set_leaving(d, disk->place);
	if (disk->told >= 0)
		close(disk->told);
	disk->told = told;
	pm_raise(d->pm, PM_EVENT_WANTED(disk->place - PCI_HOT_FIRST));
	return 0;
}

bool devices_eject(struct devices *d, unsigned slots)
{
	unsigned asked = slots & atomic_load(&d->leaving);

	if (slots & ~asked)
		log_debug("the guest ejects hot-plug slots %#x, which it was not asked for",
			slots & ~asked);
	atomic_fetch_or(&d->ejected, asked);
	return asked;
}

void devices_unplug(struct devices *d, bool all)
{
	unsigned ejected = atomic_exchange(&d->ejected, 0), leaving = atomic_load(&d->leaving);

	if (all)
		ejected = leaving;
	for (unsigned i = 0; i < d->disks; i++) {
		struct disk *disk = &d->disk[i];

		disk->gone = hot_bit(disk->place) & ejected & leaving;
		if (disk->gone)
			slot_unplug(&d->slot[disk->place]);
	}
	atomic_fetch_and(&d->leaving, ~ejected);
}

/* Who does not listen any more misses it. */
void devices_forget_disk(struct disk *disk, bool detached)
{
	if (disk->told >= 0) {
		if (detached && send(disk->told, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			log_debug("disk %s: %s", disk_name(disk->cfg), strerror(errno));
		close(disk->told);
	}
	disk_config_free(disk->owned);
}

bool devices_take_away(struct devices *d, char *name, size_t len)
{
	unsigned i = 0;
	struct disk disk;

	while (i < d->disks && !d->disk[i].gone)
		i++;
	if (i == d->disks)
		return false;
	disk = d->disk[i];
	d->disks--;
	memmove(&d->disk[i], &d->disk[i + 1], (d->disks - i) * sizeof(disk));
	slot_finish(&d->slot[disk.place]);
	d->slots--;
	snprintf(name, len, "%s", disk_name(disk.cfg));
	devices_forget_disk(&disk, true);
	return true;
}
