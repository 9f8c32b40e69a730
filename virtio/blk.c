// SPDX-License-Identifier: MIT
// virtio-blk: requests from the queues to the disk, completions back.
//
// A request's chain is a header of 16 bytes, data, and a status byte at the very end of what the
// device may write; where descriptors begin and end within that means nothing (virtio 1.2, 5.2.6,
// 2.7.4.1). The header and the segments of a discard are copied once and the copy is judged; data
// goes between guest memory and the disk as it is.
//
// Requests live in a pool, whose memory is touched as far as there ever were so many in flight: an
// idle disk costs a page or two. When the pool is empty the queues wait for a completion. The
// driver is interrupted once for all that completes within one turn of the loop.
//
// A request that the disk wants held (BLK_HELD) stays out of its queue and in the pool while the
// machine is paused, and is taken from its head again, as if it were new, when it goes on. So a
// pause does not wait for it, and of its state a queue and a head are all that is saved.
#include "virtio/blk.h"

#include "base/fd.h"
#include "base/iov.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "base/util.h"
#include "blk/blk.h"
#include "virtio/device.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>

#define QUEUE_SIZE 256u
#define SEG_MAX (QUEUE_SIZE - 2) /* header and status may have descriptors of their own */
#define POOL QUEUE_SIZE
#define ID_BYTES VIRTIO_BLK_ID_BYTES
/* Requests taken from one queue before others on the loop have their turn. */
#define BUDGET 64

struct request {
	struct blk_request io;
	struct vblk *dev;
	struct request *next; /* while free or held */
	struct queue_elem elem;
	uint16_t queue;
	uint16_t data_n; /* pieces of data in `data` */
	bool unmap;      /* of write zeroes: the driver allows it */
	struct iovec iov[QUEUE_SIZE];
	struct iovec data[QUEUE_SIZE];
};

struct vblk {
	struct virtio_device dev;
	struct blk *blk;
	char serial[ID_BYTES];
	struct request *pool, *free, *held;
	unsigned fresh;           /* of the pool, how many have never been used */
	unsigned flying;          /* requests the disk has */
	bool starved;             /* a queue waits for a request to come back */
	bool flushing;            /* `flush` is under way */
	bool flush_held;          /* it has failed, and is to be submitted again */
	bool told;                /* that it has failed */
	struct blk_request flush; /* of our own, when the driver has switched its cache off */
	uint32_t to_notify;
	struct deferred notify;
	struct queue queue[VIRTIO_BLK_QUEUES_MAX];
	uint16_t queue_max[VIRTIO_BLK_QUEUES_MAX];
};

/* --- requests
 * -------------------------------------------------------------------------------------- */

static struct request *take_request(struct vblk *v)
{
	struct request *r = v->free;

	if (r)
		v->free = r->next;
	else if (v->fresh > 0)
		r = &v->pool[--v->fresh];
	return r;
}

static void give_request(struct vblk *v, struct request *r)
{
	r->next = v->free;
	v->free = r;
}

static void notify(void *arg)
{
	struct vblk *v = arg;

	for (unsigned i = 0; v->to_notify; i++, v->to_notify >>= 1)
		if (v->to_notify & 1)
			queue_notify(&v->queue[i]);
}

/* The status goes last, into the byte that the driver finds it in. */
static void finish(struct request *r, uint8_t status)
{
	struct vblk *v = r->dev;
	struct queue_elem *e = &r->elem;

	iov_write(e->iov + e->out_n, e->in_n, e->in_len - 1, &status, 1);
	queue_push(&v->queue[r->queue], e, e->in_len);
	v->to_notify |= 1u << r->queue;
	loop_defer(v->dev.io, &v->notify);
	give_request(v, r);
	if (!v->starved)
		return;
	v->starved = false;
	for (unsigned i = 0; i < v->dev.queue_count; i++)
		virtio_kick_again(&v->dev, i);
}

static void io_done(struct blk_request *io, int rc)
{
	struct request *r = container_of(io, struct request, io);

	r->dev->flying--;
	if (rc == BLK_HELD) {
		r->next = r->dev->held;
		r->dev->held = r;
	} else {
		finish(r, rc == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
	}
}

static bool is_durable(const struct vblk *v)
{
	return !virtio_has_feature(&v->dev, VIRTIO_BLK_F_FLUSH) ||
	       !v->dev.config[offsetof(struct virtio_blk_config, wce)];
}

static void submit(struct request *r, enum blk_op op, uint64_t sector, uint64_t len)
{
	bool writes = op == BLK_WRITE || op == BLK_WRITE_ZEROES;
	struct vblk *v = r->dev;
	unsigned flags = r->unmap ? BLK_UNMAP : 0;

	if (writes && is_durable(v))
		flags |= BLK_FUA;
	/* Where it would wrap it is out of range all the more. */
	r->io = (struct blk_request){
		.op = op,
		.off = sector > UINT64_MAX / BLK_SECTOR ? UINT64_MAX - BLK_SECTOR + 1
							: sector * BLK_SECTOR,
		.len = len,
		.iov = r->data,
		.iovcnt = r->data_n,
		.flags = flags,
		.done = io_done,
	};
	v->flying++;
	blk_submit(v->blk, &r->io);
}

/* 5.2.6.2: data in whole sectors, one way only. */
static void read_or_write(struct request *r, bool write, uint64_t sector)
{
	const struct queue_elem *e = &r->elem;
	uint64_t out = e->out_len - sizeof(struct virtio_blk_outhdr), in = e->in_len - 1;
	uint64_t len = write ? out : in;

	if ((write ? in : out) || !len || len % BLK_SECTOR) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->data_n = (uint16_t)(write ? iov_slice(r->data, e->iov, e->out_n,
					       sizeof(struct virtio_blk_outhdr), len)
				     : iov_slice(r->data, e->iov + e->out_n, e->in_n, 0, len));
	submit(r, write ? BLK_WRITE : BLK_READ, sector, len);
}

static void get_id(struct request *r)
{
	const struct queue_elem *e = &r->elem;
	size_t room = MIN(e->in_len - 1, ID_BYTES);

	iov_write(e->iov + e->out_n, e->in_n, 0, r->dev->serial, room);
	finish(r, VIRTIO_BLK_S_OK);
}

/* One segment, as max_discard_seg and max_write_zeroes_seg say. 5.2.6.2: unknown flags and, for a
 * discard, unmap are not supported. */
static void discard_or_zero(struct request *r, bool zero)
{
	const struct queue_elem *e = &r->elem;
	struct virtio_blk_discard_write_zeroes seg;
	uint32_t allowed = zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;

	if (e->out_len - sizeof(struct virtio_blk_outhdr) != sizeof(seg) || e->in_len != 1) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	iov_read(e->iov, e->out_n, sizeof(struct virtio_blk_outhdr), &seg, sizeof(seg));
	if (seg.flags & ~allowed || !seg.num_sectors) {
		finish(r, seg.num_sectors ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
		return;
	}
	r->unmap = seg.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	submit(r, zero ? BLK_WRITE_ZEROES : BLK_DISCARD, seg.sector,
		(uint64_t)seg.num_sectors * BLK_SECTOR);
}

static void serve(struct request *r)
{
	struct virtio_blk_outhdr hdr;

	iov_read(r->elem.iov, r->elem.out_n, 0, &hdr, sizeof(hdr));
	switch (hdr.type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		read_or_write(r, hdr.type == VIRTIO_BLK_T_OUT, hdr.sector);
		break;
	case VIRTIO_BLK_T_FLUSH:
		submit(r, BLK_FLUSH, 0, 0);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(r);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		discard_or_zero(r, hdr.type == VIRTIO_BLK_T_WRITE_ZEROES);
		break;
	default:
		finish(r, VIRTIO_BLK_S_UNSUPP);
	}
}

static void init_request(struct vblk *v, struct request *r, unsigned index)
{
	r->dev = v;
	r->queue = (uint16_t)index;
	r->data_n = 0;
	r->unmap = false;
	r->elem.iov = r->iov;
	r->elem.cap = ARRAY_SIZE(r->iov);
}

/* One that has been taken is on its way. False: the queue is broken. */
static bool begin(struct vblk *v, struct request *r)
{
	if (r->elem.out_len < sizeof(struct virtio_blk_outhdr) || r->elem.in_len < 1) {
		virtio_broken(&v->dev,
			"a request of %u and %u bytes has no room for its header or status",
			r->elem.out_len, r->elem.in_len);
		queue_push(&v->queue[r->queue], &r->elem, 0);
		give_request(v, r);
		return false;
	}
	serve(r);
	return true;
}

/* The next request of a queue: taken and on its way. False where there is none. */
static bool serve_next(struct vblk *v, unsigned index)
{
	struct request *r = take_request(v);

	if (!r) {
		v->starved = true;
		return false;
	}
	init_request(v, r, index);
	if (!queue_pop(&v->queue[index], &r->elem)) {
		give_request(v, r);
		return false;
	}
	return begin(v, r);
}

/* Its queue may be gone. */
static void serve_again(struct vblk *v, struct request *r)
{
	init_request(v, r, r->queue);
	if (queue_pop_again(&v->queue[r->queue], &r->elem, r->elem.head))
		begin(v, r);
	else
		give_request(v, r);
}

/* The first of those held, taken out; NULL when there is none. */
static struct request *take_held(struct request **list)
{
	struct request *r = *list;

	if (r)
		*list = r->next;
	return r;
}

/* --- the device
 * --------------------------------------------------------------------------------------- */

static struct vblk *vblk_of(struct virtio_device *dev)
{
	return container_of(dev, struct vblk, dev);
}

static void vblk_kick(struct virtio_device *dev, unsigned index)
{
	struct vblk *v = vblk_of(dev);
	struct queue *q = &v->queue[index];
	int left = BUDGET;

	do {
		queue_disable_kicks(q);
		while (left > 0 && serve_next(v, index))
			left--;
		blk_commit(v->blk);
	} while (queue_enable_kicks(q) && left > 0 && !v->starved);
	if (left == 0)
		virtio_kick_again(dev, index);
}

/* What is in flight comes to its end first: a pause waits for the disk. */
static void vblk_stop(struct virtio_device *dev)
{
	struct vblk *v = vblk_of(dev);

	if (v->flying || v->flushing)
		blk_drain(v->blk);
	v->starved = false;
	if (loop_undefer(dev->io, &v->notify))
		notify(v);
}

static void vblk_reset(struct virtio_device *dev)
{
	struct vblk *v = vblk_of(dev);
	struct request *r;

	v->flush_held = false;
	while ((r = take_held(&v->held)))
		give_request(v, r);
}

static void say_cache_lost(struct vblk *v, int rc)
{
	if (v->told)
		return;
	v->told = true;
	log_warn("%s: what the guest wrote before it switched the cache off may be lost in a "
		 "crash: %s",
		v->dev.name, strerror(-rc));
}

static void cache_flushed(struct blk_request *io, int rc)
{
	struct vblk *v = container_of(io, struct vblk, flush);

	v->flushing = false;
	v->flush_held = rc == BLK_HELD;
	if (rc < 0)
		say_cache_lost(v, rc);
}

static void flush_cache(struct vblk *v)
{
	v->flushing = true;
	v->flush_held = false;
	v->flush = (struct blk_request){.op = BLK_FLUSH, .done = cache_flushed};
	blk_submit(v->blk, &v->flush);
}

/* Those that fail again are held again. */
static void vblk_start(struct virtio_device *dev)
{
	struct vblk *v = vblk_of(dev);
	struct request *list = steal_ptr(&v->held), *r;

	if (!list && !v->flush_held)
		return;
	if (v->flush_held)
		flush_cache(v);
	while ((r = take_held(&list)))
		serve_again(v, r);
	blk_commit(v->blk);
}

/*
 * A driver without a cache flushes no more, and takes what it has written for durable: that is so
 * when its switch is done. What is under way comes to its end first, as a flush would miss it.
 */
static void leave_cache(struct vblk *v)
{
	int rc = v->flushing ? -EBUSY : blk_drain(v->blk);

	if (!rc) {
		flush_cache(v);
		rc = blk_drain(v->blk);
	}
	if (rc)
		say_cache_lost(v, rc);
}

/* 5.2.5.1: only the cache mode may be written, and only where that was negotiated. */
static void vblk_config_write(
	struct virtio_device *dev, unsigned off, const void *data, unsigned len)
{
	const uint8_t *wce = data;
	uint8_t mode;

	if (off != offsetof(struct virtio_blk_config, wce) || len != 1 ||
		!virtio_has_feature(dev, VIRTIO_BLK_F_CONFIG_WCE)) {
		guest_error(&dev->log, dev->name, "a write of %u bytes at %u of the configuration",
			len, off);
		return;
	}
	mode = *wce != 0;
	if (!mode && dev->config[off])
		leave_cache(vblk_of(dev));
	virtio_config_set(dev, off, &mode, 1);
}

static void save_held(struct virtio_device *dev, struct stream_out *s)
{
	const struct vblk *v = vblk_of(dev);

	stream_put_u8(s, v->flush_held);
	stream_put_u32(s, virtio_blk_held(dev) - v->flush_held);
	for (const struct request *r = v->held; r; r = r->next) {
		stream_put_u16(s, r->queue);
		stream_put_u16(s, r->elem.head);
	}
}

/* What the heads are worth is judged when they are taken. */
static void load_held(struct vblk *v, struct stream_in *s)
{
	v->flush_held = stream_get_u8(s) != 0;
	for (uint32_t count = stream_get_u32(s); count && !s->err; count--) {
		struct request *r = take_request(v);
		uint16_t queue = stream_get_u16(s);

		if (!r || queue >= v->dev.queue_count) {
			stream_bad(s, "held requests that the device cannot have");
			if (r)
				give_request(v, r);
			return;
		}
		r->queue = queue;
		r->elem.head = stream_get_u16(s);
		r->next = v->held;
		v->held = r;
	}
}

static void vblk_save(struct virtio_device *dev, struct stream_out *s)
{
	stream_begin(s, "virtio-blk", 2);
	stream_put_u64(s, vblk_of(dev)->blk->size);
	stream_put_u8(s, dev->config[offsetof(struct virtio_blk_config, wce)]);
	save_held(dev, s);
	stream_end(s);
}

static int vblk_load(struct virtio_device *dev, struct stream_in *s)
{
	int rc = stream_open(s, "virtio-blk", 2);
	bool holds = rc > 1;
	uint64_t size;
	uint8_t wce;

	if (rc < 0)
		return rc;
	size = stream_get_u64(s);
	wce = stream_get_u8(s) != 0;
	if (holds)
		load_held(vblk_of(dev), s);
	rc = stream_close(s);
	if (!rc && size != vblk_of(dev)->blk->size)
		rc = fail(EINVAL,
			"%s: the disk has %llu bytes, it had %llu when the state was saved",
			dev->name, (unsigned long long)vblk_of(dev)->blk->size,
			(unsigned long long)size);
	if (!rc)
		virtio_config_set(dev, offsetof(struct virtio_blk_config, wce), &wce, 1);
	return rc;
}

static const struct virtio_ops vblk_ops = {
	.start = vblk_start,
	.stop = vblk_stop,
	.reset = vblk_reset,
	.kick = vblk_kick,
	.config_write = vblk_config_write,
	.save = vblk_save,
	.load = vblk_load,
};

/* --- birth and death
 * -------------------------------------------------------------------------------------- */

static void set_limits(struct virtio_blk_config *c, const struct blk *b)
{
	uint32_t most = UINT32_MAX / BLK_SECTOR;

	c->capacity = b->size / BLK_SECTOR;
	c->seg_max = SEG_MAX;
	c->blk_size = BLK_SECTOR;
	c->physical_block_exp =
		(uint8_t)__builtin_ctz(MAX(b->physical_block, BLK_SECTOR) / BLK_SECTOR);
	c->min_io_size = (uint16_t)(1u << c->physical_block_exp);
	c->opt_io_size = b->optimal_io / BLK_SECTOR;
	c->max_discard_sectors = c->max_write_zeroes_sectors = most;
	c->max_discard_seg = c->max_write_zeroes_seg = 1;
	c->discard_sector_alignment = MAX(b->discard_align, BLK_SECTOR) / BLK_SECTOR;
	c->write_zeroes_may_unmap = b->discard_align > 0;
}

static uint64_t offered(const struct blk *b, unsigned queues)
{
	uint64_t f = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
		     1ull << VIRTIO_BLK_F_TOPOLOGY | 1ull << VIRTIO_BLK_F_FLUSH;

	if (queues > 1)
		f |= 1ull << VIRTIO_BLK_F_MQ;
	if (b->read_only)
		return f | 1ull << VIRTIO_BLK_F_RO;
	f |= 1ull << VIRTIO_BLK_F_CONFIG_WCE | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	if (b->discard_align)
		f |= 1ull << VIRTIO_BLK_F_DISCARD;
	return f;
}

static void describe(struct vblk *v, const struct virtio_blk_config_args *args)
{
	struct virtio_blk_config c = {.wce = args->writeback, .num_queues = (uint16_t)args->queues};

	set_limits(&c, v->blk);
	memcpy(v->dev.config, &c, sizeof(c));
	if (args->serial)
		memcpy(v->serial, args->serial, strnlen(args->serial, ID_BYTES));
}

int virtio_blk_create(struct virtio_device **out, const struct virtio_blk_config_args *args)
{
	struct vblk *v = calloc(1, sizeof(*v));

	if (v)
		v->pool = calloc(POOL, sizeof(*v->pool)); /* whose pages are not touched yet */
	if (!v || !v->pool) {
		free(v);
		blk_destroy(args->blk);
		return fail(ENOMEM, "%s: no memory", args->name);
	}
	v->blk = args->blk;
	v->fresh = POOL;
	v->notify = DEFERRED_INIT(notify, v);
	for (unsigned i = 0; i < args->queues; i++)
		v->queue_max[i] = QUEUE_SIZE;
	v->dev = (struct virtio_device){
		.ops = &vblk_ops,
		.name = args->name,
		.id = VIRTIO_ID_BLOCK,
		.offered = offered(v->blk, args->queues),
		.queues = v->queue,
		.queue_max = v->queue_max,
		.queue_count = args->queues,
		.config_len = sizeof(struct virtio_blk_config),
	};
	virtio_device_init(&v->dev);
	describe(v, args);
	*out = &v->dev;
	return 0;
}

void virtio_blk_destroy(struct virtio_device *dev)
{
	struct vblk *v;

	if (!dev)
		return;
	v = vblk_of(dev);
	virtio_device_finish(dev);
	blk_destroy(v->blk);
	free(v->pool);
	free(v);
}

int virtio_blk_resize(struct virtio_device *dev, uint64_t *size)
{
	struct vblk *v = vblk_of(dev);
	int rc = blk_remeasure(v->blk);
	uint64_t sectors = v->blk->size / BLK_SECTOR;

	if (rc > 0)
		virtio_config_set(dev, offsetof(struct virtio_blk_config, capacity), &sectors,
			sizeof(sectors));
	*size = v->blk->size;
	return rc < 0 ? rc : 0;
}

unsigned virtio_blk_held(struct virtio_device *dev)
{
	unsigned count = vblk_of(dev)->flush_held;

	for (const struct request *r = vblk_of(dev)->held; r; r = r->next)
		count++;
	return count;
}
