// SPDX-License-Identifier: MIT
// What can be changed of a running machine's disks. The control loop asks; it is done on the loop
// that owns the disk.
#include "vmm/machine_private.h"

#include "base/log.h"
#include "blk/blk.h"
#include "virtio/blk.h"
#include "vmm/disk.h"

#include <errno.h>
#include <stdio.h>

/* NULL with a message where there is none of that name. */
static struct disk *find(struct machine *m, const char *id)
{
	struct devices *d = &m->devices;

	for (unsigned i = 0; i < d->disks; i++)
		if (!strcmp(disk_name(d->disk[i].cfg), id))
			return &d->disk[i];
	fail(ENOENT, "it has no disk %s", id);
	return NULL;
}

struct resize {
	const struct disk *disk;
	uint64_t size;
	int rc;
	char why[256]; /* messages are each thread's own */
};

static void resize(void *arg)
{
	struct resize *r = arg;

	r->rc = virtio_blk_resize(r->disk->dev, &r->size);
	if (r->rc)
		snprintf(r->why, sizeof(r->why), "%s", last_error());
}

int machine_resize_disk(struct machine *m, const char *id, uint64_t *size)
{
	struct resize r = {.disk = find(m, id)};

	if (!r.disk)
		return -ENOENT;
	if (disk_has_overlay(r.disk->cfg))
		return fail(ENOTSUP, "disk %s: with an overlay it stays as large as it was", id);
	loop_call(m->devices.io, resize, &r);
	if (r.rc)
		return fail(-r.rc, "%s", r.why);
	*size = r.size;
	return 0;
}

int machine_disk_limits(struct machine *m, const char *id, struct disk_limits *limits)
{
	const struct disk *disk = find(m, id);

	if (!disk)
		return -ENOENT;
	*limits = disk->limits;
	return 0;
}

struct limit {
	struct disk *disk;
	const struct disk_limits *limits;
};

static void limit(void *arg)
{
	struct limit *l = arg;

	disk_set_limits(l->disk, l->limits);
}

int machine_limit_disk(struct machine *m, const char *id, const struct disk_limits *limits)
{
	struct limit l = {.disk = find(m, id), .limits = limits};
	int rc = l.disk ? disk_check_limits(limits) : -ENOENT;

	if (!rc)
		loop_call(m->devices.io, limit, &l);
	return rc;
}
