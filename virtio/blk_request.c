// SPDX-License-Identifier: MIT
// A request's life: taken from its queue, judged, submitted to the disk, completed.
#include "virtio/blk_private.h"

#include "base/iov.h"
#include "base/loop.h"
#include "base/util.h"

#include <linux/virtio_blk.h>

struct request *virtio_blk_take_request(struct vblk *v)
{
	struct request *r = v->free;

	if (r)
		v->free = r->next;
	else if (v->fresh > 0)
		r = &v->pool[--v->fresh];
	return r;
}

void virtio_blk_give_request(struct vblk *v, struct request *r)
{
	r->next = v->free;
	v->free = r;
}

void virtio_blk_notify(void *arg)
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
	virtio_blk_give_request(v, r);
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
	size_t room = MIN(e->in_len - 1, VIRTIO_BLK_ID_BYTES);

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
		virtio_blk_give_request(v, r);
		return false;
	}
	serve(r);
	return true;
}

bool virtio_blk_serve_next(struct vblk *v, unsigned index)
{
	struct request *r = virtio_blk_take_request(v);

	if (!r) {
		v->starved = true;
		return false;
	}
	init_request(v, r, index);
	if (!queue_pop(&v->queue[index], &r->elem)) {
		virtio_blk_give_request(v, r);
		return false;
	}
	return begin(v, r);
}

void virtio_blk_serve_again(struct vblk *v, struct request *r)
{
	init_request(v, r, r->queue);
	if (queue_pop_again(&v->queue[r->queue], &r->elem, r->elem.head))
		begin(v, r);
	else
		virtio_blk_give_request(v, r);
}

struct request *virtio_blk_take_held(struct request **list)
{
	struct request *r = *list;

	if (r)
		*list = r->next;
	return r;
}
