// SPDX-License-Identifier: MIT
// Compressed clusters are read and unpacked as a whole, and the last few are kept: who reads on in
// one has it at once.
#include "blk/qcow2_parts.h"

#include <errno.h>

static void end(struct qcow2_unpacker *u, int rc)
{
	struct qcow2 *q = u->q;

	u->busy = false;
	if (rc == -EINVAL)
		rc = qcow2_broken(q, "compressed cluster", u->entry, 0);
	if (rc)
		u->entry = 0;
	qcow2_line_wake(&u->waiting, rc);
	qcow2_line_wake(&q->unpacking, 0);
	blk_commit(&q->blk);
}

static void unpacked(struct decompress_job *j, int rc)
{
	end(container_of(j, struct qcow2_unpacker, job), rc);
}

static void was_read(struct blk_request *r, int rc)
{
	struct qcow2_unpacker *u = container_of(r, struct qcow2_unpacker, r);
	struct qcow2 *q = u->q;
	unsigned bits = 62 - (q->cluster_bits - 8);
	size_t skip = u->entry & ((1ull << bits) - 1) & (BLK_SECTOR - 1);

	qcow2_leave(q, u->epoch);
	if (rc) {
		end(u, rc);
		return;
	}
	u->job = (struct decompress_job){
		.kind = q->h.info.zstd ? DECOMPRESS_ZSTD : DECOMPRESS_DEFLATE,
		.from = u->from + skip,
		.from_len = r->len - skip,
		.to = u->to,
		.to_len = q->cluster,
		.done = unpacked,
	};
	q->decompressor->submit(q->decompressor, &u->job);
}

static int buffers(struct qcow2_unpacker *u)
{
	struct qcow2 *q = u->q;
	struct decompressor *d = q->decompressor;

	if (u->from)
		return 0;
	u->to = u->to ? u->to : d->buffer(d, align_up(q->cluster, 4096));
	u->from = u->to ? d->buffer(d, align_up(2 * q->cluster + BLK_SECTOR, 4096)) : NULL;
	return u->from ? 0 : -ENOMEM;
}

static void start(struct qcow2_unpacker *u, const struct qcow2_map *m)
{
	struct qcow2 *q = u->q;
	unsigned bits = 62 - (q->cluster_bits - 8);
	uint64_t sectors = ((m->entry & (QCOW2_COMPRESSED - 1)) >> bits) + 1;

	u->busy = true;
	u->entry = m->entry;
	u->iov = (struct iovec){u->from, sectors * BLK_SECTOR};
	u->r = (struct blk_request){.op = BLK_READ,
		.off = align_down(m->host, BLK_SECTOR),
		.len = sectors * BLK_SECTOR,
		.iov = &u->iov,
		.iovcnt = 1,
		.done = was_read};
	u->epoch = qcow2_enter(q);
	blk_submit(q->file, &u->r);
}

static struct qcow2_unpacker *find(struct qcow2 *q, uint64_t entry)
{
	for (unsigned i = 0; i < QCOW2_UNPACKERS; i++)
		if (q->unpacker[i].entry == entry)
			return &q->unpacker[i];
	return NULL;
}

/* One that is not busy: not the one that was used last, if that can be. */
static struct qcow2_unpacker *idle(struct qcow2 *q)
{
	for (unsigned i = 1; i <= QCOW2_UNPACKERS; i++) {
		struct qcow2_unpacker *u = &q->unpacker[(q->unpacked + i) % QCOW2_UNPACKERS];

		if (!u->busy)
			return u;
	}
	return NULL;
}

int qcow2_unpack(
	struct qcow2 *q, const struct qcow2_map *m, struct qcow2_waiter *w, const uint8_t **out)
{
	struct qcow2_unpacker *u = find(q, m->entry);
	int rc;

	if (!q->decompressor)
		return -ENOTSUP;
	if (!u) {
		u = idle(q);
		if (!u) {
			qcow2_line_add(&q->unpacking, w);
			return QCOW2_WAIT;
		}
		u->q = q;
		rc = buffers(u);
		if (rc)
			return rc;
		start(u, m);
	}
	q->unpacked = (unsigned)(u - q->unpacker);
	*out = u->to;
	if (u->busy) {
		qcow2_line_add(&u->waiting, w);
		return QCOW2_WAIT;
	}
	return 0;
}

void qcow2_unpack_forget(struct qcow2 *q, uint64_t entry)
{
	struct qcow2_unpacker *u = find(q, entry);

	if (u && !u->busy)
		u->entry = 0;
}
