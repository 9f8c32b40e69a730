// SPDX-License-Identifier: MIT
// How often each cluster of an image at rest is referred to, and by what: every table is walked.
// Shared by blk/qcow2_check.c, qcow2_refs.c and qcow2_snapshot.c.
#ifndef BLK_QCOW2_COUNT_H
#define BLK_QCOW2_COUNT_H

#include "blk/qcow2_check.h"
#include "blk/qcow2_format.h"
#include "blk/qcow2_scan.h"

/* What a cluster is. Those but L2 tables and data have one place that refers to them. */
enum qcow2_use {
	QCOW2_UNUSED,
	QCOW2_IS_HEADER,
	QCOW2_IS_REFS,  /* the refcount table */
	QCOW2_IS_BLOCK, /* of refcounts */
	QCOW2_IS_L1,
	QCOW2_IS_SNAPSHOTS,
	QCOW2_IS_BITMAP,
	QCOW2_IS_L2,
	QCOW2_IS_DATA,
};

/* Of each cluster: how often it is referred to, no more than can be counted here, and more. */
#define QCOW2_TIMES 0x03ffffffu
#define QCOW2_USE_SHIFT 26u
#define QCOW2_ACTIVE (1u << 30)     /* an L2 table of the disk as it is, not of snapshots alone */
#define QCOW2_STORED_ONE (1u << 31) /* the stored refcount is 1: qcow2_refs_pass sets it */

struct qcow2_count {
	struct blk *file;
	struct qcow2_report *report;
	struct qcow2_header h;
	uint64_t bitmaps, bitmaps_len; /* bytes: their directory */
	uint32_t bitmap_count;
	uint64_t cluster; /* bytes */
	uint64_t in_file; /* clusters that the file has, also one that it has the begin of */
	uint64_t room;    /* clusters that `of` has, with some for new tables */
	uint32_t *of;     /* mapped */
	uint8_t *block;   /* a cluster's bytes */
	uint64_t *refs;   /* the refcount table, of blk/qcow2_refs.h */
	struct qcow2_scan scan;
	bool doubt;    /* something made no sense, and may stand for what is in use */
	bool overflow; /* a refcount would be more than can be stored */
	unsigned told;
};

/* Of the format, and of no use to a disk that runs. */
#define QCOW2_BITMAPS (1ull << 0) /* an autoclear feature */
#define QCOW2_EXT_BITMAPS 0x23852875u

/* As the file is: reads the header. `out` is qcow2_count_close's, also after an error. */
int qcow2_count_open(struct qcow2_count **out, struct blk *file, struct qcow2_report *report);

/* As it would be with this header, and with room for new tables of `extra` bytes. */
int qcow2_count_open_as(struct qcow2_count **out, struct blk *file, struct qcow2_report *report,
	const struct qcow2_header *h, uint64_t extra);

/* NULL is fine. */
void qcow2_count_close(struct qcow2_count *c);

/* Counts all references; what is wrong goes to the report. 0 or -errno. */
int qcow2_count_walk(struct qcow2_count *c);

/* Clusters in a row that nothing refers to, marked as used; 0: there are none. Where there is doubt
 * they are past the file's end: what makes no sense may refer to any of the others. */
uint64_t qcow2_count_take(struct qcow2_count *c, uint64_t clusters, enum qcow2_use use);

/* Tells of something that is wrong at that byte of the file. */
void qcow2_found(struct qcow2_count *c, uint64_t at, const char *fmt, ...) printf_like(3, 4);

/* As qcow2_found: a table cannot be read. */
void qcow2_unread(struct qcow2_count *c, uint64_t at, const char *what, int rc);

/* A range that something at byte `at` refers to. */
struct qcow2_claim {
	enum qcow2_use use;
	uint64_t at;
	uint32_t times;
	bool active;
};

/* Counts a reference to bytes [off, off + len); false with a finding where it cannot be. */
bool qcow2_claim(struct qcow2_count *c, const struct qcow2_claim *by, uint64_t off, uint64_t len);

static inline uint64_t qcow2_times(const struct qcow2_count *c, uint64_t index)
{
	return index < c->room ? c->of[index] & QCOW2_TIMES : 0;
}

static inline enum qcow2_use qcow2_use(const struct qcow2_count *c, uint64_t index)
{
	return (enum qcow2_use)(c->of[index] >> QCOW2_USE_SHIFT & 0xf);
}

/* A snapshot as the table has it. */
struct qcow2_saved {
	uint64_t at, len; /* bytes: the entry in the file */
	uint64_t l1;
	uint32_t l1_entries;
	uint64_t disk_size, vm_state, vm_clock_ns;
	uint32_t date_s, date_ns;
	uint32_t extra_len;
	uint16_t id_len, name_len;
};

/* The whole table is no larger than this. */
#define QCOW2_SNAPSHOT_TABLE_MAX MIB(64)
#define QCOW2_SNAPSHOT_LEN 40u
#define QCOW2_SNAPSHOT_EXTRA 16u

/* Reads the entry at that byte of the file, which ends at byte `end`. 0, or -errno with a message.
 */
int qcow2_saved_read(struct qcow2_saved *s, struct blk *file, const struct qcow2_header *h,
	uint64_t at, uint64_t end);

#endif
