// SPDX-License-Identifier: MIT
// A small qcow2 image in memory that has something of everything, and is right until a test makes
// it wrong. Each cluster of it has one purpose.
#ifndef TESTS_UNIT_QCOW2_IMAGE_H
#define TESTS_UNIT_QCOW2_IMAGE_H

#include "blk/qcow2_format.h"

#include <string.h>

/* Which cluster is what. */
enum {
	QI_HEADER,
	QI_REFS,
	QI_BLOCK,
	QI_L1,
	QI_SNAPSHOTS,
	QI_SNAPSHOT_L1,
	QI_SHARED_L2, /* of the disk and of the snapshot, which has no other */
	QI_OWN_L2,
	QI_BITMAPS, /* the directory */
	QI_BITMAP_TABLE,
	QI_BITMAP,
	QI_SHARED_DATA,
	QI_DATA,
	QI_ZEROED, /* data that reads as zeroes */
	QI_PACKED, /* two compressed clusters */
	QI_CLUSTERS,
};

#define QI_BITS_MAX 12u
#define QI_BYTES (QI_CLUSTERS << QI_BITS_MAX)
#define QI_L1_ENTRIES 3u
#define QI_EXT_AT 112u /* bytes: the extension of the bitmaps in the header */

struct qcow2_image {
	uint8_t *bytes; /* QI_CLUSTERS clusters, zeroes at first */
	unsigned bits;
};

static inline uint64_t qi_at(const struct qcow2_image *i, unsigned index)
{
	return (uint64_t)index << i->bits;
}

static inline uint8_t *qi_cluster(const struct qcow2_image *i, unsigned index)
{
	return i->bytes + qi_at(i, index);
}

static inline void qi_entry(const struct qcow2_image *i, unsigned table, unsigned n, uint64_t v)
{
	put_be64(qi_cluster(i, table) + 8 * n, v);
}

/* Of 16 bits, in the only block. */
static inline void qi_refcount(const struct qcow2_image *i, unsigned index, unsigned v)
{
	put_be16(qi_cluster(i, QI_BLOCK) + 2 * index, (uint16_t)v);
}

/* The disk's size: what two L2 tables have and a part of a third. */
static inline uint64_t qi_size(const struct qcow2_image *i)
{
	return (2 * (1ull << i->bits) / 8 + 3) << i->bits;
}

static inline void qi_header(const struct qcow2_image *i, unsigned version)
{
	uint8_t *h = i->bytes;

	put_be32(h + QCOW2_AT_MAGIC, QCOW2_MAGIC);
	put_be32(h + QCOW2_AT_VERSION, version);
	put_be32(h + QCOW2_AT_CLUSTER_BITS, i->bits);
	put_be64(h + QCOW2_AT_SIZE, qi_size(i));
	put_be32(h + QCOW2_AT_L1_ENTRIES, QI_L1_ENTRIES);
	put_be64(h + QCOW2_AT_L1, qi_at(i, QI_L1));
	put_be64(h + QCOW2_AT_REFS, qi_at(i, QI_REFS));
	put_be32(h + QCOW2_AT_REFS_CLUSTERS, 1);
	put_be32(h + QCOW2_AT_SNAPSHOTS, 1);
	put_be64(h + QCOW2_AT_SNAPSHOT_TABLE, qi_at(i, QI_SNAPSHOTS));
	put_be32(h + QCOW2_AT_REFCOUNT_ORDER, 4);
	put_be32(h + QCOW2_AT_HEADER_LEN, QI_EXT_AT);
}

static inline void qi_snapshot(const struct qcow2_image *i)
{
	uint8_t *s = qi_cluster(i, QI_SNAPSHOTS);

	put_be64(s, qi_at(i, QI_SNAPSHOT_L1));
	put_be32(s + 8, QI_L1_ENTRIES);
	put_be16(s + 12, 1);
	put_be16(s + 14, 5);
	put_be32(s + 16, 1700000000);
	put_be32(s + 36, 16);
	put_be64(s + 48, qi_size(i));
	memcpy(s + 56, "1first", 6);
}

static inline void qi_bitmap(const struct qcow2_image *i)
{
	uint8_t *e = i->bytes + QI_EXT_AT, *d = qi_cluster(i, QI_BITMAPS);

	put_be64(i->bytes + QCOW2_AT_AUTOCLEAR, 1);
	put_be32(e, 0x23852875);
	put_be32(e + 4, 24);
	put_be32(e + 8, 1);
	put_be64(e + 16, 32);
	put_be64(e + 24, qi_at(i, QI_BITMAPS));
	put_be64(d, qi_at(i, QI_BITMAP_TABLE));
	put_be32(d + 8, 1);
	put_be32(d + 12, 2);
	d[16] = 1;
	d[17] = (uint8_t)i->bits;
	put_be16(d + 18, 4);
	memcpy(d + 24, "bits", 4);
	qi_entry(i, QI_BITMAP_TABLE, 0, qi_at(i, QI_BITMAP));
}

static inline uint64_t qi_compressed(const struct qcow2_image *i, unsigned index, unsigned sector)
{
	return QCOW2_COMPRESSED | (qi_at(i, index) + sector * 512ull);
}

/* Version 3, with clusters of 1 << bits bytes: 512 or 4096. */
static inline void qi_make(struct qcow2_image *i)
{
	memset(i->bytes, 0, (size_t)QI_CLUSTERS << i->bits);
	qi_header(i, 3);
	qi_entry(i, QI_REFS, 0, qi_at(i, QI_BLOCK));
	qi_entry(i, QI_L1, 0, qi_at(i, QI_SHARED_L2));
	qi_entry(i, QI_L1, 1, qi_at(i, QI_OWN_L2) | QCOW2_COPIED);
	qi_entry(i, QI_SNAPSHOT_L1, 0, qi_at(i, QI_SHARED_L2));
	qi_entry(i, QI_SHARED_L2, 0, qi_at(i, QI_SHARED_DATA));
	qi_entry(i, QI_SHARED_L2, 1, QCOW2_ZERO);
	qi_entry(i, QI_OWN_L2, 0, qi_at(i, QI_DATA) | QCOW2_COPIED);
	qi_entry(i, QI_OWN_L2, 1, qi_at(i, QI_ZEROED) | QCOW2_COPIED | QCOW2_ZERO);
	qi_entry(i, QI_OWN_L2, 2, qi_compressed(i, QI_PACKED, 0));
	qi_entry(i, QI_OWN_L2, 3, qi_compressed(i, QI_PACKED, 0) + 100);
	for (unsigned n = QI_SHARED_DATA; n < QI_CLUSTERS; n++)
		memset(qi_cluster(i, n), (int)n, 1u << i->bits);
	for (unsigned n = 0; n < QI_CLUSTERS; n++)
		qi_refcount(
			i, n, n == QI_SHARED_L2 || n == QI_SHARED_DATA || n == QI_PACKED ? 2 : 1);
	qi_snapshot(i);
	qi_bitmap(i);
}

#endif
