// SPDX-License-Identifier: MIT
// Grains that are compressed, one at a time; the last one is kept, as who reads on asks for more of
// it. Each begins with a marker: the sector of the extent that it is, and how many bytes follow.
#include "base/iov.h"
#include "base/log.h"
#include "blk/vmdk_parts.h"

#include <errno.h>

static void next(struct vmdk *d);

static void end(struct vmdk *d, int rc)
{
	struct vmdk_unpack *u = &d->unpack;
	struct vmdk_piece *p = u->now;

	if (!rc)
		iov_write(p->r.iov, p->r.iovcnt, 0, u->to + p->at, p->r.len);
	u->now = NULL;
	p->r.done(&p->r, rc);
}

static void unpacked(struct decompress_job *j, int rc)
{
	struct vmdk_unpack *u = container_of(j, struct vmdk_unpack, job);
	struct vmdk *d = container_of(u, struct vmdk, unpack);
	struct vmdk_piece *p = u->now;

	/* Who wrote the extent's last grain has ended it with the extent, or has filled it up. */
	if (rc == -EINVAL && j->to_len < p->part->grain) {
		j->to_len = p->part->grain;
		u->d->submit(u->d, j);
		return;
	}
	if (rc == -EINVAL)
		rc = vmdk_corrupt(p->part, p->r.off, "a grain that cannot be unpacked", p->grain);
	u->part = rc ? NULL : p->part;
	u->grain = p->grain;
	end(d, rc);
	next(d);
	vmdk_commit(&d->blk);
}

static int check_marker(const struct vmdk_unpack *u)
{
	const struct vmdk_piece *p = u->now;
	uint64_t sector = get_le64(u->from);
	uint32_t len = get_le32(u->from + 8);

	if (sector != p->grain * (p->part->grain / BLK_SECTOR))
		return vmdk_corrupt(p->part, p->r.off, "the marker of another grain", sector);
	if (!len || len > u->from_len - VMDK_MARKER_BYTES)
		return vmdk_corrupt(
			p->part, p->r.off + 8, "a length that no compressed grain has", len);
	return 0;
}

static void fetched(struct blk_request *r, int rc)
{
	struct vmdk_io *io = container_of(r, struct vmdk_io, r);
	struct vmdk *d = io->part->disk;
	struct vmdk_unpack *u = &d->unpack;
	const struct vmdk_piece *p = u->now;

	rc = rc ? rc : check_marker(u);
	if (rc) {
		end(d, rc);
		next(d);
		vmdk_commit(&d->blk);
		return;
	}
	u->job = (struct decompress_job){
		.kind = DECOMPRESS_ZLIB,
		.from = u->from + VMDK_MARKER_BYTES,
		.from_len = get_le32(u->from + 8),
		.to = u->to,
		.to_len = MIN(
			p->part->grain, p->part->end - p->part->start - p->grain * p->part->grain),
		.done = unpacked,
	};
	u->d->submit(u->d, &u->job);
}

static void fetch(struct vmdk_unpack *u)
{
	u->part = NULL;
	u->io.part = u->now->part;
	u->io.iov[0] = (struct iovec){u->from, u->from_len};
	u->io.r.done = fetched;
	vmdk_io(&u->io, BLK_READ, 0, u->now->r.off, u->from_len);
}

/* One that is completed at once is not the end of it: whoever calls this for it comes back here. */
static void next(struct vmdk *d)
{
	struct vmdk_unpack *u = &d->unpack;
	struct blk_request *r;

	if (u->running)
		return;
	u->running = true;
	while (!u->now && (r = line_take(&u->line))) {
		u->now = container_of(r, struct vmdk_piece, r);
		if (u->part == u->now->part && u->grain == u->now->grain)
			end(d, 0);
		else
			fetch(u);
	}
	u->running = false;
}

void vmdk_unpack_add(struct vmdk_piece *p)
{
	struct vmdk *d = p->part->disk;

	line_append(&d->unpack.line, &p->r);
	next(d);
}

int vmdk_unpack_init(struct vmdk *d, struct decompressor *z, uint32_t grain)
{
	struct vmdk_unpack *u = &d->unpack;

	if (!z)
		return fail(ENOTSUP, "disk %s: its grains are compressed, and nothing unpacks them",
			d->blk.name);
	/* What does not become smaller becomes a little larger. */
	u->from_len = (uint32_t)align_up(grain + grain / 8 + BLK_SECTOR, 4096);
	u->from = z->buffer(z, u->from_len);
	u->to = z->buffer(z, grain);
	u->d = z;
	return u->from && u->to ? 0
				: fail(ENOMEM, "disk %s: no memory to unpack grains", d->blk.name);
}
