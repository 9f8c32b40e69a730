// SPDX-License-Identifier: MIT
// qcow2 images, versions 2 and 3 (QEMU's docs/interop/qcow2.txt): a disk over the file that holds
// the image and, where it has one, over its backing file's disk.
//
// Durability is that of blk/blk.h: what was flushed is there after a crash at any point, and the
// worst that a crash leaves of the image's own books are clusters that nobody uses.
#ifndef BLK_QCOW2_H
#define BLK_QCOW2_H

#include "blk/blk.h"

struct decompressor;

/* What a header says, checked; and nothing of what it points to. */
struct qcow2_info {
	unsigned version;      /* 2 or 3 */
	uint64_t size;         /* of the disk, bytes */
	unsigned cluster_bits; /* 9 to 21 */
	bool extended_l2, lazy_refcounts, dirty, corrupt;
	bool zstd; /* compressed clusters are; else they are deflate */
	unsigned refcount_bits;
	unsigned snapshots;
	char backing[1024];      /* its name as the image has it; empty: none */
	char backing_format[16]; /* empty: the image does not say */
};

/*
 * Reads the header of an image from its file. `file` is a raw disk that `holds_format`. 0 or -errno
 * with a message that names the file and the field: -EINVAL for what cannot be, -ENOTSUP for what
 * we do not know (an incompatible bit, encryption, an external data file).
 */
int qcow2_look(struct qcow2_info *out, struct blk *file);

struct qcow2_config {
	bool read_only;
	uint64_t cache_bytes;              /* of L2 tables; 0: the default */
	struct decompressor *decompressor; /* borrowed; NULL: compressed clusters are -ENOTSUP */
};

/*
 * Opens an image. Takes `file`, and `backing` where the image names one (else it is NULL), on
 * success. Refuses one that is marked corrupt or dirty, unless read_only: who opens has it repaired
 * first, which the monitor does not carry.
 */
int qcow2_open(
	struct blk **out, struct blk *file, struct blk *backing, const struct qcow2_config *c);

/* Of a disk of qcow2_open its file's and its backing file's, NULL of any other. They stay its. */
struct blk *qcow2_file(struct blk *b);
struct blk *qcow2_backing(struct blk *b);

/* Of one at rest: what backs it from now on; what did before is the caller's. */
void qcow2_stand_on(struct blk *b, struct blk *backing);

struct qcow2_create {
	uint64_t size;
	unsigned version;      /* 0: 3 */
	unsigned cluster_bits; /* 0: 16 */
	bool lazy_refcounts, zstd;
	const char *backing, *backing_format; /* NULL: none */
};

/* Makes an empty file an image, durable. 0 or -errno. */
int qcow2_create(struct blk *file, const struct qcow2_create *c);

/* For tools, once, before the first image is opened: blk_map and blk_resize know them. The monitor
 * does without, and is smaller. */
void qcow2_use_tools(void);

/*
 * For tools: writes one cluster that is not allocated yet, compressed by whoever calls to `len`
 * bytes, which are less than a cluster. Blocks. 0 or -errno. `b` is of qcow2_open.
 */
int qcow2_write_compressed(struct blk *b, uint64_t off, const void *packed, uint64_t len);

#endif
