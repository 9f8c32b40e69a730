// SPDX-License-Identifier: MIT
// Grain tables that come to memory: from the file, or as new ones.
#include "base/log.h"
#include "base/loop.h"
#include "blk/vmdk_parts.h"

#include <errno.h>

int vmdk_corrupt(const struct vmdk_part *p, uint64_t at, const char *what, uint64_t value)
{
	struct vmdk *d = p->disk;
	uint64_t now = now_ns();

	if (now >= d->log_ns) {
		d->log_ns = now + NSEC_PER_SEC;
		log_warn("disk %s: byte %llu: %s (%llu): this part of it cannot be used",
			p->file->name, (unsigned long long)at, what, (unsigned long long)value);
	}
	return -EIO;
}

int vmdk_table_check(const struct vmdk_part *p, uint64_t entry_at, uint32_t sector)
{
	uint64_t at = (uint64_t)sector * BLK_SECTOR;

	if (sector && range_ok(at, p->gtes * 4ull, p->next))
		return 0;
	return vmdk_corrupt(
		p, entry_at, "an entry of a grain directory that is no table's place", sector);
}

/* The split that waits for it is the first of its line. */
static void arrived(struct vmdk_table *t, int rc)
{
	struct vmdk *d = t->part->disk;

	t->loading = false;
	if (rc)
		t->part = NULL;
	if (d->making == t)
		d->making = NULL;
	vmdk_wake(&t->line, rc);
	vmdk_wake(&d->room, 0);
	vmdk_commit(&d->blk);
}

static struct vmdk_table *of(struct blk_request *r)
{
	return container_of(container_of(r, struct vmdk_io, r), struct vmdk_table, io[0]);
}

static void loaded(struct blk_request *r, int rc)
{
	arrived(of(r), rc);
}

static int check_places(const struct vmdk_part *p, uint32_t index)
{
	int rc = vmdk_table_check(p, p->gd_at + index * 4ull, le32toh(p->gd[index]));

	if (!rc && p->rgd && p->rgd[index])
		rc = vmdk_table_check(p, p->rgd_at + index * 4ull, le32toh(p->rgd[index]));
	return rc;
}

static void load(struct vmdk_table *t)
{
	const struct vmdk_part *p = t->part;
	int rc = check_places(p, t->index);

	if (rc) {
		arrived(t, rc);
		return;
	}
	t->io[0].iov[0] = (struct iovec){t->entry, p->gtes * 4ull};
	t->io[0].r.done = loaded;
	vmdk_io(&t->io[0], BLK_READ, 0, (uint64_t)le32toh(p->gd[t->index]) * BLK_SECTOR,
		p->gtes * 4ull);
}

/* ---- new tables ----
 *
 * They are durable before a directory points to them, and so is the redundant directory before the
 * one that is read; so at any time what the directory has is a table. The last write becomes
 * durable with the grains' that follow. As a directory's sector is written as it is in memory, this
 * is for one table at a time.
 */

static void make_step(struct vmdk_table *t);

static void made(struct blk_request *r, int rc)
{
	struct vmdk_table *t = of(r);
	struct vmdk_part *p = t->part;

	t->step++;
	if (!rc && t->step < 3) {
		make_step(t);
		vmdk_commit(&p->disk->blk);
		return;
	}
	if (rc && t->step > 1) {
		p->gd[t->index] = 0;
		if (p->rgd)
			p->rgd[t->index] = 0;
	}
	p->unflushed = true;
	arrived(t, rc);
}

static void write_directory(struct vmdk_table *t, uint32_t *directory, uint64_t at, unsigned flags)
{
	uint64_t from = align_down(t->index * 4ull, BLK_SECTOR);

	t->io[0].iov[0] = (struct iovec){(uint8_t *)directory + from, BLK_SECTOR};
	vmdk_io(&t->io[0], BLK_WRITE, flags, at + from, BLK_SECTOR);
}

static void make_step(struct vmdk_table *t)
{
	struct vmdk_part *p = t->part;
	uint64_t bytes = p->gtes * 4ull;

	if (t->step == 0) {
		t->io[0].iov[0] = t->io[0].iov[1] = (struct iovec){t->entry, bytes};
		vmdk_io(&t->io[0], BLK_WRITE, BLK_FUA, (uint64_t)t->made[0] * BLK_SECTOR,
			p->rgd ? 2 * bytes : bytes);
		return;
	}
	t->step += t->step == 1 && !p->rgd;
	if (t->step == 1) {
		p->rgd[t->index] = htole32(t->made[1]);
		write_directory(t, p->rgd, p->rgd_at, BLK_FUA);
	} else {
		p->gd[t->index] = htole32(t->made[0]);
		write_directory(t, p->gd, p->gd_at, 0);
	}
}

static void make(struct vmdk_table *t)
{
	struct vmdk_part *p = t->part;
	uint64_t at = p->next, bytes = p->gtes * 4ull;

	p->next += align_up(2 * bytes, p->grain);
	if (p->next > BLK_SECTOR * (1ull << 32)) {
		p->next = at;
		arrived(t, -EFBIG);
		return;
	}
	p->disk->making = t;
	t->made[0] = (uint32_t)(at / BLK_SECTOR);
	t->made[1] = (uint32_t)((at + bytes) / BLK_SECTOR);
	t->step = 0;
	memset(t->entry, 0, bytes);
	t->io[0].r.done = made;
	make_step(t);
}

void vmdk_table_bring(struct vmdk_table *t, struct vmdk_part *p, uint32_t index)
{
	t->part = t->io[0].part = t->io[1].part = p;
	t->index = index;
	t->loading = true;
	t->used = ++p->disk->clock;
	if (p->gd[index])
		load(t);
	else
		make(t);
}
