// SPDX-License-Identifier: MIT
// An image's files, put together to a disk.
#include "base/log.h"
#include "base/loop.h"
#include "blk/now.h"
#include "blk/raw.h"
#include "blk/vmdk_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* ---- sparse extents ---- */

/* That another could be written without the others' knowing of it, or not at all. */
static int check_writable(const struct vmdk_header *h, const struct blk *file)
{
	if (h->flags & VMDK_COMPRESSED)
		return fail(ENOTSUP,
			"disk %s: its grains are compressed (streamOptimized): it can only be "
			"read; convert it to write to it",
			file->name);
	if (h->version == 3)
		return fail(ENOTSUP,
			"disk %s: version 3, of which VMware tracks the blocks that change: it can "
			"only be read",
			file->name);
	if (file->size != RAW_SIZE_MAX)
		return fail(ENOTSUP,
			"disk %s: a sparse extent grows, which a device does not: it can only be "
			"read",
			file->name);
	return 0;
}

static int read_directory(const struct vmdk_part *p, uint32_t **out, uint64_t at)
{
	uint64_t len = align_up(p->gdes * 4ull, BLK_SECTOR);
	int rc;

	*out = malloc(len);
	if (!*out)
		return fail(ENOMEM, "disk %s: no memory", p->file->name);
	rc = blk_read_now(p->file, at, *out, len);
	return rc ? failno(-rc, "disk %s: grain directory at byte %llu", p->file->name,
			    (unsigned long long)at)
		  : 0;
}

static void take_header(struct vmdk_part *p, const struct vmdk_header *h, uint64_t size)
{
	memcpy(p->header, h->sector, BLK_SECTOR);
	p->packed = h->flags & VMDK_COMPRESSED;
	p->zeroed = h->flags & VMDK_ZEROED;
	p->unclean = h->sector[VMDK_UNCLEAN_AT];
	p->grain = (uint32_t)h->grain * BLK_SECTOR;
	p->grain_bits = (unsigned)__builtin_ctz(p->grain);
	p->covers_bits = p->grain_bits + (unsigned)__builtin_ctz(h->gtes);
	p->gtes = h->gtes;
	p->gdes = h->gdes;
	/* Some writers begin the first grain anywhere; what is compressed is as long as it is. */
	p->align = p->packed || h->overhead % h->grain ? 1 : (uint32_t)h->grain;
	p->least = p->packed ? 1 : (uint32_t)MIN(h->overhead, UINT32_MAX);
	p->gd_at = h->gd * BLK_SECTOR;
	p->rgd_at = h->rgd * BLK_SECTOR;
	p->next = align_up(size, p->grain);
}

static int open_sparse(struct vmdk_part *p, uint64_t *gdes)
{
	const struct vmdk *d = p->disk;
	struct vmdk_header h;
	uint64_t size;
	int rc = vmdk_header_read(&h, p->file, &size);

	if (rc)
		return rc;
	if (h.capacity * BLK_SECTOR != p->end - p->start)
		return fail(EINVAL, "disk %s: capacity is %llu sectors, %llu in the descriptor",
			p->file->name, (unsigned long long)h.capacity,
			(unsigned long long)((p->end - p->start) / BLK_SECTOR));
	rc = d->blk.read_only ? 0 : check_writable(&h, p->file);
	if (rc)
		return rc;
	*gdes += h.gdes;
	if (*gdes > VMDK_GDES_ALL)
		return fail(EFBIG, "disk %s: its extents have more than %u grain tables",
			d->blk.name, VMDK_GDES_ALL);
	take_header(p, &h, size);
	rc = read_directory(p, &p->gd, p->gd_at);
	if (!rc && !d->blk.read_only && h.flags & VMDK_REDUNDANT)
		rc = read_directory(p, &p->rgd, p->rgd_at);
	if (p->unclean && !d->blk.read_only)
		log_warn("disk %s: who wrote to it last has not closed it", p->file->name);
	return rc;
}

/* ---- extents ---- */

static int check_flat(const struct vmdk_part *p)
{
	int64_t size = raw_file_size(p->file);

	if (size < 0)
		return (int)size;
	if (!range_ok(p->at, p->end - p->start, (uint64_t)size))
		return fail(EINVAL,
			"disk %s: its %lld bytes end before the extent does: %llu from byte %llu "
			"on",
			p->file->name, (long long)size, (unsigned long long)(p->end - p->start),
			(unsigned long long)p->at);
	return 0;
}

static int open_part(struct vmdk_part *p, uint64_t *gdes)
{
	const struct vmdk *d = p->disk;

	if (!p->file)
		return 0;
	if (!d->blk.read_only && (p->read_only || p->file->read_only))
		return fail(EROFS, "disk %s: the extent is read-only", p->file->name);
	return p->kind == VMDK_FLAT ? check_flat(p) : open_sparse(p, gdes);
}

static void describe(struct vmdk *d, const struct vmdk_part *p)
{
	struct blk *b = &d->blk;

	if (!p->file)
		return;
	b->physical_block = MAX(b->physical_block, p->file->physical_block);
	b->discard_align = MAX(b->discard_align, p->file->discard_align);
	b->optimal_io = MAX(b->optimal_io, p->kind == VMDK_SPARSE ? p->grain : p->file->optimal_io);
}

static int open_parts(struct vmdk *d, const struct vmdk_info *info, struct blk *const *extents)
{
	uint64_t at = 0, gdes = 0;

	for (unsigned i = 0; i < info->count; i++) {
		const struct vmdk_extent *e = &info->extent[i];
		struct vmdk_part *p = &d->part[i];
		int rc;

		p->disk = d;
		p->kind = e->kind;
		p->read_only = e->read_only;
		p->start = at;
		p->end = at += e->size;
		p->at = e->at;
		p->unflushed = true;
		p->file = *e->name ? extents[i] : d->file;
		if (p->kind == VMDK_ZERO)
			p->file = NULL;
		rc = open_part(p, &gdes);
		if (rc)
			return rc;
		describe(d, p);
	}
	return 0;
}

/* The descriptor's file is a part of no length, where it is not an extent's. */
static void add_descriptor(struct vmdk *d)
{
	d->files = d->count;
	d->cid_part = &d->part[0];
	if (d->part[0].file == d->file)
		return;
	d->cid_part = &d->part[d->files++];
	d->cid_part->disk = d;
	d->cid_part->kind = VMDK_FLAT;
	d->cid_part->file = d->file;
}

/* ---- what is written first ---- */

/* Another one of as many digits, and neither the old one nor "none". */
static uint32_t other_cid(const struct vmdk_info *info)
{
	uint32_t mask = UINT32_MAX >> (32 - 4 * info->cid_digits);
	uint32_t cid = (uint32_t)now_ns() * 2654435761u & mask;

	while (cid == info->cid || cid == UINT32_MAX)
		cid = (cid + 1) & mask;
	return cid;
}

static int prepare_mark(struct vmdk *d, const struct vmdk_info *info)
{
	char digits[9];
	int rc;

	d->cid_at = align_down(info->cid_at, BLK_SECTOR);
	d->cid_len = (uint32_t)(align_up(info->cid_at + info->cid_digits, BLK_SECTOR) - d->cid_at);
	d->mark.part = d->cid_part;
	if (d->file->read_only)
		return fail(EROFS, "disk %s: the descriptor is read-only", d->file->name);
	rc = blk_read_now(d->file, d->cid_at, d->cid, d->cid_len);
	if (rc)
		return failno(-rc, "disk %s: descriptor", d->file->name);
	/* The file becomes whole sectors, and remains text. */
	for (uint32_t i = 0; d->cid_part->kind == VMDK_FLAT && i < d->cid_len; i++)
		d->cid[i] = d->cid[i] ? d->cid[i] : '\n';
	snprintf(digits, sizeof(digits), "%0*x", (int)info->cid_digits, other_cid(info));
	memcpy(d->cid + (info->cid_at - d->cid_at), digits, info->cid_digits);
	return 0;
}

/* ---- birth ---- */

static void *room_for(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

#define TABLE_BYTES (VMDK_SETS * VMDK_WAYS * sizeof(struct vmdk_table))
#define SPLIT_BYTES (VMDK_SPLITS * sizeof(struct vmdk_split))

void vmdk_free(struct vmdk *d)
{
	for (unsigned i = 0; d->part && i < d->count; i++) {
		free(d->part[i].gd);
		free(d->part[i].rgd);
	}
	if (d->table)
		munmap(d->table, TABLE_BYTES);
	if (d->splits)
		munmap(d->splits, SPLIT_BYTES);
	free(d->part);
	free(d);
}

static int make_room(struct vmdk *d)
{
	d->part = calloc(d->count + 1, sizeof(*d->part));
	d->table = room_for(TABLE_BYTES);
	d->splits = room_for(SPLIT_BYTES);
	d->fresh = VMDK_SPLITS;
	return d->part && d->table && d->splits ? 0
						: fail(ENOMEM, "disk %s: no memory", d->blk.name);
}

static int prepare_unpack(struct vmdk *d, struct decompressor *z)
{
	uint32_t grain = 0;

	for (unsigned i = 0; i < d->count; i++)
		if (d->part[i].packed)
			grain = MAX(grain, d->part[i].grain);
	return grain ? vmdk_unpack_init(d, z, grain) : 0;
}

int vmdk_open(struct blk **out, struct blk *file, const struct vmdk_info *info,
	struct blk *const *extents, const struct vmdk_config *c)
{
	struct vmdk *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return fail(ENOMEM, "disk %s: no memory", file->name);
	d->blk = (struct blk){.ops = &vmdk_ops,
		.name = file->name,
		.size = info->size,
		.physical_block = BLK_SECTOR,
		.read_only = c->read_only,
		.can_zero = true};
	d->file = file;
	d->count = info->count;
	rc = make_room(d);
	rc = rc ? rc : open_parts(d, info, extents);
	if (!rc)
		add_descriptor(d);
	if (!rc && !c->read_only)
		rc = prepare_mark(d, info);
	rc = rc ? rc : prepare_unpack(d, c->decompressor);
	if (rc)
		vmdk_free(d);
	else
		*out = &d->blk;
	return rc;
}
