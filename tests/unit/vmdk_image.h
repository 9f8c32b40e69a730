// SPDX-License-Identifier: MIT
// Sparse extents as no tool makes them: with small grains and tables, or without tables.
#ifndef TESTS_UNIT_VMDK_IMAGE_H
#define TESTS_UNIT_VMDK_IMAGE_H

#include "base/util.h"
#include "blk/vmdk_parts.h"

#include <stdio.h>
#include <string.h>

struct vmdk_shape {
	uint64_t capacity;    /* sectors */
	uint32_t grain, gtes; /* sectors, entries */
	uint32_t flags;       /* of enum vmdk_flag */
	bool no_tables;
};

/* Sectors. */
struct vmdk_places {
	uint64_t gdes, directory, table, rgd, gd, overhead;
};

static inline struct vmdk_places vmdk_places(const struct vmdk_shape *s)
{
	struct vmdk_places p = {.gdes = (s->capacity - 1) / ((uint64_t)s->grain * s->gtes) + 1};
	uint64_t copy;

	p.directory = align_up(p.gdes * 4, 512) / 512;
	p.table = s->gtes * 4 / 512;
	copy = p.directory + (s->no_tables ? 0 : p.gdes * p.table);
	p.rgd = 3;
	p.gd = p.rgd + (s->flags & VMDK_REDUNDANT ? copy : 0);
	p.overhead = align_up(p.gd + copy, s->grain);
	return p;
}

static inline void vmdk_put_directory(
	uint8_t *image, const struct vmdk_places *p, uint64_t at, bool no_tables)
{
	for (uint64_t i = 0; i < p->gdes && !no_tables; i++)
		put_le32(image + at * 512 + i * 4, (uint32_t)(at + p->directory + i * p->table));
}

/* All but the grains into `image`, which is zeroed: its bytes, vmdk_places().overhead * 512. */
static inline uint64_t vmdk_put_image(uint8_t *image, const struct vmdk_shape *s)
{
	struct vmdk_places p = vmdk_places(s);

	put_le32(image, VMDK_MAGIC);
	put_le32(image + 4, s->flags & VMDK_ZEROED ? 2 : 1);
	put_le32(image + 8, s->flags | VMDK_NEWLINES);
	put_le64(image + 12, s->capacity);
	put_le64(image + 20, s->grain);
	put_le64(image + 28, 1);
	put_le64(image + 36, 2);
	put_le32(image + 44, s->gtes);
	put_le64(image + 48, s->flags & VMDK_REDUNDANT ? p.rgd : 0);
	put_le64(image + 56, p.gd);
	put_le64(image + 64, p.overhead);
	memcpy(image + 73, "\n \r\n", 4);
	snprintf((char *)image + 512, 1024,
		"# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\n"
		"createType=\"monolithicSparse\"\nRW %llu SPARSE \"a.vmdk\"\n",
		(unsigned long long)s->capacity);
	if (s->flags & VMDK_REDUNDANT)
		vmdk_put_directory(image, &p, p.rgd, s->no_tables);
	vmdk_put_directory(image, &p, p.gd, s->no_tables);
	return p.overhead * 512;
}

#endif
