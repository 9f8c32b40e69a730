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
	bool read_only; /* the descriptor has it so */
	uint64_t size;  /* bytes of the disk */
	uint64_t at;    /* VMDK_FLAT: byte of the file where it begins */
	char name[256]; /* of the file, as the descriptor has it; empty: the image's own file */
};

/* What an image's descriptor says. */
struct vmdk_info {
	uint64_t size;   /* bytes, of all extents */
	char type[32];   /* createType */
	uint32_t cid;    /* says which content it has: another after each session that writes */
	uint64_t cid_at; /* byte of the image's own file where its digits are */
	unsigned cid_digits;
	unsigned count;
	struct vmdk_extent extent[VMDK_EXTENTS_MAX];
};

/*
 * Reads an image's descriptor, which is the file's text or is embedded in a sparse one. `file` is a
 * raw disk that `holds_format`. 0 or -errno with a message that names the file and the field.
 * -ENOTSUP: a parent image, devices, a type that we do not know.
 */
int vmdk_look(struct vmdk_info *out, struct blk *file);

struct vmdk_config {
	bool read_only;
	struct decompressor *decompressor; /* borrowed; NULL: compressed grains are -ENOTSUP */
};

/*
 * Opens the image. `file` is its own file, `extents` the disks of those extents that have a name,
 * NULL for the others; each is a raw disk, one that `holds_format` but where the extent is flat.
 * All are taken on success. -ENOTSUP: grains that are compressed, or whose changes someone keeps
 * track of, cannot be written.
 */
int vmdk_open(struct blk **out, struct blk *file, const struct vmdk_info *info,
	struct blk *const *extents, const struct vmdk_config *c);

/* For tools, once, before the first image is opened: blk_map knows them. The monitor does without,
 * and is smaller. */
void vmdk_use_tools(void);

/* Makes an empty file a monolithicSparse image of `size` bytes, durable; `name` is the file's own,
 * without a folder, for the descriptor. 0 or -errno. */
int vmdk_create(struct blk *file, const char *name, uint64_t size);

#endif
