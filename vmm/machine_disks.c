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
