// SPDX-License-Identifier: MIT
// What can be changed of a running machine's disks. The control loop asks; it is done on the loop
// that owns the disk.
#include "vmm/machine_private.h"

#include "base/log.h"
#include "blk/blk.h"
#include "blk/engine.h"
#include "blk/on_error.h"
#include "blk/raw.h"
#include "virtio/blk.h"
#include "vmm/disk_job.h"

#include <errno.h>
#include <stdio.h>

/* NULL with a message where there is none of that name. */
static struct disk *find(struct machine *m, const char *id)
{
	struct disk *disk = devices_find_disk(&m->devices, id);

	if (!disk)
		fail(ENOENT, "it has no disk %s", id);
	return disk;
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
	if (strcmp(r.disk->format, image_format_names[IMAGE_RAW]) != 0)
		return fail(ENOTSUP,
			"disk %s: a %s image stays as large as it is while a VM has it; kvick "
			"image resize changes one that none has",
			id, r.disk->format);
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

/* ---- jobs ---- */

struct begin {
	const struct devices *devices;
	struct disk *disk;
	enum disk_job_kind kind;
	struct disk_target *target;
	int socket;
	int rc;
	char why[512];
};

static void begin(void *arg)
{
	struct begin *b = arg;
	const struct disk_host host = devices_disk_host(b->devices);

	b->rc = disk_job_begin(b->disk, b->kind, b->target, &host, b->socket);
	if (b->rc)
		snprintf(b->why, sizeof(b->why), "%s", last_error());
}

int machine_begin_job(struct machine *m, const char *id, enum disk_job_kind kind,
	struct disk_target *target, int socket)
{
	struct begin b = {.devices = &m->devices,
		.disk = find(m, id),
		.kind = kind,
		.target = target,
		.socket = socket};

	if (!b.disk) {
		disk_target_finish(target);
		return -ENOENT;
	}
	loop_call(m->devices.io, begin, &b);
	return b.rc ? fail(-b.rc, "%s", b.why) : 0;
}

/* ---- what they are ---- */

struct look {
	const struct devices *devices;
	struct machine_disk *disks;
};

/* Of what the disk's loop may change. */
static void look(void *arg)
{
	struct look *l = arg;

	for (unsigned i = 0; i < l->devices->disks; i++) {
		const struct disk *d = &l->devices->disk[i];

		l->disks[i].size = d->blk->size;
		l->disks[i].held = virtio_blk_held(d->dev);
	}
}

static void describe(const struct devices *devices, const struct disk *d, struct machine_disk *to)
{
	const struct disk_config *now = d->now ? d->now : d->cfg;

	*to = (struct machine_disk){
		.id = disk_name(d->cfg),
		.path = now->path,
		.format = d->format,
		.overlay = now->overlay,
		.cache = raw_cache_names[now->cache],
		.on_error = on_error_names[d->cfg->on_error],
		.engine = engine_name(devices->engine),
		.read_only = d->cfg->read_only,
		.detaching = devices_is_leaving(devices, d->place),
		.errors = on_error_count(d->judge),
		.limits = d->limits,
	};
	devices_address(devices, d->dev, to->address, sizeof(to->address));
}

unsigned machine_disks(struct machine *m, struct machine_disk *disks)
{
	const struct devices *d = &m->devices;
	struct look l = {.devices = d, .disks = disks};

	for (unsigned i = 0; i < d->disks; i++)
		describe(d, &d->disk[i], &disks[i]);
	if (d->disks)
		loop_call(d->io, look, &l);
	return d->disks;
}

/* ---- a disk that stops the machine ---- */

void machine_note_stop(struct machine *m, const char *why)
{
	pthread_mutex_lock(&m->note_lock);
	if (!*m->stop_noted)
		snprintf(m->stop_noted, sizeof(m->stop_noted), "%s", why);
	pthread_mutex_unlock(&m->note_lock);
}

static void take_note(struct machine *m, char *text, size_t len)
{
	pthread_mutex_lock(&m->note_lock);
	snprintf(text, len, "%s", m->stop_noted);
	*m->stop_noted = '\0';
	pthread_mutex_unlock(&m->note_lock);
}

struct held {
	const struct devices *devices;
	unsigned count;
};

static void count_held(void *arg)
{
	struct held *h = arg;

	for (unsigned i = 0; i < h->devices->disks; i++)
		h->count += virtio_blk_held(h->devices->disk[i].dev);
}

/* The guest may have reset the disk since, and its requests are gone. */
const char *machine_take_stop(struct machine *m)
{
	struct held h = {.devices = &m->devices};
	char text[sizeof(m->why_stopped)];

	loop_call(m->devices.io, count_held, &h);
	take_note(m, text, sizeof(text));
	if (!h.count || !*text || *m->why_stopped)
		return NULL;
	memcpy(m->why_stopped, text, sizeof(text));
	return m->why_stopped;
}

void machine_forget_stop(struct machine *m)
{
	char text[sizeof(m->why_stopped)];

	take_note(m, text, sizeof(text));
	*m->why_stopped = '\0';
}

const char *machine_why_stopped(const struct machine *m)
{
	return m->why_stopped;
}
