// SPDX-License-Identifier: MIT
// A new image: the header, the refcount table and its blocks, an L1 table without an entry. The
// header is written when all else is durable, so that what is no image yet does not look like one.
#include "blk/qcow2_format.h"

#include "base/fd.h"
#include "base/log.h"
#include "blk/now.h"
#include "blk/raw.h"

#include <errno.h>
#include <stdlib.h>

#define REFCOUNT_ORDER 4u
#define HEADER_LEN 112u

/* In clusters, in the order in which they lie in the file, after the header's. */
struct layout {
	unsigned bits;
	uint64_t table, blocks, l1, total;
	uint32_t l1_entries;
};

static int check(const struct blk *file, const struct qcow2_create *c)
{
	size_t backing = c->backing ? strlen(c->backing) : 0;
	size_t format = c->backing_format ? strlen(c->backing_format) : 0;

	if (c->version < 2 || c->version > 3)
		return fail(EINVAL, "disk %s: qcow2 has versions 2 and 3", file->name);
	if (c->cluster_bits < QCOW2_CLUSTER_BITS_MIN || c->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return fail(EINVAL, "disk %s: clusters are a power of two from 512 B to 2 MiB",
			file->name);
	if (c->size % BLK_SECTOR || c->size > RAW_SIZE_MAX)
		return fail(EINVAL, "disk %s: %llu bytes are not whole sectors of 512, or too many",
			file->name, (unsigned long long)c->size);
	if (c->version == 2 && (c->lazy_refcounts || c->zstd))
		return fail(EINVAL, "disk %s: qcow2 version 2 has no lazy refcounts and no zstd",
			file->name);
	if (qcow2_l1_needed(c->size, c->cluster_bits, false) > QCOW2_L1_BYTES_MAX / 8)
		return fail(EFBIG,
			"disk %s: %llu bytes are too many for clusters of %u: take larger ones",
			file->name, (unsigned long long)c->size, 1u << c->cluster_bits);
	if (backing > QCOW2_BACKING_MAX || format > 15 ||
		HEADER_LEN + 16 + align_up(format, 8) + backing > 1u << c->cluster_bits)
		return fail(ENAMETOOLONG,
			"disk %s: the name of its backing file is too long for the header",
			file->name);
	return 0;
}

static uint64_t clusters_for(uint64_t n, uint64_t each, unsigned bits)
{
	return (n * each + (1ull << bits) - 1) >> bits;
}

static struct layout plan(const struct qcow2_create *c)
{
	struct layout l = {.bits = c->cluster_bits, .table = 1, .blocks = 1};
	uint64_t counted = (8ull << l.bits) >> REFCOUNT_ORDER; /* clusters a block counts */
	uint64_t before;

	l.l1_entries = (uint32_t)qcow2_l1_needed(c->size, l.bits, false);
	l.l1_entries = MAX(l.l1_entries, 1);
	l.l1 = clusters_for(l.l1_entries, 8, l.bits);
	do {
		before = l.total;
		l.total = 1 + l.table + l.blocks + l.l1;
		l.blocks = (l.total + counted - 1) / counted;
		l.table = clusters_for(l.blocks, 8, l.bits);
	} while (l.total != before);
	return l;
}

static uint64_t put_extension(uint8_t *header, uint64_t at, uint32_t type, const char *text)
{
	size_t len = strlen(text);

	put_be32(header + at, type);
	put_be32(header + at + 4, (uint32_t)len);
	memcpy(header + at + 8, text, len);
	return at + 8 + align_up(len, 8);
}

static void put_backing(uint8_t *header, uint64_t at, const struct qcow2_create *c)
{
	size_t len = strlen(c->backing);

	if (c->backing_format)
		at = put_extension(header, at, QCOW2_EXT_BACKING_FORMAT, c->backing_format);
	at += 8; /* the end of the extensions: zeroes */
	memcpy(header + at, c->backing, len);
	put_be64(header + QCOW2_AT_BACKING, at);
	put_be32(header + QCOW2_AT_BACKING_LEN, (uint32_t)len);
}

static void put_version_3(uint8_t *header, const struct qcow2_create *c)
{
	put_be64(header + QCOW2_AT_INCOMPATIBLE, c->zstd ? QCOW2_COMPRESSION : 0);
	put_be64(header + QCOW2_AT_COMPATIBLE, c->lazy_refcounts ? QCOW2_LAZY_REFCOUNTS : 0);
	put_be32(header + QCOW2_AT_REFCOUNT_ORDER, REFCOUNT_ORDER);
	put_be32(header + QCOW2_AT_HEADER_LEN, HEADER_LEN);
	header[QCOW2_AT_COMPRESSION] = c->zstd ? QCOW2_COMPRESSION_ZSTD : 0;
}

static void put_header(uint8_t *header, const struct qcow2_create *c, const struct layout *l)
{
	put_be32(header + QCOW2_AT_MAGIC, QCOW2_MAGIC);
	put_be32(header + QCOW2_AT_VERSION, c->version);
	put_be32(header + QCOW2_AT_CLUSTER_BITS, l->bits);
	put_be64(header + QCOW2_AT_SIZE, c->size);
	put_be32(header + QCOW2_AT_L1_ENTRIES, l->l1_entries);
	put_be64(header + QCOW2_AT_L1, (1 + l->table + l->blocks) << l->bits);
	put_be64(header + QCOW2_AT_REFS, 1ull << l->bits);
	put_be32(header + QCOW2_AT_REFS_CLUSTERS, (uint32_t)l->table);
	if (c->version == 3)
		put_version_3(header, c);
	if (c->backing)
		put_backing(header, c->version == 3 ? HEADER_LEN : QCOW2_V2_LEN, c);
}

/* Writes clusters [from, from + count) of which only the first `used` bytes are not zeroes. What is
 * past the end of an empty file is zeroes; of a device nothing is. */
static int write_part(
	struct blk *file, const uint8_t *image, uint64_t from, uint64_t len, uint64_t used)
{
	int64_t size = raw_file_size(file);

	if (size < 0)
		return (int)size;
	if ((uint64_t)size <= from)
		len = MIN(len, align_up(used, 4096));
	return blk_write_now(file, from, image + from, len);
}

static int write_image(
	struct blk *file, uint8_t *image, const struct qcow2_create *c, const struct layout *l)
{
	uint64_t cluster = 1ull << l->bits;
	uint64_t blocks = (1 + l->table) * cluster, l1 = blocks + l->blocks * cluster;
	int rc;

	put_header(image, c, l);
	for (uint64_t i = 0; i < l->blocks; i++)
		put_be64(image + cluster + 8 * i, blocks + i * cluster);
	for (uint64_t i = 0; i < l->total; i++)
		put_be16(image + blocks + 2 * i, 1);
	rc = write_part(file, image, cluster, l->table * cluster, l->blocks * 8);
	rc = rc ? rc : write_part(file, image, blocks, l->blocks * cluster, l->total * 2);
	rc = rc ? rc : write_part(file, image, l1, l->l1 * cluster, l->l1_entries * 8ull);
	rc = rc ? rc : blk_flush_now(file);
	rc = rc ? rc : blk_write_now(file, 0, image, cluster);
	rc = rc ? rc : blk_flush_now(file);
	return rc ? failno(-rc, "disk %s", file->name) : 0;
}

int qcow2_create(struct blk *file, const struct qcow2_create *config)
{
	CLEANUP_FREE uint8_t *image = NULL;
	struct qcow2_create c = *config;
	struct layout l;
	int rc;

	c.version = c.version ? c.version : 3;
	c.cluster_bits = c.cluster_bits ? c.cluster_bits : 16;
	rc = check(file, &c);
	if (rc)
		return rc;
	l = plan(&c);
	image = aligned_alloc(4096, align_up(l.total << l.bits, 4096));
	if (!image)
		return fail(ENOMEM, "disk %s: no memory", file->name);
	memset(image, 0, l.total << l.bits);
	return write_image(file, image, &c, &l);
}
