// SPDX-License-Identifier: MIT
// A header may be anyone's: nothing of it is used before it is checked, and nothing that it points
// to is looked at here.
#include "blk/qcow2_format.h"

#include "base/fd.h"
#include "base/log.h"
#include "blk/now.h"
#include "blk/raw.h"

#include <errno.h>
#include <stdlib.h>

/* What one check after another needs. */
struct look {
	struct qcow2_header *h;
	const char *name; /* of the file */
	uint64_t file_size;
	uint64_t cluster;   /* bytes */
	const uint8_t *raw; /* the first cluster */
	uint64_t backing;   /* where its name begins; 0: none */
};

static int bad(const struct look *l, const char *field, uint64_t value)
{
	return fail(EINVAL, "disk %s: qcow2 header: %s is %llu, which cannot be", l->name, field,
		(unsigned long long)value);
}

/* ---- features ---- */

/* Its name as the image has it; NULL: it has none. */
static const uint8_t *feature_name(const uint8_t *table, uint64_t len, unsigned bit)
{
	for (uint64_t at = 0; table && at + QCOW2_FEATURE_LEN <= len; at += QCOW2_FEATURE_LEN)
		if (table[at] == 0 && table[at + 1] == bit)
			return table + at + 2;
	return NULL;
}

/* Only what can be printed: the name may be anyone's too. */
static void printable(char *out, const uint8_t *name, size_t len)
{
	size_t i = 0;

	for (; name && i < len && name[i]; i++)
		out[i] = name[i] < 0x20 || name[i] > 0x7e ? '?' : (char)name[i];
	out[i] = '\0';
}

static int check_features(const struct look *l, const uint8_t *table, uint64_t len)
{
	const uint64_t known = QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_COMPRESSION | QCOW2_EXTENDED_L2;
	uint64_t unknown = l->h->incompatible & ~known;
	char name[QCOW2_FEATURE_LEN];
	unsigned bit;

	if (unknown & QCOW2_DATA_FILE)
		return fail(ENOTSUP,
			"disk %s: qcow2: its data is in an external data file, which is not "
			"supported",
			l->name);
	if (!unknown)
		return 0;
	bit = (unsigned)__builtin_ctzll(unknown);
	printable(name, feature_name(table, len, bit), QCOW2_FEATURE_LEN - 2);
	return fail(ENOTSUP,
		"disk %s: qcow2: has incompatible feature %u%s%s%s, which is not known", l->name,
		bit, *name ? ", \"" : "", name, *name ? "\"" : "");
}

/* ---- extensions ---- */

static int take_backing_format(const struct look *l, const uint8_t *data, uint32_t len)
{
	struct qcow2_info *i = &l->h->info;

	if (len >= sizeof(i->backing_format) || memchr(data, '\0', len))
		return bad(l, "the length of the backing file's format", len);
	memcpy(i->backing_format, data, len);
	i->backing_format[len] = '\0';
	return 0;
}

static int read_extensions(const struct look *l)
{
	uint64_t at = l->h->len, end = l->backing ? l->backing : l->cluster;
	const uint8_t *features = NULL;
	uint64_t features_len = 0;
	int rc = 0;

	while (!rc && at + 8 <= end) {
		uint32_t type = get_be32(l->raw + at), len = get_be32(l->raw + at + 4);
		const uint8_t *data = l->raw + at + 8;

		if (type == QCOW2_EXT_END)
			break;
		if (!range_ok(at + 8, len, end))
			return fail(EINVAL,
				"disk %s: qcow2 header: the extension at byte %llu has %u bytes, "
				"which end past byte %llu",
				l->name, (unsigned long long)at, len, (unsigned long long)end);
		if (type == QCOW2_EXT_BACKING_FORMAT)
			rc = take_backing_format(l, data, len);
		if (type == QCOW2_EXT_FEATURES) {
			features = data;
			features_len = len;
		}
		at += 8 + align_up(len, 8);
	}
	return rc ? rc : check_features(l, features, features_len);
}

static int read_backing(struct look *l)
{
	uint64_t off = get_be64(l->raw + QCOW2_AT_BACKING);
	uint32_t len = get_be32(l->raw + QCOW2_AT_BACKING_LEN);

	if (!off || !len)
		return 0;
	if (len > QCOW2_BACKING_MAX)
		return bad(l, "the length of the backing file's name", len);
	if (off < l->h->len || !range_ok(off, len, l->cluster))
		return bad(l, "the offset of the backing file's name", off);
	if (memchr(l->raw + off, '\0', len))
		return fail(EINVAL,
			"disk %s: qcow2 header: the backing file's name has a NUL in it", l->name);
	memcpy(l->h->info.backing, l->raw + off, len);
	l->backing = off;
	return 0;
}

/* ---- fields ---- */

static int check_table(const struct look *l, const char *what, uint64_t off)
{
	if (off % l->cluster || off >= l->file_size || off >= QCOW2_HOST_MAX)
		return fail(EINVAL,
			"disk %s: qcow2 header: %s is said to begin at byte %llu, which %s",
			l->name, what, (unsigned long long)off,
			off % l->cluster ? "is amid a cluster" : "is past the file's end");
	return 0;
}

static int read_tables(const struct look *l)
{
	struct qcow2_header *h = l->h;
	uint64_t needed = qcow2_l1_needed(h->info.size, h->info.cluster_bits, h->info.extended_l2);
	int rc;

	h->l1_entries = get_be32(l->raw + QCOW2_AT_L1_ENTRIES);
	h->l1 = get_be64(l->raw + QCOW2_AT_L1);
	h->refs = get_be64(l->raw + QCOW2_AT_REFS);
	h->refs_clusters = get_be32(l->raw + QCOW2_AT_REFS_CLUSTERS);
	h->info.snapshots = get_be32(l->raw + QCOW2_AT_SNAPSHOTS);
	h->snapshot_table = get_be64(l->raw + QCOW2_AT_SNAPSHOT_TABLE);
	if (needed > QCOW2_L1_BYTES_MAX / 8)
		return bad(l, "the disk's size", h->info.size);
	if (h->l1_entries > QCOW2_L1_BYTES_MAX / 8 || h->l1_entries < needed)
		return bad(l, "the number of L1 entries", h->l1_entries);
	if (!h->refs_clusters || h->refs_clusters > QCOW2_REFS_BYTES_MAX / l->cluster)
		return bad(l, "the number of the refcount table's clusters", h->refs_clusters);
	if (h->info.snapshots > QCOW2_SNAPSHOTS_MAX)
		return bad(l, "the number of snapshots", h->info.snapshots);
	rc = h->l1_entries ? check_table(l, "the L1 table", h->l1) : 0;
	rc = rc ? rc : check_table(l, "the refcount table", h->refs);
	if (!rc && h->info.snapshots)
		rc = check_table(l, "the snapshot table", h->snapshot_table);
	if (!rc && (!h->refs || (h->l1_entries && !h->l1)))
		return bad(l, "the offset of a table", 0);
	return rc;
}

static int read_compression(const struct look *l)
{
	struct qcow2_header *h = l->h;
	unsigned type = h->len > QCOW2_AT_COMPRESSION ? l->raw[QCOW2_AT_COMPRESSION] : 0;

	if (!(h->incompatible & QCOW2_COMPRESSION))
		return type ? bad(l, "the compression type", type) : 0;
	if (type != QCOW2_COMPRESSION_ZSTD)
		return fail(
			ENOTSUP, "disk %s: qcow2: compression type %u is not known", l->name, type);
	h->info.zstd = true;
	return 0;
}

static int read_version_3(const struct look *l)
{
	struct qcow2_header *h = l->h;
	struct qcow2_info *i = &h->info;

	h->incompatible = get_be64(l->raw + QCOW2_AT_INCOMPATIBLE);
	h->compatible = get_be64(l->raw + QCOW2_AT_COMPATIBLE);
	h->autoclear = get_be64(l->raw + QCOW2_AT_AUTOCLEAR);
	h->refcount_order = get_be32(l->raw + QCOW2_AT_REFCOUNT_ORDER);
	h->len = get_be32(l->raw + QCOW2_AT_HEADER_LEN);
	i->dirty = h->incompatible & QCOW2_DIRTY;
	i->corrupt = h->incompatible & QCOW2_CORRUPT;
	i->extended_l2 = h->incompatible & QCOW2_EXTENDED_L2;
	i->lazy_refcounts = h->compatible & QCOW2_LAZY_REFCOUNTS;
	if (h->refcount_order > 6)
		return bad(l, "the refcount order", h->refcount_order);
	if (h->len < QCOW2_V3_LEN || h->len % 8 || h->len > l->cluster)
		return bad(l, "the header's length", h->len);
	if (i->extended_l2 && i->cluster_bits < 14)
		return bad(l, "cluster_bits, with extended L2 entries,", i->cluster_bits);
	return read_compression(l);
}

static int check_crypt(const struct look *l)
{
	uint32_t method = get_be32(l->raw + QCOW2_AT_CRYPT);

	if (method > 2)
		return bad(l, "the encryption method", method);
	if (method)
		return fail(ENOTSUP, "disk %s: qcow2: is encrypted (%s), which is not supported",
			l->name, method == 1 ? "AES" : "LUKS");
	return 0;
}

static int read_fields(struct look *l)
{
	struct qcow2_header *h = l->h;
	int rc = 0;

	h->refcount_order = 4;
	h->len = QCOW2_V2_LEN;
	h->info.size = get_be64(l->raw + QCOW2_AT_SIZE);
	if (h->info.size > RAW_SIZE_MAX)
		return bad(l, "the disk's size", h->info.size);
	if (h->info.version == 3)
		rc = read_version_3(l);
	if (!rc)
		h->info.refcount_bits = 1u << h->refcount_order;
	rc = rc ? rc : read_backing(l);
	rc = rc ? rc : read_extensions(l);
	rc = rc ? rc : check_crypt(l);
	return rc ? rc : read_tables(l);
}

/* What has to be known to read the rest. */
static int read_start(struct look *l, struct blk *file)
{
	_Alignas(4096) uint8_t start[BLK_SECTOR];
	struct qcow2_info *i = &l->h->info;
	int rc = blk_read_now(file, 0, start, sizeof(start));

	if (rc)
		return failno(-rc, "disk %s: qcow2 header", l->name);
	if (get_be32(start + QCOW2_AT_MAGIC) != QCOW2_MAGIC)
		return fail(EINVAL, "disk %s: is no qcow2 image", l->name);
	i->version = get_be32(start + QCOW2_AT_VERSION);
	if (i->version < 2 || i->version > 3)
		return fail(
			ENOTSUP, "disk %s: qcow2: version %u is not known", l->name, i->version);
	i->cluster_bits = get_be32(start + QCOW2_AT_CLUSTER_BITS);
	if (i->cluster_bits < QCOW2_CLUSTER_BITS_MIN || i->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return bad(l, "cluster_bits", i->cluster_bits);
	l->cluster = 1ull << i->cluster_bits;
	return 0;
}

int qcow2_read_header(struct qcow2_header *h, struct blk *file)
{
	CLEANUP_FREE uint8_t *raw = NULL;
	struct look l = {.h = h, .name = file->name};
	int64_t size = raw_file_size(file);
	int rc;

	if (size < 0)
		return (int)size;
	l.file_size = (uint64_t)size;
	*h = (struct qcow2_header){0};
	rc = read_start(&l, file);
	if (rc)
		return rc;
	raw = aligned_alloc(4096, MAX(l.cluster, 4096));
	if (!raw)
		return fail(ENOMEM, "disk %s: no memory", l.name);
	l.raw = raw;
	rc = blk_read_now(file, 0, raw, l.cluster);
	return rc ? failno(-rc, "disk %s: qcow2 header", l.name) : read_fields(&l);
}

int qcow2_look(struct qcow2_info *out, struct blk *file)
{
	struct qcow2_header h;
	int rc = qcow2_read_header(&h, file);

	*out = h.info;
	return rc;
}
