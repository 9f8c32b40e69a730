// SPDX-License-Identifier: MIT
// What lies where in a qcow2 image, and what its header says. All numbers in it are big-endian.
#ifndef BLK_QCOW2_FORMAT_H
#define BLK_QCOW2_FORMAT_H

#include "blk/qcow2.h"

#include "base/util.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_CLUSTER_BITS_MIN 9u
#define QCOW2_CLUSTER_BITS_MAX 21u
#define QCOW2_BACKING_MAX 1023u
/* Both tables are in memory as a whole. */
#define QCOW2_L1_BYTES_MAX MIB(32)
#define QCOW2_REFS_BYTES_MAX MIB(8)
#define QCOW2_SNAPSHOTS_MAX 65536u

/* Offsets in the header. */
enum {
	QCOW2_AT_MAGIC = 0,
	QCOW2_AT_VERSION = 4,
	QCOW2_AT_BACKING = 8,
	QCOW2_AT_BACKING_LEN = 16,
	QCOW2_AT_CLUSTER_BITS = 20,
	QCOW2_AT_SIZE = 24,
	QCOW2_AT_CRYPT = 32,
	QCOW2_AT_L1_ENTRIES = 36,
	QCOW2_AT_L1 = 40,
	QCOW2_AT_REFS = 48,
	QCOW2_AT_REFS_CLUSTERS = 56,
	QCOW2_AT_SNAPSHOTS = 60,
	QCOW2_AT_SNAPSHOT_TABLE = 64,
	QCOW2_V2_LEN = 72,
	/* Version 3 goes on. */
	QCOW2_AT_INCOMPATIBLE = 72,
	QCOW2_AT_COMPATIBLE = 80,
	QCOW2_AT_AUTOCLEAR = 88,
	QCOW2_AT_REFCOUNT_ORDER = 96,
	QCOW2_AT_HEADER_LEN = 100,
	QCOW2_V3_LEN = 104,
	QCOW2_AT_COMPRESSION = 104,
};

/* Incompatible features. */
#define QCOW2_DIRTY (1ull << 0)
#define QCOW2_CORRUPT (1ull << 1)
#define QCOW2_DATA_FILE (1ull << 2)
#define QCOW2_COMPRESSION (1ull << 3)
#define QCOW2_EXTENDED_L2 (1ull << 4)
/* Compatible features. */
#define QCOW2_LAZY_REFCOUNTS (1ull << 0)

#define QCOW2_COMPRESSION_ZSTD 1u

/* Types of header extensions. */
#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURES 0x6803f857u
#define QCOW2_FEATURE_LEN 48u

/* Entries of L1 and L2 tables. */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO (1ull << 0)
#define QCOW2_L1_RESERVED (~(QCOW2_OFFSET_MASK | QCOW2_COPIED))
#define QCOW2_L2_RESERVED (~(QCOW2_OFFSET_MASK | QCOW2_COPIED | QCOW2_COMPRESSED | QCOW2_ZERO))
/* Entries of the refcount table. */
#define QCOW2_REFS_MASK (~0x1ffull)

/* No host cluster is at or past this byte. */
#define QCOW2_HOST_MAX (1ull << 56)

struct qcow2_header {
	struct qcow2_info info;
	uint64_t incompatible, compatible, autoclear; /* features; 0 in version 2 */
	uint64_t l1, refs, snapshot_table;            /* bytes: where the tables begin */
	uint32_t l1_entries, refs_clusters;
	unsigned refcount_order;
	uint32_t len; /* bytes, of the header without what follows it */
};

/* As qcow2_look, with what else there is in the header. */
int qcow2_read_header(struct qcow2_header *h, struct blk *file);

/* Entries of an L1 table for a disk of `size` bytes. */
static inline uint64_t qcow2_l1_needed(uint64_t size, unsigned cluster_bits, bool extended)
{
	unsigned bits = 2 * cluster_bits - (extended ? 4 : 3);

	return (size >> bits) + (size & ((1ull << bits) - 1) ? 1 : 0);
}

static inline uint16_t get_be16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

static inline uint32_t get_be32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline uint64_t get_be64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static inline void put_be16(void *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put_be32(void *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put_be64(void *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}

#endif
