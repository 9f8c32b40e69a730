// SPDX-License-Identifier: MIT
// What blk/vmdk*.c share.
#ifndef BLK_VMDK_PARTS_H
#define BLK_VMDK_PARTS_H

#include "blk/vmdk.h"

#include "base/util.h"
#include "blk/decompress.h"
#include "blk/layer.h"

#define VMDK_TEXT_MAX KIB(64)
#define VMDK_GTES_MAX 512u
/* Tables of an extent, and of all of an image: what its directories in memory are bounded by. */
#define VMDK_GDES_MAX (1u << 20)
#define VMDK_GDES_ALL (1u << 22)
#define VMDK_WAYS 8u
#define VMDK_SETS 64u
#define VMDK_PIECES 4u
#define VMDK_SPLITS 128u

/* ---- what is in a file ---- */

#define VMDK_MAGIC 0x564d444bu
#define VMDK_AT_END UINT64_MAX /* a stream's directory: the header is its last but one sector */

enum vmdk_flag {
	VMDK_NEWLINES = 1u << 0,  /* the bytes that tell a transfer as text are there */
	VMDK_REDUNDANT = 1u << 1, /* there is a second directory, with tables of its own */
	VMDK_ZEROED = 1u << 2,    /* an entry of 1 reads as zeroes */
	VMDK_COMPRESSED = 1u << 16,
	VMDK_MARKERS = 1u << 17,
	VMDK_MUST_KNOW = 0xffff0000, /* who does not know one of these cannot read the extent */
};

#define VMDK_UNCLEAN_AT 72u /* the byte of a header: someone writes, or has not ended well */
#define VMDK_MARKER_BYTES 12u

/* A sparse extent's header, checked. All counts are sectors but for `gtes`, `gdes` (entries). */
struct vmdk_header {
	uint8_t sector[BLK_SECTOR];
	uint32_t version, flags, gtes, gdes;
	uint64_t capacity, grain, text, text_len, rgd, gd, overhead;
};

/* `size` is set to how many bytes the file has. 0 or -errno with a message that says which field.
 */
int vmdk_header_read(struct vmdk_header *h, struct blk *file, uint64_t *size);

/* `text` is NUL-terminated, and is taken apart; embedded: the one extent is the file itself. */
int vmdk_text_read(struct vmdk_info *out, char *text, const char *name, bool embedded);

/* ---- a disk ---- */

struct vmdk;
struct vmdk_part;

/* A request of the disk's own. */
struct vmdk_io {
	struct blk_request r;
	struct iovec iov[2];
	struct vmdk_part *part;
};

/* A file of it, and the range of the disk that it holds: none where it is but the descriptor. */
struct vmdk_part {
	struct vmdk *disk;
	enum vmdk_extent_kind kind;
	bool read_only;
	bool unflushed; /* written since the last flush was submitted */
	bool touched;   /* something is submitted since the last commit */
	uint64_t start, end;
	struct blk *file; /* NULL: VMDK_ZERO */
	uint64_t at;      /* VMDK_FLAT: byte of the file where it begins */
	struct vmdk_io flush, mark;

	/* VMDK_SPARSE. Numbers of sectors: least, align. */
	bool packed, zeroed, unclean; /* unclean: it was found so */
	uint32_t grain;               /* bytes */
	unsigned grain_bits;
	unsigned covers_bits; /* of the bytes of the disk that a table is for */
	uint32_t gtes, gdes;
	uint32_t least, align;  /* where a grain may begin */
	uint32_t *gd, *rgd;     /* as in the file; rgd NULL: there is none */
	uint64_t gd_at, rgd_at; /* bytes */
	uint64_t next;          /* byte of the file from where on nothing ever was */
	uint64_t linked;        /* byte of the file where the last grain that was added ends */
	uint8_t header[BLK_SECTOR];
};

/* Requests wait in such lines for what lets them go on. */
struct vmdk_line {
	struct vmdk_split *first, *last;
};

/* A part of a request that is under way. */
struct vmdk_piece {
	struct blk_request r;
	struct vmdk_split *split;
	struct vmdk_part *part;
	uint64_t grain; /* of the part: the first that it adds, or the one that it unpacks */
	unsigned count; /* of grains that it adds */
	uint64_t at;    /* byte of the file where they are put, or of the grain that is unpacked */
	struct vmdk_table *table;
	struct vmdk_piece *next;
	struct vmdk_line line; /* for the grains that it adds */
	bool busy;
};

/* Of these, memory is touched as far as there ever were so many, and such pieces. */
struct vmdk_split {
	struct vmdk *disk;
	struct blk_request *whole;
	struct vmdk_split *next;
	uint64_t pos; /* how much of it is split */
	unsigned busy;
	int rc;
	bool splitting, stalled;
	bool settles; /* it is to be durable, and has added grains */
	struct vmdk_piece piece[VMDK_PIECES];
	struct iovec iov[VMDK_PIECES][BLK_IOV_MAX];
};

/* A grain table in memory. */
struct vmdk_table {
	struct vmdk_part *part; /* NULL: none */
	uint32_t index;         /* of the directory's entry */
	uint32_t used;
	bool loading;
	bool dirty;    /* `entry` is not in the file */
	bool writing;  /* `out` is on its way */
	unsigned pins; /* pieces that add grains */
	struct vmdk_table *next_dirty, *next_out;
	struct vmdk_line line; /* for its being there */
	struct vmdk_io io[2];
	unsigned step; /* of making a table that is new */
	uint32_t made[2];
	uint32_t entry[VMDK_GTES_MAX]; /* as in the file */
	uint32_t out[VMDK_GTES_MAX];
};

enum vmdk_phase { VMDK_IDLE, VMDK_MARKING, VMDK_FLUSHING, VMDK_WRITING, VMDK_SETTLING };

/* How what was written becomes durable. */
struct vmdk_cycle {
	enum vmdk_phase phase;
	unsigned busy; /* requests */
	int rc;
	struct blk_line serving; /* who is told */
	struct vmdk_table *out;
};

/* One compressed grain at a time. */
struct vmdk_unpack {
	struct decompressor *d;
	struct blk_line line; /* `r` of pieces */
	struct vmdk_piece *now;
	bool running;
	struct vmdk_part *part; /* whose grain is in `to`; NULL: none */
	uint64_t grain;
	uint8_t *from, *to;
	uint32_t from_len;
	struct vmdk_io io;
	struct decompress_job job;
};

struct vmdk {
	struct blk blk;
	struct blk *file; /* the image's own */
	struct vmdk_part *part;
	unsigned count, files; /* parts of the disk; and with the one that is but the descriptor */
	uint64_t log_ns;

	struct vmdk_split *splits, *idle;
	unsigned fresh, busy;
	struct blk_line line; /* for a split */
	bool starting;
	struct vmdk_piece *adding;
	struct vmdk_line room; /* for a place for a table, or for the first mark */

	struct vmdk_table *table; /* VMDK_SETS times VMDK_WAYS */
	uint32_t clock;
	struct vmdk_table *dirty;
	struct vmdk_table *making; /* one at a time */

	struct blk_line flushes; /* for a cycle */
	struct vmdk_cycle cycle;
	bool marked, mark_wanted;
	struct vmdk_io mark;
	struct vmdk_part *cid_part;
	uint64_t cid_at;
	uint8_t cid[2 * BLK_SECTOR]; /* what the descriptor is to have there */
	uint32_t cid_len;
	struct vmdk_unpack unpack;
};

/* blk/vmdk.c */
extern struct blk_ops vmdk_ops;
struct vmdk_part *vmdk_part_at(const struct vmdk *d, uint64_t off);

/* Has the split wait; it goes on, with an error where rc is one, when the line is woken. */
void vmdk_stall(struct vmdk_split *s, struct vmdk_line *l);
void vmdk_wake(struct vmdk_line *l, int rc);
void vmdk_commit(struct blk *b);
void vmdk_io(struct vmdk_io *io, enum blk_op op, unsigned flags, uint64_t off, uint64_t len);

/* blk/vmdk_table.c */

/* What there is in a row. */
struct vmdk_run {
	enum { VMDK_ABSENT, VMDK_ZEROES, VMDK_DATA, VMDK_PACKED } kind;
	uint64_t len; /* bytes, at most what it is on entry */
	uint64_t at;  /* byte of the file */
	struct vmdk_table *table;
};

/* The table, which is made where the directory has none; NULL: the split waits for it. */
struct vmdk_table *vmdk_table_get(struct vmdk_part *p, uint32_t index, struct vmdk_split *s);
struct vmdk_table *vmdk_table_peek(const struct vmdk_part *p, uint32_t index);

/* What the table says of byte `off` of the part and on. 0 or -EIO. */
int vmdk_table_run(
	const struct vmdk_part *p, const uint32_t *entry, uint64_t off, struct vmdk_run *run);

/* How many bytes from `off` on are one table's. */
static inline uint64_t vmdk_table_left(const struct vmdk_part *p, uint64_t off)
{
	return (1ull << p->covers_bits) - (off & ((1ull << p->covers_bits) - 1));
}

/* blk/vmdk_bring.c */

/* Has the table come for which the splits in its line wait. `t` has nothing that is needed. */
void vmdk_table_bring(struct vmdk_table *t, struct vmdk_part *p, uint32_t index);

/* Whether the file has the table that is said to be at the sector. 0 or -EIO. */
int vmdk_table_check(const struct vmdk_part *p, uint64_t entry_at, uint32_t sector);

/* -EIO; says once a second what is wrong with which file where. */
int vmdk_corrupt(const struct vmdk_part *p, uint64_t at, const char *what, uint64_t value);

/* blk/vmdk_flush.c */
void vmdk_dirty(struct vmdk_table *t);
/* Starts, if none is under way, a cycle for what waits. */
void vmdk_cycle(struct vmdk *d);

/* blk/vmdk_unpack.c */
void vmdk_unpack_add(struct vmdk_piece *p);
int vmdk_unpack_init(struct vmdk *d, struct decompressor *z, uint32_t grain);

/* blk/vmdk_close.c, blk/vmdk_open.c */
void vmdk_destroy(struct blk *b);
void vmdk_free(struct vmdk *d);

#endif
