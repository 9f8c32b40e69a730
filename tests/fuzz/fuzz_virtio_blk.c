// SPDX-License-Identifier: MIT
// virtio-blk under a driver made of random bytes, over a disk that completes in whatever order it
// is told, or fails, or has requests held until the next pause is over.
//
// There are two drivers. The honest one keeps to the rules of the ring; what it asks for may be
// wrong, and what has to come of it is known: the status, and what was read, must be that. Each of
// its requests has sectors of its own. The hostile one writes anywhere into the rings and its
// memory, and offers what is not its to offer: all that must hold is that the disk is asked for
// nothing that is not in guest memory.
//
// The input is a header (driver, features, ring size), then operations of eight bytes.
#include "tests/fuzz/transport.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "blk/blk.h"
#include "virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>

#define RAM MIB(1)
#define RINGS 0x1000u
#define RING_ROOM 0x8000u
#define QUEUES 2u
#define SLOTS 8u
#define SLOT_SECTORS 8u
#define SECTORS (SLOTS * SLOT_SECTORS)
#define SIZE (SECTORS * BLK_SECTOR)
#define PIECE 0x2000u /* guest memory of one piece; a slot has PIECES of them from AREA on */
#define PIECES 8u
#define AREA 0x40000u
#define PENDING 1024u
#define OPERATIONS 150u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A request of the honest driver. */
struct slot {
	bool busy;
	unsigned queue;
	uint32_t type;
	uint64_t off, len;            /* on the disk; of one that is in order */
	uint8_t status;               /* that must come of it */
	struct iovec out[4], in[4];   /* where its pieces lie */
	unsigned out_n, in_n, in_len; /* in_len: with the status */
	uint8_t data[SLOT_SECTORS * BLK_SECTOR];
};

struct fuzz {
	struct blk blk;
	struct transport t;
	bool later;
	struct blk_request *pending[PENDING];
	unsigned count;
	bool flush_failed;
	struct slot slot[SLOTS];
};

static struct mem *mem;
static struct loop *loop;
static uint8_t disk[SIZE], shadow[SIZE], pattern[SIZE];

/* ---- the disk ---- */

static bool writes(const struct blk_request *r)
{
	return r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES;
}

static void perform(struct fuzz *f, struct blk_request *r, int rc)
{
	if (rc < 0 && r->op == BLK_FLUSH)
		f->flush_failed = true;
	else if (rc < 0)
		f->slot[r->off / BLK_SECTOR / SLOT_SECTORS].status = VIRTIO_BLK_S_IOERR;
	else if (!rc && r->op == BLK_READ)
		iov_write(r->iov, r->iovcnt, 0, disk + r->off, r->len);
	else if (!rc && r->op == BLK_WRITE)
		iov_read(r->iov, r->iovcnt, 0, disk + r->off, r->len);
	else if (!rc)
		memset(disk + r->off, r->op == BLK_DISCARD ? 0xdd : 0, r->len);
	r->done(r, rc);
}

static void complete(struct fuzz *f, unsigned index, int rc)
{
	struct blk_request *r = f->pending[index];

	f->pending[index] = f->pending[--f->count];
	perform(f, r, rc);
}

/* What the device hands on is sound, and durable where nothing else would make it so. */
static void disk_submit(struct blk *b, struct blk_request *r)
{
	struct fuzz *f = container_of(b, struct fuzz, blk);
	const char *ram = mem_get(mem, 0, RAM);
	bool moves = r->op == BLK_READ || r->op == BLK_WRITE;
	bool cached = virtio_has_feature(f->t.dev, VIRTIO_BLK_F_FLUSH) &&
		      f->t.dev->config[offsetof(struct virtio_blk_config, wce)];
	uint64_t sum = 0;

	for (unsigned i = 0; i < r->iovcnt && moves; i++) {
		const char *p = r->iov[i].iov_base;

		check(p >= ram && r->iov[i].iov_len <= (size_t)(ram + RAM - p));
		sum += r->iov[i].iov_len;
	}
	check(!moves || sum == r->len);
	check(!writes(r) || cached || r->flags & BLK_FUA);
	if (!f->later) {
		perform(f, r, 0);
		return;
	}
	check(f->count < PENDING);
	f->pending[f->count++] = r;
}

static int disk_drain(struct blk *b)
{
	struct fuzz *f = container_of(b, struct fuzz, blk);

	while (f->count)
		complete(f, f->count / 2, 0);
	return 0;
}

static int64_t disk_measure(struct blk *b)
{
	return SIZE;
}

static void disk_destroy(struct blk *b)
{
}

/* ---- the device ---- */

static void take_down(struct fuzz *f)
{
	transport_down(&f->t);
	check(f->count == 0);
}

static void negotiate(struct fuzz *f, uint8_t bits)
{
	static const unsigned own[] = {VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE,
		VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES};

	f->t.dev->features = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		f->t.dev->features |= bits >> i & 1 ? f->t.dev->offered & 1ull << own[i] : 0;
	f->t.dev->features |= bits & 0x10 ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0;
	f->t.dev->features |= bits & 0x20 ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0;
}

/* As a reset makes them: new rings. */
static void renew(struct fuzz *f, uint8_t size_log2)
{
	transport_renew(&f->t, RINGS, RING_ROOM, (uint16_t)(1u << size_log2));
	for (unsigned i = 0; i < SLOTS; i++)
		f->slot[i].busy = false;
}

/* The state survives being saved, also in a device that was used otherwise since. */
static void save_and_load(struct fuzz *f)
{
	struct stream_out out;
	struct stream_in in;

	stream_out_init(&out);
	f->t.dev->ops->save(f->t.dev, &out);
	stream_in_init(&in, out.buf, out.len);
	f->t.dev->ops->reset(f->t.dev);
	check(virtio_blk_held(f->t.dev) == 0);
	check(out.err == 0 && f->t.dev->ops->load(f->t.dev, &in) == 0);
	stream_out_finish(&out);
}

static void write_config(struct fuzz *f, const uint8_t op[8])
{
	unsigned off = op[1] % f->t.dev->config_len;
	unsigned len = MIN(1u << op[2] % 4, f->t.dev->config_len - off);
	struct virtio_blk_config before, after;

	memcpy(&before, f->t.dev->config, sizeof(before));
	f->t.dev->ops->config_write(f->t.dev, off, op + 4, MIN(len, 4));
	memcpy(&after, f->t.dev->config, sizeof(after));
	after.wce = before.wce;
	check(memcmp(&before, &after, sizeof(before)) == 0);
}

/* ---- the honest driver ---- */

/* Pieces of the slot's memory, with `len` bytes of room in all. */
static unsigned lay_out(struct iovec *iov, uint64_t at, size_t len, unsigned seed)
{
	static const unsigned lengths[] = {1, 15, 16, 17, 511, 512, 1000, 4096};
	unsigned n = 0;

	for (; len; n++, seed >>= 3) {
		size_t part = n == 3 ? len : MIN(len, lengths[seed % 8]);

		iov[n] = (struct iovec){mem_get(mem, at + n * PIECE + seed % 8, part), part};
		len -= part;
	}
	return n;
}

static uint64_t address_of(const void *p)
{
	return (uint64_t)((const char *)p - (const char *)mem_get(mem, 0, RAM));
}

static void offer(struct fuzz *f, unsigned index, bool indirect)
{
	const struct slot *s = &f->slot[index];
	struct driver *d = &f->t.q[s->queue], table = {0};
	uint16_t first = (uint16_t)(index / QUEUES * PIECES), n = (uint16_t)(s->out_n + s->in_n);
	uint64_t at = AREA + (index * PIECES + PIECES - 1) * PIECE + 0x1800;

	if (indirect) {
		table.desc = mem_get(mem, at, n * sizeof(*table.desc));
		driver_desc(d, first, at, n * (uint32_t)sizeof(*table.desc), VRING_DESC_F_INDIRECT);
	}
	for (uint16_t i = 0; i < n; i++) {
		const struct iovec *p = i < s->out_n ? &s->out[i] : &s->in[i - s->out_n];
		unsigned flags = (i < s->out_n ? 0 : VRING_DESC_F_WRITE) |
				 (i + 1 < n ? VRING_DESC_F_NEXT : 0);

		driver_desc(indirect ? &table : d, (uint16_t)(indirect ? i : first + i),
			address_of(p->iov_base), (uint32_t)p->iov_len, flags);
	}
	driver_offer(d, first);
}

static const uint64_t nowhere[] = {SECTORS, SECTORS - 1, 1ull << 55, UINT64_MAX,
	UINT64_MAX / BLK_SECTOR, UINT64_MAX / BLK_SECTOR + 1, UINT32_MAX, 1ull << 62};

/* Where on the disk: `len` at least two sectors where that makes it out of range. */
static uint64_t place(struct slot *s, unsigned index, const uint8_t op[8], uint64_t *sectors)
{
	unsigned rel = op[3] % 16;

	if (rel >= SLOT_SECTORS) {
		*sectors = MAX(*sectors, 2);
		s->status = VIRTIO_BLK_S_IOERR;
		return nowhere[rel - SLOT_SECTORS];
	}
	*sectors = MIN(*sectors, SLOT_SECTORS - rel);
	s->off = (index * SLOT_SECTORS + rel) * BLK_SECTOR;
	s->len = *sectors * BLK_SECTOR;
	return index * SLOT_SECTORS + rel;
}

/* Header and data in `buf`: bytes that the device reads. Says how many it may write in *in_len. */
static size_t compose(struct slot *s, unsigned index, const uint8_t op[8], uint8_t *buf)
{
	struct virtio_blk_discard_write_zeroes seg = {.flags = op[4] >> 4 & 3};
	struct virtio_blk_outhdr h = {.type = s->type};
	uint64_t sectors = op[4] % (SLOT_SECTORS + 1);
	bool zero = s->type == VIRTIO_BLK_T_WRITE_ZEROES;
	size_t len = sizeof(h), odd = op[4] >= 0xf0;

	s->in_len = 1;
	if (s->type == VIRTIO_BLK_T_IN || s->type == VIRTIO_BLK_T_OUT) {
		h.sector = place(s, index, op, &sectors);
		if (odd || !sectors)
			s->status = VIRTIO_BLK_S_IOERR;
		memcpy(s->data, pattern + op[5], sizeof(s->data));
		memcpy(buf + len, s->data, sectors * BLK_SECTOR);
		if (s->type == VIRTIO_BLK_T_OUT)
			len += sectors * BLK_SECTOR + odd;
		else
			s->in_len += sectors * BLK_SECTOR + odd;
	} else if (s->type == VIRTIO_BLK_T_DISCARD || zero) {
		seg.sector = place(s, index, op, &sectors);
		seg.num_sectors = (uint32_t)sectors;
		if (seg.flags & ~(zero ? 1u : 0))
			s->status = VIRTIO_BLK_S_UNSUPP;
		if (odd || !sectors)
			s->status = VIRTIO_BLK_S_IOERR;
		memcpy(buf + len, &seg, sizeof(seg));
		len += sizeof(seg) + odd;
	} else if (s->type == VIRTIO_BLK_T_GET_ID) {
		s->in_len += op[4];
	} else if (s->type != VIRTIO_BLK_T_FLUSH) {
		s->status = VIRTIO_BLK_S_UNSUPP;
	}
	memcpy(buf, &h, sizeof(h));
	return len;
}

static void ask(struct fuzz *f, const uint8_t op[8])
{
	static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_GET_ID, 2,
		VIRTIO_BLK_T_OUT};
	unsigned index = op[1] % SLOTS;
	struct slot *s = &f->slot[index];
	uint64_t area = AREA + index * PIECES * PIECE;
	uint8_t buf[sizeof(struct virtio_blk_outhdr) + sizeof(s->data) + 1] = {0};
	size_t len;

	if (s->busy)
		return;
	s->busy = true;
	s->queue = index % QUEUES;
	s->type = types[op[2] % ARRAY_SIZE(types)];
	s->status = VIRTIO_BLK_S_OK;
	len = compose(s, index, op, buf);
	if (f->blk.read_only && s->type != VIRTIO_BLK_T_IN && s->type != VIRTIO_BLK_T_FLUSH &&
		s->type != VIRTIO_BLK_T_GET_ID && s->status == VIRTIO_BLK_S_OK)
		s->status = VIRTIO_BLK_S_IOERR;
	s->out_n = lay_out(s->out, area, len, op[6]);
	s->in_n = lay_out(s->in, area + 4 * PIECE, s->in_len, op[7]);
	iov_write(s->out, s->out_n, 0, buf, len);
	memset(buf, 0xee, sizeof(buf));
	iov_write(s->in, s->in_n, 0, buf, s->in_len);
	offer(f, index, virtio_has_feature(f->t.dev, VIRTIO_RING_F_INDIRECT_DESC) && op[2] & 0x80);
}

/* What a request that is over has come to. */
static void judge(struct fuzz *f, struct slot *s)
{
	uint8_t status, buf[sizeof(s->data)];

	check(s->busy);
	s->busy = false;
	check(iov_read(s->in, s->in_n, s->in_len - 1, &status, 1) == 1);
	if (s->type == VIRTIO_BLK_T_FLUSH && f->flush_failed && status == VIRTIO_BLK_S_IOERR)
		return;
	check(status == s->status);
	if (status != VIRTIO_BLK_S_OK)
		return;
	if (s->type == VIRTIO_BLK_T_IN) {
		iov_read(s->in, s->in_n, 0, buf, s->len);
		check(memcmp(buf, shadow + s->off, s->len) == 0);
	} else if (s->type == VIRTIO_BLK_T_OUT) {
		memcpy(shadow + s->off, s->data, s->len);
	} else if (s->type == VIRTIO_BLK_T_WRITE_ZEROES) {
		memset(shadow + s->off, 0, s->len);
	} else if (s->type == VIRTIO_BLK_T_DISCARD && f->blk.discard_align) {
		memset(shadow + s->off, 0xdd, s->len);
	}
}

static void reap(struct fuzz *f)
{
	uint32_t id, len;

	for (unsigned i = 0; i < QUEUES; i++)
		while (driver_reap(&f->t.q[i], &id, &len)) {
			struct slot *s = &f->slot[id / PIECES * QUEUES + i];

			check(id % PIECES == 0 && id / PIECES < SLOTS / QUEUES && len == s->in_len);
			judge(f, s);
		}
}

/* ---- the hostile driver ---- */

static void attack(struct fuzz *f, const uint8_t op[8])
{
	struct driver *d = &f->t.q[op[1] % QUEUES];
	uint8_t *ram = mem_get(mem, 0, RAM);
	uint64_t addr = (uint64_t)get_le16(op + 4) << (op[1] >> 4);
	struct virtio_blk_outhdr h = {.type = op[3], .sector = get_le16(op + 6)};

	switch (op[2] % 6) {
	case 0:
		ram[RINGS + get_le16(op + 4) % 0x10000] = op[6];
		break;
	case 1:
	case 2:
		driver_desc(d, op[3] % d->setup.size, addr, op[6] * (op[7] & 0x80 ? 256u : 1u),
			op[7] & 7);
		break;
	case 3: /* more often than there are entries: many in flight at once */
		for (unsigned n = op[4] < 0xf0 ? op[4] % 4 + 1u : op[4]; n; n--)
			driver_offer(d, op[3] % d->setup.size);
		break;
	case 4:
		mem_write(mem, addr, &h, sizeof(h));
		break;
	default:
		mem_write(mem, addr, op + 2, 6);
	}
}

/* ---- both ---- */

static void pause_or_reset(struct fuzz *f, const uint8_t op[8])
{
	take_down(f);
	if (!f->t.hostile)
		reap(f);
	if (op[1] & 1) {
		f->t.dev->ops->reset(f->t.dev);
		negotiate(f, op[2]);
		renew(f, f->t.hostile ? op[3] % 9 : 5 + op[3] % 4);
	} else {
		save_and_load(f);
	}
	transport_up(&f->t);
}

static void operate(struct fuzz *f, const uint8_t op[8])
{
	switch (op[0] % 8) {
	case 0:
		if (f->count)
			complete(f, get_le16(op + 1) % f->count,
				op[3] < 32   ? -EIO
				: op[3] < 64 ? BLK_HELD
					     : 0);
		break;
	case 1:
		f->t.kick_again[op[1] % QUEUES] = true;
		break;
	case 2:
		if (op[1] < 64)
			pause_or_reset(f, op + 1);
		else if (op[1] < 128)
			f->later = op[2] & 1;
		else
			write_config(f, op + 1);
		break;
	default:
		if (f->t.hostile)
			attack(f, op);
		else
			ask(f, op);
		f->t.kick_again[op[1] % QUEUES] |= op[0] & 0x80;
	}
	transport_kick(&f->t);
	if (!f->t.hostile)
		reap(f);
}

/* One of each kind, as making one takes far longer than most inputs: used, reset, used again. */
static struct virtio_device *get_device(struct fuzz *f)
{
	static struct virtio_device *made[4];
	struct virtio_blk_config_args args = {.name = "disk",
		.blk = &f->blk,
		.serial = "fuzz",
		.queues = QUEUES,
		.writeback = true};
	struct virtio_device **dev =
		&made[(f->blk.read_only ? 2 : 0) + (f->blk.discard_align ? 1 : 0)];
	uint8_t on = 1;

	if (!*dev)
		check(virtio_blk_create(dev, &args) == 0);
	(*dev)->host = NULL;
	virtio_config_set(*dev, offsetof(struct virtio_blk_config, wce), &on, 1);
	return *dev;
}

static void begin(struct fuzz *f, const uint8_t head[4])
{
	static const struct blk_ops ops = {
		.submit = disk_submit,
		.drain = disk_drain,
		.measure = disk_measure,
		.destroy = disk_destroy,
	};

	f->blk = (struct blk){.ops = &ops,
		.name = "disk",
		.size = SIZE,
		.physical_block = 4096,
		.discard_align = head[1] & 0x40 ? 0 : 4096,
		.read_only = head[1] & 0x80};
	f->t.hostile = head[0] & 1;
	f->later = head[0] & 2;
	memcpy(disk, pattern, SIZE);
	memcpy(shadow, pattern, SIZE);
	f->t.dev = get_device(f);
	f->t.mem = mem;
	f->t.queues = QUEUES;
	transport_attach(&f->t, loop);
	negotiate(f, head[1]);
	renew(f, f->t.hostile ? head[2] % 9 : 5 + head[2] % 4);
	transport_up(&f->t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;

	if (size < 4)
		return 0;
	if (!mem) {
		log_set_level(LOG_LEVEL_ERROR);
		check(mem_create(&mem, RAM, MEM_PRIVATE) == 0 && loop_create(&loop, "fuzz") == 0);
		for (unsigned i = 0; i < SIZE; i++)
			pattern[i] = (uint8_t)(i + i / 512 * 3);
	}
	memset(&f, 0, sizeof(f));
	begin(&f, data);
	for (size_t i = 4; i + 8 <= size && i < 4 + 8 * OPERATIONS; i += 8)
		operate(&f, data + i);
	take_down(&f);
	if (!f.t.hostile) {
		transport_up(&f.t); /* what is held is done at last */
		take_down(&f);
		check(virtio_blk_held(f.t.dev) == 0);
		reap(&f);
		check(memcmp(disk, shadow, SIZE) == 0);
	}
	f.t.dev->ops->reset(f.t.dev);
	return 0;
}
