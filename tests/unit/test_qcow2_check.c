// SPDX-License-Identifier: MIT
// Checks of images: what QEMU makes is counted as QEMU counts it; each field and entry that can be
// wrong is found out, named, and put right where it can be.
#include "tests/unit/image_engine.h"
#include "tests/unit/qcow2_image.h"

#include "blk/now.h"
#include "blk/qcow2_count.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ---- findings ---- */

static char findings[200 * 256];
static unsigned told;

static void note(void *arg, const char *line)
{
	told++;
	strncat(findings, line, sizeof(findings) - strlen(findings) - 2);
	strcat(findings, "\n");
}

static int check(struct qcow2_report *r, const char *name, enum qcow2_repair what)
{
	struct blk *file = image_file(engine, name, true, 0);
	int rc;

	*r = (struct qcow2_report){.found = note};
	findings[0] = '\0';
	told = 0;
	rc = qcow2_check(r, file, what);
	blk_destroy(file);
	return rc;
}

/* ---- as QEMU counts ---- */

/* A number of `qemu-img check --output=json`, which leaves out what is 0. */
static uint64_t qemu_number(const char *text, const char *name)
{
	char key[64];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\": ", name);
	at = strstr(text, key);
	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void same_as_qemu(const char *name)
{
	struct qcow2_report r;
	char text[4096] = {0};
	FILE *f;
	int status = run_status("qemu-img check --output=json %s", name);

	assert_true(status == 0 || status == 2 || status == 3);
	f = fopen("said", "r");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	assert_int_equal(check(&r, name, QCOW2_REPAIR_NOTHING), 0);
	if (r.corruptions != qemu_number(text, "corruptions") ||
		r.leaks != qemu_number(text, "leaks"))
		fail_msg("%s: %llu corruptions, %llu leaks, and QEMU says\n%s\n%s", name,
			(unsigned long long)r.corruptions, (unsigned long long)r.leaks, text,
			findings);
	assert_int_equal(r.check_errors, qemu_number(text, "check-errors"));
	assert_int_equal(r.image_end, qemu_number(text, "image-end-offset"));
	assert_int_equal(r.total_clusters, qemu_number(text, "total-clusters"));
	assert_int_equal(r.allocated_clusters, qemu_number(text, "allocated-clusters"));
	assert_int_equal(r.fragmented_clusters, qemu_number(text, "fragmented-clusters"));
	assert_int_equal(r.compressed_clusters, qemu_number(text, "compressed-clusters"));
}

static const char *const options[] = {
	"cluster_size=512",
	"cluster_size=4k,compat=0.10",
	"cluster_size=64k,lazy_refcounts=on",
	"cluster_size=2M",
	"cluster_size=4k,refcount_bits=1",
	"cluster_size=512,refcount_bits=2",
	"cluster_size=1k,refcount_bits=4",
	"cluster_size=4k,refcount_bits=8",
	"cluster_size=4k,refcount_bits=32",
	"cluster_size=512,refcount_bits=64",
	"cluster_size=64k,preallocation=metadata",
	"cluster_size=16k,extended_l2=on",
	"cluster_size=4k,compression_type=zstd",
};

/* Data here and there, all of it at 4 KiB, and what a zeroing and a discard leave. */
static void fill(const char *name)
{
	run_ok("qemu-io -c 'write -P 1 0 300k' -c 'write -P 2 3M 100k' -c 'write -P 3 1M 4k' "
	       "-c 'write -P 4 900k 12k' -c 'discard 3M 32k' -c 'write 5M 64k' %s && "
	       "( qemu-io -c 'write -z 5M 32k' -c 'write -z -u 64k 8k' %s || true )",
		name, name);
}

static void test_sound(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		bool snapshots = !strstr(options[i], "bits=1");

		run_ok("rm -f a && qemu-img create -q -f qcow2 -o %s a 8M", options[i]);
		same_as_qemu("a");
		fill("a");
		same_as_qemu("a");
		if (snapshots) {
			run_ok("qemu-img snapshot -c one a && qemu-io -c 'write 10k 200k' a && "
			       "qemu-img snapshot -c two a && qemu-io -c 'write 3M 300k' a && "
			       "qemu-img snapshot -d one a && qemu-img snapshot -c three a");
			same_as_qemu("a");
		}
		run_ok("qemu-img convert -O qcow2 -c -o %s a b",
			strstr(options[i], "prealloc") ? "cluster_size=64k" : options[i]);
		same_as_qemu("b");
		run_ok("qemu-io -c 'write 10k 100k' b");
		same_as_qemu("b");
	}
	run_ok("qemu-img create -q -f qcow2 a 8M && qemu-img bitmap --add a x && "
	       "qemu-img bitmap --add -g 4k a y && qemu-io -c 'write 0 1M' a");
	same_as_qemu("a");
}

/* ---- one thing wrong ---- */

/* Writes an image that `change` has made wrong as file "t". */
static void write_image(unsigned bits, void (*change)(struct qcow2_image *i, void *arg), void *arg)
{
	static uint8_t bytes[QI_BYTES];
	struct qcow2_image i = {bytes, bits};
	int fd = open("t", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	qi_make(&i);
	if (change)
		change(&i, arg);
	assert_int_equal(write(fd, bytes, (size_t)QI_CLUSTERS << bits), QI_CLUSTERS << bits);
	close(fd);
}

static void test_own_image(void **state)
{
	write_image(9, NULL, NULL);
	same_as_qemu("t");
	write_image(12, NULL, NULL);
	same_as_qemu("t");
	run_ok("qemu-img check t && qemu-img snapshot -l t");
}

#define C(index) ((uint64_t)(index) << 9)
#define AT(index, n) (C(index) + (n))

enum outcome {
	REFUSED,  /* the header says why */
	KEPT,     /* corrupt, and no repair puts it right */
	REPAIRED, /* by a repair of all */
	LEAKED,   /* by a repair of leaks */
	HARMLESS,
};

/* One number of the image, with clusters of 512 bytes. */
static const struct wrong {
	uint64_t at;
	unsigned bytes;
	uint64_t value;
	enum outcome outcome;
	const char *says; /* in the error or a finding */
} wrongs[] = {
	/* The header. */
	{QCOW2_AT_MAGIC, 4, 0x514649fc, REFUSED, "no qcow2 image"},
	{QCOW2_AT_VERSION, 4, 4, REFUSED, "version 4"},
	{QCOW2_AT_VERSION, 4, 1, REFUSED, "version 1"},
	{QCOW2_AT_BACKING, 8, 500, HARMLESS, NULL}, /* of no length */
	{QCOW2_AT_BACKING_LEN, 4, 2000, HARMLESS, NULL},
	{QCOW2_AT_CLUSTER_BITS, 4, 8, REFUSED, "cluster_bits is 8"},
	{QCOW2_AT_CLUSTER_BITS, 4, 22, REFUSED, "cluster_bits is 22"},
	{QCOW2_AT_CLUSTER_BITS, 4, 0xffffffff, REFUSED, "cluster_bits"},
	{QCOW2_AT_SIZE, 8, UINT64_MAX, REFUSED, "size"},
	{QCOW2_AT_SIZE, 8, 1ull << 40, REFUSED, "size"},
	{QCOW2_AT_CRYPT, 4, 1, REFUSED, "encrypted"},
	{QCOW2_AT_CRYPT, 4, 3, REFUSED, "encryption"},
	{QCOW2_AT_L1_ENTRIES, 4, 0xffffffff, REFUSED, "L1 entries"},
	{QCOW2_AT_L1_ENTRIES, 4, 2, REFUSED, "L1 entries"},
	{QCOW2_AT_L1_ENTRIES, 4, 65, KEPT, "the snapshot table"}, /* longer than its cluster */
	{QCOW2_AT_L1_ENTRIES, 4, 1 << 22, KEPT, "past the file's end"},
	{QCOW2_AT_L1, 8, 7, REFUSED, "amid a cluster"},
	{QCOW2_AT_L1, 8, C(QI_CLUSTERS), REFUSED, "past the file's end"},
	{QCOW2_AT_L1, 8, 1ull << 63, REFUSED, "past the file's end"},
	{QCOW2_AT_L1, 8, C(QI_HEADER), REFUSED, "table"},
	{QCOW2_AT_L1, 8, C(QI_SNAPSHOT_L1), KEPT, "an L1 table already"},
	{QCOW2_AT_L1, 8, C(QI_OWN_L2), KEPT, "reserved"},
	{QCOW2_AT_REFS, 8, 0, REFUSED, "table"}, /* in the header */
	{QCOW2_AT_REFS, 8, C(QI_CLUSTERS), REFUSED, "past the file's end"},
	{QCOW2_AT_REFS, 8, C(QI_L1), REPAIRED, "refers to the refcount table"},
	{QCOW2_AT_REFS, 8, C(QI_DATA), REPAIRED, "refers to the refcount table"},
	{QCOW2_AT_REFS, 8, C(QI_BLOCK), REPAIRED, "refcount"},
	{QCOW2_AT_REFS_CLUSTERS, 4, 0, REFUSED, "refcount table"},
	{QCOW2_AT_REFS_CLUSTERS, 4, 0xffffffff, REFUSED, "refcount table"},
	{QCOW2_AT_REFS_CLUSTERS, 4, 2, REPAIRED, "refcount"}, /* its block is in it */
	{QCOW2_AT_REFS_CLUSTERS, 4, 16384, REPAIRED, "past the file's end"},
	{QCOW2_AT_SNAPSHOTS, 4, 0, LEAKED, "refcount is 1, it is referred to 0 times"},
	{QCOW2_AT_SNAPSHOTS, 4, 2, KEPT, "a snapshot's entry"},
	{QCOW2_AT_SNAPSHOTS, 4, 0xffffffff, REFUSED, "snapshots"},
	{QCOW2_AT_SNAPSHOT_TABLE, 8, 1, REFUSED, "the snapshot table"},
	{QCOW2_AT_SNAPSHOT_TABLE, 8, C(QI_CLUSTERS), REFUSED, "the snapshot table"},
	{QCOW2_AT_SNAPSHOT_TABLE, 8, 0, KEPT, "a snapshot"},
	{QCOW2_AT_SNAPSHOT_TABLE, 8, C(QI_DATA), KEPT, "snapshot"},
	{QCOW2_AT_INCOMPATIBLE, 8, 1, REPAIRED, NULL},
	{QCOW2_AT_INCOMPATIBLE, 8, 2, REPAIRED, NULL},
	{QCOW2_AT_INCOMPATIBLE, 8, 4, REFUSED, "external data file"},
	{QCOW2_AT_INCOMPATIBLE, 8, 8, REFUSED, "compression"},
	{QCOW2_AT_INCOMPATIBLE, 8, 16, REFUSED, "extended L2"},
	{QCOW2_AT_INCOMPATIBLE, 8, 1ull << 63, REFUSED, "feature 63"},
	{QCOW2_AT_COMPATIBLE, 8, UINT64_MAX, HARMLESS, NULL},
	{QCOW2_AT_AUTOCLEAR, 8, 0, LEAKED, "referred to 0 times"}, /* nobody's bitmaps */
	{QCOW2_AT_AUTOCLEAR, 8, ~2ull, HARMLESS, NULL},
	{QCOW2_AT_REFCOUNT_ORDER, 4, 63, REFUSED, "refcount order"},
	{QCOW2_AT_REFCOUNT_ORDER, 4, 7, REFUSED, "refcount order"},
	{QCOW2_AT_REFCOUNT_ORDER, 4, 0, KEPT, "refcount"}, /* which counts to 1 */
	{QCOW2_AT_REFCOUNT_ORDER, 4, 3, REPAIRED, "refcount"},
	{QCOW2_AT_REFCOUNT_ORDER, 4, 6, REPAIRED, "refcount"},
	{QCOW2_AT_HEADER_LEN, 4, 103, REFUSED, "header's length"},
	{QCOW2_AT_HEADER_LEN, 4, 0xfffffff8, REFUSED, "header's length"},
	{QCOW2_AT_COMPRESSION, 1, 1, REFUSED, "compression"},
	{QI_EXT_AT + 4, 4, 0xffffffff, REFUSED, "extension"},
	{QI_EXT_AT + 8, 4, 2, KEPT, "a bitmap"},
	{QI_EXT_AT + 8, 4, 0xffffffff, KEPT, "a bitmap"},
	{QI_EXT_AT + 16, 8, UINT64_MAX, KEPT, "the bitmap directory"},
	{QI_EXT_AT + 16, 8, 8, KEPT, "a bitmap"},
	{QI_EXT_AT + 24, 8, 3, KEPT, "amid a cluster"},
	{QI_EXT_AT + 24, 8, C(QI_CLUSTERS), KEPT, "past the file's end"},
	{QI_EXT_AT + 24, 8, UINT64_MAX & ~511ull, KEPT, "past the file's end"},

	/* The refcount table and its block. */
	{AT(QI_REFS, 0), 8, 0, REPAIRED, "refcount is 0, it is referred to 1 times"},
	{AT(QI_REFS, 0), 8, 1, REPAIRED, "no cluster's begin"},
	{AT(QI_REFS, 0), 8, C(QI_CLUSTERS), REPAIRED, "past the file's end"},
	{AT(QI_REFS, 0), 8, UINT64_MAX & ~511ull, REPAIRED, "past the file's end"},
	{AT(QI_REFS, 0), 8, C(QI_REFS), REPAIRED, "a refcount block"},
	{AT(QI_REFS, 0), 8, C(QI_HEADER + 1), REPAIRED, "a refcount block"},
	{AT(QI_REFS, 0), 8, C(QI_L1), REPAIRED, "a refcount block"},
	{AT(QI_REFS, 0), 8, C(QI_DATA), REPAIRED, "a refcount block"},
	{AT(QI_REFS, 8), 8, C(QI_BLOCK), REPAIRED, "a refcount block already"},
	{AT(QI_REFS, 8), 8, 5, REPAIRED, "no cluster's begin"},
	{AT(QI_BLOCK, 0), 2, 0, REPAIRED, "byte 0: the cluster's refcount is 0"},
	{AT(QI_BLOCK, 2 * QI_DATA), 2, 0, REPAIRED, "refcount is 0, it is referred to 1 times"},
	{AT(QI_BLOCK, 2 * QI_SHARED_DATA), 2, 1, REPAIRED, "referred to 2 times"},
	{AT(QI_BLOCK, 2 * QI_SHARED_DATA), 2, 3, LEAKED, "referred to 2 times"},
	{AT(QI_BLOCK, 2 * QI_L1), 2, 65535, LEAKED, "refcount is 65535"},
	{AT(QI_BLOCK, 2 * QI_CLUSTERS), 2, 1, LEAKED, "referred to 0 times"}, /* past the end */

	/* The L1 tables. */
	{AT(QI_L1, 0), 8, 0, LEAKED, "refcount is 2, it is referred to 1 times"},
	{AT(QI_L1, 8), 8, C(QI_OWN_L2), REPAIRED, "COPIED is not set"},
	{AT(QI_L1, 0), 8, C(QI_SHARED_L2) | QCOW2_COPIED, REPAIRED, "COPIED is set"},
	{AT(QI_L1, 8), 8, C(QI_OWN_L2) + 8, KEPT, "reserved"},
	{AT(QI_L1, 8), 8, C(QI_OWN_L2) | 1ull << 62, KEPT, "reserved"},
	{AT(QI_L1, 8), 8, C(QI_L1), KEPT, "an L2 table"}, /* itself */
	{AT(QI_L1, 8), 8, C(QI_REFS), REPAIRED, "the refcount table"},
	{AT(QI_L1, 8), 8, C(QI_SNAPSHOTS), KEPT, "an L2 table already"},
	{AT(QI_L1, 8), 8, C(QI_CLUSTERS), KEPT, "past the file's end"},
	{AT(QI_L1, 8), 8, QCOW2_OFFSET_MASK, KEPT, "past the file's end"},
	{AT(QI_L1, 8), 8, C(QI_SHARED_L2), REPAIRED, "refcount"}, /* the same twice */
	{AT(QI_L1, 16), 8, C(QI_DATA), KEPT, "data"},
	{AT(QI_SNAPSHOT_L1, 0), 8, C(QI_SNAPSHOT_L1), KEPT, "an L1 table already"},
	{AT(QI_SNAPSHOT_L1, 0), 8, C(QI_CLUSTERS), KEPT, "past the file's end"},
	{AT(QI_SNAPSHOT_L1, 8), 8, C(QI_OWN_L2), REPAIRED, "refcount"},
	{AT(QI_SNAPSHOT_L1, 0), 8, C(QI_SHARED_L2) | QCOW2_COPIED, HARMLESS, NULL},

	/* The L2 tables. */
	{AT(QI_OWN_L2, 0), 8, 0, LEAKED, "referred to 0 times"},
	{AT(QI_OWN_L2, 0), 8, C(QI_DATA), REPAIRED, "COPIED is not set"},
	{AT(QI_OWN_L2, 0), 8, C(QI_OWN_L2), KEPT, "an L2 table already"}, /* itself */
	{AT(QI_OWN_L2, 0), 8, C(QI_L1), KEPT, "an L1 table already"},
	{AT(QI_OWN_L2, 0), 8, QCOW2_COPIED | QCOW2_ZERO | C(QI_L1), KEPT, "an L1 table already"},
	{AT(QI_OWN_L2, 0), 8, C(QI_BLOCK), REPAIRED, "a refcount block"},
	{AT(QI_OWN_L2, 0), 8, C(QI_CLUSTERS), KEPT, "past the file's end"},
	{AT(QI_OWN_L2, 0), 8, C(QI_DATA) | QCOW2_COPIED | 2, KEPT, "reserved"},
	{AT(QI_OWN_L2, 0), 8, C(QI_DATA) | QCOW2_COPIED | 1ull << 56, KEPT, "reserved"},
	{AT(QI_OWN_L2, 0), 8, C(QI_ZEROED) | QCOW2_COPIED, REPAIRED, "referred to 2 times"},
	{AT(QI_OWN_L2, 0), 8, QCOW2_COPIED, LEAKED, "referred to 0 times"},
	{AT(QI_OWN_L2, 16), 8, UINT64_MAX & ~QCOW2_COPIED, KEPT, "compressed"},
	{AT(QI_OWN_L2, 16), 8, QCOW2_COMPRESSED | C(QI_CLUSTERS), KEPT, "past the file's end"},
	{AT(QI_OWN_L2, 16), 8, QCOW2_COMPRESSED | 5, KEPT, "the header already"},
	{AT(QI_OWN_L2, 16), 8, QCOW2_COMPRESSED | QCOW2_COPIED | C(QI_PACKED), REPAIRED,
		"COPIED is set"},
	{AT(QI_SHARED_L2, 0), 8, C(QI_SHARED_DATA) | QCOW2_COPIED, REPAIRED, "COPIED is set"},

	/* The snapshot table. */
	{AT(QI_SNAPSHOTS, 0), 8, 100, KEPT, "a snapshot's entry"},
	{AT(QI_SNAPSHOTS, 0), 8, 1ull << 60, KEPT, "a snapshot's entry"},
	{AT(QI_SNAPSHOTS, 0), 8, C(QI_CLUSTERS), KEPT, "past the file's end"},
	{AT(QI_SNAPSHOTS, 0), 8, C(QI_L1), KEPT, "an L1 table already"},
	{AT(QI_SNAPSHOTS, 0), 8, C(QI_SNAPSHOTS), KEPT, "an L1 table"},
	{AT(QI_SNAPSHOTS, 8), 4, 0xffffffff, KEPT, "a snapshot's entry"},
	{AT(QI_SNAPSHOTS, 8), 4, 0, LEAKED, "referred to"},
	{AT(QI_SNAPSHOTS, 36), 4, 0xffffffff, KEPT, "a snapshot's entry"},
	{AT(QI_SNAPSHOTS, 36), 4, 0, KEPT, "how large the disk was"},
	{AT(QI_SNAPSHOTS, 12), 2, 65535, KEPT, "the snapshot table"},

	/* Bitmaps. */
	{AT(QI_BITMAPS, 0), 8, 1, KEPT, "amid a cluster"},
	{AT(QI_BITMAPS, 0), 8, C(QI_BITMAPS), KEPT, "a bitmap already"},
	{AT(QI_BITMAPS, 8), 4, 0xffffffff, KEPT, "past the file's end"},
	{AT(QI_BITMAPS, 18), 2, 65535, KEPT, "past the directory"},
	{AT(QI_BITMAPS, 20), 4, 0xffffffff, KEPT, "past the directory"},
	{AT(QI_BITMAP_TABLE, 0), 8, C(QI_BITMAP_TABLE), KEPT, "a bitmap already"},
	{AT(QI_BITMAP_TABLE, 0), 8, C(QI_L1), KEPT, "an L1 table already"},
	{AT(QI_BITMAP_TABLE, 0), 8, C(QI_CLUSTERS), KEPT, "past the file's end"},
	{AT(QI_BITMAP_TABLE, 0), 8, 1, LEAKED, "referred to 0 times"},
};

static void put_wrong(struct qcow2_image *i, void *arg)
{
	const struct wrong *w = arg;

	for (unsigned n = 0; n < w->bytes; n++)
		i->bytes[w->at + n] = (uint8_t)(w->value >> (8 * (w->bytes - 1 - n)));
}

/* All of them are shown, not the first. */
static unsigned differences;

#define differs(...)                                                                               \
	do {                                                                                       \
		print_error(__VA_ARGS__);                                                          \
		print_error("\n");                                                                 \
		differences++;                                                                     \
	} while (0)

static bool sound(const struct qcow2_report *r)
{
	return !r->check_errors && !r->corruptions && !r->leaks;
}

/* What was wrong is not there any more, as far as a repair can go; QEMU agrees. */
static void repairs(const struct wrong *w, enum qcow2_repair what, bool whole)
{
	struct qcow2_report r, again;

	assert_int_equal(check(&r, "t", what), 0);
	assert_int_equal(check(&again, "t", QCOW2_REPAIR_NOTHING), 0);
	assert_int_equal(again.corruptions, r.corruptions);
	assert_int_equal(again.leaks, r.leaks);
	if (whole != sound(&r))
		differs("byte %llu = %llx: %llu corruptions, %llu leaks after the repair\n%s",
			(unsigned long long)w->at, (unsigned long long)w->value,
			(unsigned long long)r.corruptions, (unsigned long long)r.leaks, findings);
	if (whole)
		run_ok("qemu-img check t");
}

static void try_wrong(const struct wrong *w)
{
	struct qcow2_report r;
	int rc;

	write_image(9, put_wrong, (void *)(uintptr_t)w);
	rc = check(&r, "t", QCOW2_REPAIR_NOTHING);
	if ((w->outcome == REFUSED) != (rc != 0) ||
		(w->says && !strstr(rc ? last_error() : findings, w->says)))
		differs("byte %llu = %llx: %d\n%s\n%s", (unsigned long long)w->at,
			(unsigned long long)w->value, rc, rc ? last_error() : "", findings);
	if (rc)
		return;
	if ((w->outcome == HARMLESS && !sound(&r)) ||
		(w->outcome == LEAKED && (r.corruptions || !r.leaks)))
		differs("byte %llu = %llx\n%s", (unsigned long long)w->at,
			(unsigned long long)w->value, findings);
	if (w->outcome == LEAKED)
		repairs(w, QCOW2_REPAIR_LEAKS, true);
	else
		repairs(w, QCOW2_REPAIR_ALL, w->outcome != KEPT);
}

static void test_wrong(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(wrongs); i++)
		try_wrong(&wrongs[i]);
	assert_int_equal(differences, 0);
}

/* It refuses bitmaps for more reasons than we, who only count their clusters. */
static bool qemu_judges(uint64_t at)
{
	return at != QCOW2_AT_BACKING && (at < QI_EXT_AT || at >= C(1)) &&
	       (at < C(QI_BITMAPS) || at >= C(QI_BITMAP));
}

/* Half of these in each place of the header and the tables: a check ends, a repair changes nothing
 * twice, and what is called sound QEMU calls so too. */
static void test_everything_wrong(void **state)
{
	const uint64_t values[] = {0, 1, 0xff, 0xffffffff, C(1), C(QI_L1) | QCOW2_COPIED,
		C(QI_OWN_L2), C(QI_DATA) | QCOW2_COPIED, C(QI_PACKED) + 100, C(QI_CLUSTERS),
		QCOW2_COMPRESSED | C(QI_CLUSTERS - 1), 1ull << 55, INT64_MAX, UINT64_MAX,
		UINT64_MAX << 9};

	for (unsigned n = 0; n < C(QI_BITMAP) / 8; n++) {
		struct wrong w = {.at = n * 8ull, .bytes = 8};
		struct qcow2_report r, again;

		/* The first entries of each table. */
		if (n >= 16 && n % 64 > 5)
			continue;
		for (unsigned i = n % 2; i < ARRAY_SIZE(values); i += 2) {
			w.value = values[i];
			write_image(9, put_wrong, &w);
			if (check(&r, "t", QCOW2_REPAIR_ALL))
				continue;
			assert_int_equal(check(&again, "t", QCOW2_REPAIR_ALL), 0);
			assert_int_equal(again.corruptions, r.corruptions);
			assert_int_equal(again.leaks, r.leaks);
			assert_int_equal(again.corruptions_fixed + again.leaks_fixed, 0);
			if (i == n % ARRAY_SIZE(values) && sound(&r) && qemu_judges(n * 8))
				run_ok("qemu-img check t");
		}
	}
}

/* ---- what is absurd ---- */

static void put_at(int fd, uint64_t off, const void *bytes, size_t len)
{
	assert_int_equal(pwrite(fd, bytes, len, (off_t)off), len);
}

static void put_be64_at(int fd, uint64_t off, uint64_t v)
{
	v = htobe64(v);
	put_at(fd, off, &v, sizeof(v));
}

static int open_image(void)
{
	int fd;

	write_image(9, NULL, NULL);
	fd = open("t", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* 8 EiB less a bit, of holes. */
static void test_endless_file(void **state)
{
	struct qcow2_report r;
	int fd = open_image();

	if (ftruncate(fd, INT64_MAX) < 0)
		assert_int_equal(ftruncate(fd, 1ll << 43), 0);
	assert_int_equal(check(&r, "t", QCOW2_REPAIR_ALL), -EFBIG);
	assert_non_null(strstr(last_error(), "clusters"));
	/* Many, in holes. */
	assert_int_equal(ftruncate(fd, 1ll << 33), 0);
	assert_int_equal(check(&r, "t", QCOW2_REPAIR_ALL), 0);
	assert_true(sound(&r));
	close(fd);
}

/* An L1 table of 32 MiB whose entries are one L2 table, full of references to one cluster. */
static void test_same_again(void **state)
{
	const uint64_t l1 = MIB(64), entries = 1 << 22;
	struct qcow2_report r;
	int fd = open_image();
	uint64_t *table = malloc(entries * 8);
	uint32_t n = htobe32((uint32_t)entries);

	assert_non_null(table);
	for (uint64_t i = 0; i < entries; i++)
		table[i] = htobe64(C(QI_SHARED_L2));
	put_at(fd, l1, table, entries * 8);
	put_be64_at(fd, QCOW2_AT_L1, l1);
	put_at(fd, QCOW2_AT_L1_ENTRIES, &n, sizeof(n));
	for (unsigned i = 0; i < 64; i++)
		put_be64_at(fd, AT(QI_SHARED_L2, 8 * i), C(QI_SHARED_DATA));
	assert_int_equal(check(&r, "t", QCOW2_REPAIR_ALL), 0);
	assert_true(r.corruptions > 0);
	assert_non_null(strstr(findings, "referred to too often"));
	free(table);
	close(fd);
}

/* As many snapshots as there may be, each with the same L1 table as large as one may be. */
static void test_crowd_of_snapshots(void **state)
{
	const uint64_t table = GIB(1), l1 = MIB(512);
	struct qcow2_report r;
	int fd = open_image();
	uint8_t one[QCOW2_SNAPSHOT_LEN] = {0};
	uint32_t n = htobe32(65536);

	put_be64(one, l1);
	put_be32(one + 8, 1 << 22);
	for (unsigned i = 0; i < 65536; i++)
		put_at(fd, table + i * sizeof(one), one, sizeof(one));
	put_at(fd, QCOW2_AT_SNAPSHOTS, &n, sizeof(n));
	put_be64_at(fd, QCOW2_AT_SNAPSHOT_TABLE, table);
	assert_int_equal(ftruncate(fd, 2ll << 30), 0);
	assert_int_equal(check(&r, "t", QCOW2_REPAIR_ALL), 0);
	assert_true(r.corruptions >= 65535);
	assert_true(told <= 101);
	close(fd);
}

static void spoil_snapshot(struct qcow2_image *i, void *arg)
{
	qi_entry(i, QI_REFS, 0, 0);
	qi_entry(i, QI_OWN_L2, 0, qi_at(i, QI_BLOCK) | QCOW2_COPIED);
	qi_entry(i, QI_SNAPSHOTS, 0, UINT64_MAX);
}

/* A refcount block is missing, and a snapshot makes no sense: what it refers to is not counted, and
 * is no place for the block. */
static void test_doubt_keeps(void **state)
{
	static uint8_t before[QI_BYTES], after[QI_BYTES];
	struct qcow2_image old = {before, 9}, new = {after, 9};
	struct qcow2_report r;
	int fd;

	qi_make(&old);
	spoil_snapshot(&old, NULL);
	write_image(9, spoil_snapshot, NULL);
	assert_int_equal(check(&r, "t", QCOW2_REPAIR_ALL), 0);
	assert_true(r.corruptions_fixed > 0);
	fd = open("t", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, after, C(QI_CLUSTERS)), C(QI_CLUSTERS));
	for (unsigned n = QI_SNAPSHOTS; n < QI_CLUSTERS; n++)
		if (n != QI_SHARED_L2 && n != QI_OWN_L2)
			assert_memory_equal(qi_cluster(&old, n), qi_cluster(&new, n), C(1));
	close(fd);
}

static void end_in_snapshots(struct qcow2_image *i, void *arg)
{
	memset(qi_cluster(i, QI_PACKED), 0, C(1));
	put_be64(i->bytes + QCOW2_AT_SNAPSHOT_TABLE, C(QI_PACKED));
	put_be32(i->bytes + QCOW2_AT_SNAPSHOTS, 100);
	qi_entry(i, QI_REFS, 0, 0);
}

/* The file ends before its snapshot table does: a block that is put behind it is no part of that.
 */
static void test_file_ends_in_snapshots(void **state)
{
	struct qcow2_report r;

	write_image(9, end_in_snapshots, NULL);
	/* The second finds in the file what the first has made room for. */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(check(&r, "t", QCOW2_REPAIR_ALL), 0);
	assert_int_equal(r.corruptions_fixed + r.leaks_fixed, 0);
	assert_null(strstr(findings, "refcount"));
}

/* 2 MiB clusters, of whose refcounts the table could have a million blocks in holes. */
static void test_holes_of_refcounts(void **state)
{
	struct qcow2_report r;
	uint64_t table[512];
	int fd;

	run_ok("rm -f t && qemu-img create -q -f qcow2 -o cluster_size=2M t 1G");
	fd = open("t", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (uint64_t at = 8; at < MIB(2); at += sizeof(table)) {
		for (unsigned i = 0; i < 512; i++)
			table[i] = htobe64((at / 8 + i + 64) * MIB(2));
		put_at(fd, MIB(2) + at, table, MIN(sizeof(table), MIB(2) - at));
	}
	assert_int_equal(ftruncate(fd, 1ll << 40), 0);
	assert_int_equal(check(&r, "t", QCOW2_REPAIR_NOTHING), 0);
	assert_true(r.corruptions > 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_own_image, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(test_everything_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(test_endless_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crowd_of_snapshots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_doubt_keeps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_ends_in_snapshots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_holes_of_refcounts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sound, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
