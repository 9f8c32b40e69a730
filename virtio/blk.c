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
#include "virtio/blk_private.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>

#define SEG_MAX (VBLK_QUEUE_SIZE - 2) /* header and status may have descriptors of their own */
#define POOL VBLK_QUEUE_SIZE
/* Requests taken from one queue before others on the loop have their turn. */
#define BUDGET 64

/* ---- the device ---- */

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
		while (left > 0 && virtio_blk_serve_next(v, index))
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
		virtio_blk_notify(v);
}

static void vblk_reset(struct virtio_device *dev)
{
	struct vblk *v = vblk_of(dev);
	struct request *r;

	v->flush_held = false;
	while ((r = virtio_blk_take_held(&v->held)))
		virtio_blk_give_request(v, r);
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
	while ((r = virtio_blk_take_held(&list)))
		virtio_blk_serve_again(v, r);
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

/* 5.2.5.2: there is no cache for who can switch it and not flush it. */
static void vblk_negotiated(struct virtio_device *dev)
{
	bool no_flush = virtio_has_feature(dev, VIRTIO_BLK_F_CONFIG_WCE) &&
			!virtio_has_feature(dev, VIRTIO_BLK_F_FLUSH);
	uint8_t mode = vblk_of(dev)->writeback && !no_flush;

	if (mode != dev->config[offsetof(struct virtio_blk_config, wce)])
		virtio_config_set(dev, offsetof(struct virtio_blk_config, wce), &mode, 1);
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
	mode = *wce && virtio_has_feature(dev, VIRTIO_BLK_F_FLUSH);
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
		struct request *r = virtio_blk_take_request(v);
		uint16_t queue = stream_get_u16(s);

		if (!r || queue >= v->dev.queue_count) {
			stream_bad(s, "held requests that the device cannot have");
			if (r)
				virtio_blk_give_request(v, r);
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
	.negotiated = vblk_negotiated,
	.start = vblk_start,
	.stop = vblk_stop,
	.reset = vblk_reset,
	.kick = vblk_kick,
	.config_write = vblk_config_write,
	.save = vblk_save,
	.load = vblk_load,
};

/* ---- birth and death ---- */

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
		memcpy(v->serial, args->serial, strnlen(args->serial, sizeof(v->serial)));
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
	v->writeback = args->writeback;
	v->fresh = POOL;
	v->notify = DEFERRED_INIT(virtio_blk_notify, v);
	for (unsigned i = 0; i < args->queues; i++)
		v->queue_max[i] = VBLK_QUEUE_SIZE;
	v->dev = (struct virtio_device){
		.ops = &vblk_ops,
		.name = args->name,
		.id = VIRTIO_ID_BLOCK,
		.offered = offered(v->blk, args->queues),
		.queues = v->queue,
		.queue_max = v->queue_max,
		.queue_count = args->queues,
		.config_len = sizeof(struct virtio_blk_config),
		.brief = UINT64_MAX,
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

void virtio_blk_close(struct virtio_device *dev)
{
	blk_destroy(steal_ptr(&vblk_of(dev)->blk));
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
