// SPDX-License-Identifier: MIT
// What a guest may rely on after any crash: with its cache, without one, and with one that it
// switches off and on. The disk is a driver of the device, over the device, over a medium with a
// volatile cache.
#include "tests/unit/driver.h"
#include "tests/unit/test.h"
#include "tests/unit/trace.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/loop.h"
#include "virtio/blk.h"
#include "virtio/device.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <string.h>

#define SIZE (16 * BLK_SECTOR)
#define REQUESTS 800u
#define RINGS 0x1000u
#define AREA 0x10000u /* a slot each 32 KiB: header, status, data */
#define SLOT 0x8000u
#define STATUS 0x100u
#define DATA 0x1000u

struct front {
	struct blk blk;
	struct medium *medium;
	struct virtio_device *dev;
	struct virtio_host host;
	struct loop *loop;
	struct mem *mem;
	struct driver q;
	struct blk_request *slot[TRACE_DEPTH];
	unsigned busy;
};

static struct front f;
static struct trace trace;

/* ---- a driver as a disk ---- */

static void poll_used(void)
{
	uint32_t id, len;

	while (driver_reap(&f.q, &id, &len)) {
		uint64_t at = AREA + id / 3 * SLOT;
		struct blk_request *r = f.slot[id / 3];
		const uint8_t *status = mem_get(f.mem, at + STATUS, 1);

		f.slot[id / 3] = NULL;
		f.busy--;
		if (r->op == BLK_READ)
			iov_write(r->iov, r->iovcnt, 0, mem_get(f.mem, at + DATA, r->len), r->len);
		r->done(r, *status == VIRTIO_BLK_S_OK ? 0 : -EIO);
	}
}

static uint32_t data_of(const struct blk_request *r, uint8_t *data)
{
	const struct virtio_blk_discard_write_zeroes seg = {
		.sector = r->off / BLK_SECTOR,
		.num_sectors = (uint32_t)(r->len / BLK_SECTOR),
		.flags = r->op == BLK_WRITE_ZEROES && r->flags & BLK_UNMAP,
	};

	if (r->op == BLK_FLUSH)
		return 0;
	if (r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES) {
		memcpy(data, &seg, sizeof(seg));
		return sizeof(seg);
	}
	if (r->op == BLK_WRITE)
		iov_read(r->iov, r->iovcnt, 0, data, r->len);
	return (uint32_t)r->len;
}

static void front_submit(struct blk *b, struct blk_request *r)
{
	static const uint32_t types[] = {
		[BLK_READ] = VIRTIO_BLK_T_IN,
		[BLK_WRITE] = VIRTIO_BLK_T_OUT,
		[BLK_FLUSH] = VIRTIO_BLK_T_FLUSH,
		[BLK_DISCARD] = VIRTIO_BLK_T_DISCARD,
		[BLK_WRITE_ZEROES] = VIRTIO_BLK_T_WRITE_ZEROES,
	};
	const struct virtio_blk_outhdr h = {
		.type = types[r->op], .sector = r->op <= BLK_WRITE ? r->off / BLK_SECTOR : 0};
	uint16_t i = 0, first;
	uint64_t at;
	uint32_t len;

	while (f.slot[i])
		i++;
	f.slot[i] = r;
	f.busy++;
	at = AREA + i * SLOT;
	first = (uint16_t)(3 * i);
	assert_int_equal(mem_write(f.mem, at, &h, sizeof(h)), 0);
	len = data_of(r, mem_get(f.mem, at + DATA, SLOT - DATA));
	driver_desc(&f.q, first, at, sizeof(h), VRING_DESC_F_NEXT);
	driver_desc(&f.q, first + 1, at + DATA, len,
		VRING_DESC_F_NEXT | (r->op == BLK_READ ? VRING_DESC_F_WRITE : 0));
	driver_desc(&f.q, first + 2, at + STATUS, 1, VRING_DESC_F_WRITE);
	if (!len)
		f.q.desc[first].next = (uint16_t)(first + 2);
	driver_offer(&f.q, first);
}

static void front_commit(struct blk *b)
{
	f.dev->ops->kick(f.dev, 0);
	poll_used();
}

static int front_drain(struct blk *b)
{
	do {
		front_commit(b);
		while (medium_step(f.medium))
			;
		poll_used();
	} while (f.busy);
	return 0;
}

static int64_t front_measure(struct blk *b)
{
	return (int64_t)b->size;
}

static void front_destroy(struct blk *b)
{
}

/* ---- the device ---- */

static void on_raise(void *arg, unsigned index)
{
}

static void on_broken(void *arg, const char *why)
{
	fail_msg("%s", why);
}

static void on_nothing(void *arg)
{
}

static void on_kick_again(void *arg, unsigned index)
{
}

static void create(bool writeback)
{
	static const struct blk_ops ops = {
		.submit = front_submit,
		.commit = front_commit,
		.drain = front_drain,
		.measure = front_measure,
		.destroy = front_destroy,
	};
	struct virtio_blk_config_args args = {.name = "disk", .queues = 1, .writeback = writeback};

	f = (struct front){
		.blk = {.ops = &ops, .name = "front", .size = SIZE, .discard_align = BLK_SECTOR},
		.host = {.queue = {.raise = on_raise, .broken = on_broken},
			.needs_reset = on_nothing,
			.config_changed = on_nothing,
			.kick_again = on_kick_again},
	};
	assert_int_equal(loop_create(&f.loop, "test"), 0);
	assert_int_equal(mem_create(&f.mem, MIB(1), MEM_PRIVATE), 0);
	f.medium = medium_create(SIZE, 40000);
	args.blk = &f.medium->blk;
	assert_int_equal(virtio_blk_create(&f.dev, &args), 0);
}

static void begin(uint64_t features, bool writeback)
{
	create(writeback);
	f.dev->mem = f.mem;
	f.dev->io = f.loop;
	f.dev->host = &f.host;
	f.dev->features = features;
	driver_init(&f.q, f.mem, RINGS, 32, 0);
	assert_int_equal(
		queue_start(&f.dev->queues[0], f.mem, &f.q.setup, features, &f.host.queue), 0);
	trace = (struct trace){
		.blk = &f.blk, .medium = f.medium, .no_fua = true, .states = 64, .seed = 4711};
	trace_begin(&trace);
}

static void end(void)
{
	trace_end(&trace);
	f.dev->ops->stop(f.dev);
	queue_stop(&f.dev->queues[0], &f.q.setup);
	virtio_blk_destroy(f.dev);
	mem_destroy(f.mem);
	loop_destroy(f.loop);
}

static void keeps_all(void)
{
	assert_true(trace.behind > trace.seen);
	assert_int_equal(trace.lost, 0);
	assert_int_equal(trace.misread, 0);
}

#define FLUSH (1ull << VIRTIO_BLK_F_FLUSH)
#define ALL (FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE)

static void test_flush(void **state)
{
	begin(FLUSH, true);
	trace_run(&trace, REQUESTS);
	keeps_all();
	end();
}

/* 5.2.6.2: who knows no flush finds each write durable. */
static void test_no_flush(void **state)
{
	begin(0, true);
	trace.durable = true;
	trace_run(&trace, REQUESTS);
	keeps_all();
	end();
}

static void test_writethrough(void **state)
{
	begin(FLUSH, false);
	trace.durable = true;
	trace_run(&trace, REQUESTS);
	keeps_all();
	end();
}

/* The same driver, held to what a cache does not promise, must lose something. */
static void test_finds_loss(void **state)
{
	begin(FLUSH, true);
	trace.durable = true;
	trace_run(&trace, REQUESTS);
	assert_true(trace.lost > 0);
	end();
}

static void switch_cache(uint8_t on)
{
	f.dev->ops->config_write(f.dev, offsetof(struct virtio_blk_config, wce), &on, 1);
	trace.durable = !on;
}

/* A driver that has switched the cache off flushes no more: what it wrote before is durable too,
 * though it was under way when the cache went. */
static void test_switched(void **state)
{
	begin(ALL, true);
	for (unsigned i = 0; i < 40; i++) {
		trace_start(&trace, 20);
		switch_cache(0);
		blk_commit(&f.blk);
		trace_settled(&trace);
		trace_run(&trace, 10);
		switch_cache(1);
	}
	keeps_all();
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_no_flush),
		cmocka_unit_test(test_writethrough),
		cmocka_unit_test(test_finds_loss),
		cmocka_unit_test(test_switched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
