// SPDX-License-Identifier: MIT
// VMware's virtual disks (Virtual Disk Format 5.0): monolithicSparse, monolithicFlat,
// twoGbMaxExtentSparse, twoGbMaxExtentFlat and streamOptimized, the last for reading only.
#ifndef BLK_VMDK_H
#define BLK_VMDK_H

#include "blk/blk.h"

struct decompressor;

#define VMDK_EXTENTS_MAX 200u

enum vmdk_extent_kind { VMDK_FLAT, VMDK_SPARSE, VMDK_ZERO };

struct vmdk_extent {
	enum vmdk_extent_kind kind;
	uint64_t size;  /* bytes of the disk */
	uint64_t at;    /* VMDK_FLAT: byte of the file where it begins */
	char name[256]; /* of the file, as the descriptor has it; empty: the image's own file */
};

/* What an image's descriptor says. */
struct vmdk_info {
	uint64_t size; /* bytes, of all extents */
	char type[32]; /* createType */
	unsigned count;
	struct vmdk_extent extent[VMDK_EXTENTS_MAX];
};

/*
 * Reads an image's descriptor, which is the file's text or is embedded in a sparse one. `file` is a
 * raw disk that `holds_format`. 0 or -errno with a message that names the file and the field.
 * -ENOTSUP: a parent image, devices, a type that we do not know.
 */
int vmdk_look(struct vmdk_info *out, struct blk *file);

/*
 * Opens the image. `files` are the extents' disks, NULL for VMDK_ZERO, each a raw disk that
 * `holds_format` where the extent is sparse; taken on success. Where an extent's name is empty its
 * file is the image's own.
 */
int vmdk_open(struct blk **out, const struct vmdk_info *info, struct blk *const *files,
	bool read_only, struct decompressor *d);

/* Makes an empty file a monolithicSparse image of `size` bytes, durable; `name` is the file's own,
 * for the descriptor. 0 or -errno. */
int vmdk_create(struct blk *file, const char *name, uint64_t size);

#endif
