// SPDX-License-Identifier: MIT
// virtio-blk through its registers, over a disk in memory that completes when it is told to.
#include "tests/unit/mmio_driver.h"

#include "base/log.h"
#include "base/stream.h"
#include "blk/blk.h"
#include "virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <sched.h>

#define SIZE MIB(1)
#define HEADER 0x80000u /* guest addresses; requests are 0x100 apart there, and data 64 KiB */
#define STATUS 0x90000u
#define DATA 0x100000u
#define CONFIG(field) (VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, field))

/* The disk. */
struct ram {
	struct blk blk;
	uint8_t *bytes;
	bool later;                  /* requests wait for commit or drain */
	int rc;                      /* what they come to */
	struct blk_request *waiting; /* last in, first out: any order is allowed */
	unsigned count, most;        /* of them, now and ever */
	unsigned fua, unmap, flushes, commits;
	int64_t measured;
	bool destroyed;
};

static void copy(struct ram *d, struct blk_request *r)
{
	uint8_t *at = d->bytes + r->off;

	for (unsigned i = 0; i < r->iovcnt; at += r->iov[i++].iov_len)
		if (r->op == BLK_READ)
			memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
		else
			memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
}

static void complete(struct ram *d, struct blk_request *r)
{
	d->fua += r->flags & BLK_FUA ? 1 : 0;
	d->unmap += r->flags & BLK_UNMAP ? 1 : 0;
	d->flushes += r->op == BLK_FLUSH;
	if (!d->rc && (r->op == BLK_READ || r->op == BLK_WRITE))
		copy(d, r);
	if (!d->rc && r->op == BLK_WRITE_ZEROES)
		memset(d->bytes + r->off, 0, r->len);
	if (!d->rc && r->op == BLK_DISCARD)
		memset(d->bytes + r->off, 0xdd, r->len);
	r->done(r, d->rc);
}

static void ram_submit(struct blk *b, struct blk_request *r)
{
	struct ram *d = container_of(b, struct ram, blk);

	if (!d->later) {
		complete(d, r);
		return;
	}
	r->next = d->waiting;
	__atomic_store_n(&d->waiting, r, __ATOMIC_RELEASE);
	d->count++;
	__atomic_store_n(&d->most, MAX(d->most, d->count), __ATOMIC_RELEASE);
}

static int ram_drain(struct blk *b)
{
	struct ram *d = container_of(b, struct ram, blk);

	while (d->waiting) {
		struct blk_request *r = d->waiting;

		d->waiting = r->next;
		d->count--;
		complete(d, r);
	}
	return 0;
}

static void ram_commit(struct blk *b)
{
	container_of(b, struct ram, blk)->commits++;
}

static int64_t ram_measure(struct blk *b)
{
	return container_of(b, struct ram, blk)->measured;
}

static void ram_destroy(struct blk *b)
{
	container_of(b, struct ram, blk)->destroyed = true;
}

static const struct blk_ops ram_ops = {
	.submit = ram_submit,
	.commit = ram_commit,
	.drain = ram_drain,
	.measure = ram_measure,
	.destroy = ram_destroy,
};

static struct ram disk;
static struct rig rig;

static void make(unsigned queues, bool read_only)
{
	static uint8_t bytes[2 * SIZE]; /* where it grows to */
	struct virtio_blk_config_args args = {.name = "disk",
		.blk = &disk.blk,
		.serial = "serial-1",
		.queues = queues,
		.writeback = true};
	struct virtio_device *dev;

	for (unsigned i = 0; i < SIZE; i++)
		bytes[i] = (uint8_t)((i >> 9) * 7 + i);
	disk = (struct ram){.blk = {.ops = &ram_ops,
				    .name = "disk",
				    .size = SIZE,
				    .physical_block = 4096,
				    .discard_align = 4096,
				    .read_only = read_only},
		.bytes = bytes};
	rig_init(&rig);
	assert_int_equal(virtio_blk_create(&dev, &args), 0);
	rig_attach(&rig, dev);
	log_set_level(LOG_LEVEL_ERROR);
}

static int setup(void **state)
{
	make(1, false);
	return 0;
}

static int setup_read_only(void **state)
{
	make(1, true);
	return 0;
}

static int setup_four_queues(void **state)
{
	make(4, false);
	return 0;
}

static int teardown(void **state)
{
	rig_finish(&rig);
	virtio_blk_destroy(rig.dev);
	assert_true(disk.destroyed);
	return 0;
}

/* A piece of a chain: guest address, bytes, and whether the device may write it. */
struct piece {
	uint64_t addr;
	uint32_t len;
	bool in;
};

static void offer(unsigned queue, uint16_t first, const struct piece *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		driver_desc(&rig.q[queue], (uint16_t)(first + i), p[i].addr, p[i].len,
			(uint16_t)((p[i].in ? VRING_DESC_F_WRITE : 0) |
				   (i + 1 < n ? VRING_DESC_F_NEXT : 0)));
		if (i + 1 < n)
			rig.q[queue].desc[first + i].next = (uint16_t)(first + i + 1);
	}
	driver_offer(&rig.q[queue], first);
}

static void write_header(unsigned slot, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};
	uint8_t unset = 0xee;

	assert_int_equal(mem_write(rig.mem, HEADER + slot * 0x100, &h, sizeof(h)), 0);
	assert_int_equal(mem_write(rig.mem, STATUS + slot, &unset, 1), 0);
}

static uint8_t status_of(unsigned slot)
{
	uint8_t s;

	assert_int_equal(mem_read(rig.mem, STATUS + slot, &s, 1), 0);
	return s;
}

/* Offers the pieces as one request, kicks, waits, and gives its status. */
static uint8_t ask(const struct piece *p, unsigned n)
{
	uint32_t id, len;

	offer(0, 0, p, n);
	kick(&rig, 0);
	wait_used(&rig, 0, &id, &len);
	assert_int_equal(id, 0);
	return status_of(0);
}

static uint8_t simple(uint32_t type, uint64_t sector, uint32_t data_len, bool in)
{
	struct piece p[] = {{HEADER, 16, false}, {DATA, data_len, in}, {STATUS, 1, true}};

	write_header(0, type, sector);
	if (data_len)
		return ask(p, 3);
	p[1] = p[2];
	return ask(p, 2);
}

static uint8_t *data(void)
{
	return mem_get(rig.mem, DATA, MIB(1));
}

#define ALL_FEATURES                                                                               \
	(1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE |                            \
		1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES)

static uint64_t config64(unsigned off)
{
	uint64_t v = 0;

	assert_true(bus_read(&rig.bus, MMIO_BASE + off, &v, 4));
	assert_true(bus_read(&rig.bus, MMIO_BASE + off + 4, (char *)&v + 4, 4));
	return v;
}

static void test_describes_itself(void **state)
{
	assert_int_equal(reg_read(&rig, VIRTIO_MMIO_DEVICE_ID), 2);
	assert_int_equal(config64(CONFIG(capacity)), SIZE / 512);
	assert_int_equal(reg_read(&rig, CONFIG(seg_max)), 254);
	assert_int_equal(reg_read(&rig, CONFIG(blk_size)), 512);
	assert_int_equal(reg_read(&rig, CONFIG(physical_block_exp)) & 0xff, 3);
	assert_int_equal(reg_read(&rig, CONFIG(max_discard_seg)), 1);
	assert_int_equal(reg_read(&rig, CONFIG(discard_sector_alignment)), 8);
	reg_write(&rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(reg_read(&rig, VIRTIO_MMIO_DEVICE_FEATURES) & ALL_FEATURES, ALL_FEATURES);
	assert_false(reg_read(&rig, VIRTIO_MMIO_DEVICE_FEATURES) &
		     (1u << VIRTIO_BLK_F_RO | 1u << VIRTIO_BLK_F_MQ));
}

static void test_requests(void **state)
{
	struct virtio_blk_discard_write_zeroes seg = {.sector = 8, .num_sectors = 8};

	go_live(&rig, ALL_FEATURES, 16);
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 3, 1024, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(), disk.bytes + 3 * 512, 1024);
	memset(data(), 0x5a, 4096);
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, SIZE / 512 - 8, 4096, false), VIRTIO_BLK_S_OK);
	assert_memory_equal(disk.bytes + SIZE - 4096, data(), 4096);
	assert_int_equal(disk.fua, 0);
	assert_int_equal(simple(VIRTIO_BLK_T_FLUSH, 77, 0, false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.flushes, 1);
	assert_int_equal(simple(VIRTIO_BLK_T_GET_ID, 0, 20, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(), "serial-1\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	memcpy(data(), &seg, sizeof(seg));
	assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, sizeof(seg), false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.bytes[4096], 0xdd);
	assert_int_equal(disk.bytes[8191], 0xdd);
	seg.flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	memcpy(data(), &seg, sizeof(seg));
	assert_int_equal(simple(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(seg), false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.bytes[4096], 0);
	assert_int_equal(disk.unmap, 1);
}

/* Where descriptors begin and end says nothing: 2.7.4.1. */
static void test_any_layout(void **state)
{
	const struct piece read[] = {{HEADER, 3, false}, {HEADER + 3, 12, false},
		{HEADER + 15, 1, false}, {DATA, 1, true}, {DATA + 1, 510, true},
		{DATA + 511, 1, true}, {STATUS, 1, true}};
	const struct piece joined[] = {{HEADER, 16, false}, {STATUS - 512, 513, true}};
	const struct piece write[] = {{HEADER, 16 + 512, false}, {STATUS, 1, true}};

	go_live(&rig, ALL_FEATURES, 16);
	write_header(0, VIRTIO_BLK_T_IN, 5);
	assert_int_equal(ask(read, ARRAY_SIZE(read)), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(), disk.bytes + 5 * 512, 512);
	write_header(0, VIRTIO_BLK_T_IN, 6);
	assert_int_equal(ask(joined, ARRAY_SIZE(joined)), VIRTIO_BLK_S_OK);
	assert_memory_equal(mem_get(rig.mem, STATUS - 512, 512), disk.bytes + 6 * 512, 512);
	write_header(0, VIRTIO_BLK_T_OUT, 7);
	memset(mem_get(rig.mem, HEADER + 16, 512), 0x77, 512);
	assert_int_equal(ask(write, ARRAY_SIZE(write)), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.bytes[7 * 512], 0x77);
	assert_int_equal(disk.bytes[8 * 512 - 1], 0x77);
}

/* Answered with an error; nothing is written, and the next request is served. */
static void test_refuses(void **state)
{
	static const struct {
		uint32_t type, len;
		uint64_t sector;
		bool in;
		uint8_t status;
	} t[] = {
		{VIRTIO_BLK_T_IN, 512, SIZE / 512, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 1024, SIZE / 512 - 1, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 512, UINT64_MAX, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 512, UINT64_MAX / 512, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 512, 1ull << 55, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 511, 0, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 513, 0, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 512, 0, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 0, 0, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_OUT, 512, SIZE / 512, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_OUT, 512, 0, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_OUT, 700, 0, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, 15, 0, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, 32, 0, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, 0, 0, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_WRITE_ZEROES, 16, 0, true, VIRTIO_BLK_S_IOERR},
		{2, 16, 0, false, VIRTIO_BLK_S_UNSUPP},
		{14, 16, 0, false, VIRTIO_BLK_S_UNSUPP},
		{0x80000000u, 0, 0, false, VIRTIO_BLK_S_UNSUPP},
		{UINT32_MAX, 512, 0, true, VIRTIO_BLK_S_UNSUPP},
	};
	static uint8_t before[SIZE];

	go_live(&rig, ALL_FEATURES, 16);
	memcpy(before, disk.bytes, SIZE);
	memset(data(), 0, 4096);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		uint8_t s = simple(t[i].type, t[i].sector, t[i].len, t[i].in);

		if (s != t[i].status)
			fail_msg("row %u: status %u", i, s);
	}
	assert_memory_equal(before, disk.bytes, SIZE);
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

static void test_refuses_segments(void **state)
{
	static const struct {
		struct virtio_blk_discard_write_zeroes seg;
		uint32_t type;
		uint8_t status;
	} t[] = {
		{{.sector = 0, .num_sectors = 0}, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_S_IOERR},
		{{.sector = 0, .num_sectors = 0}, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_S_IOERR},
		{{.sector = 0, .num_sectors = 1, .flags = 1}, VIRTIO_BLK_T_DISCARD,
			VIRTIO_BLK_S_UNSUPP},
		{{.sector = 0, .num_sectors = 1, .flags = 2}, VIRTIO_BLK_T_WRITE_ZEROES,
			VIRTIO_BLK_S_UNSUPP},
		{{.sector = 0, .num_sectors = UINT32_MAX}, VIRTIO_BLK_T_WRITE_ZEROES,
			VIRTIO_BLK_S_IOERR},
		{{.sector = UINT64_MAX, .num_sectors = 1}, VIRTIO_BLK_T_WRITE_ZEROES,
			VIRTIO_BLK_S_IOERR},
		{{.sector = SIZE / 512 - 1, .num_sectors = 2}, VIRTIO_BLK_T_DISCARD,
			VIRTIO_BLK_S_IOERR},
	};

	go_live(&rig, ALL_FEATURES, 16);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		memcpy(data(), &t[i].seg, 16);
		if (simple(t[i].type, 0, 16, false) != t[i].status)
			fail_msg("row %u: status %u", i, status_of(0));
	}
}

static void test_broken(void **state)
{
	const struct piece headless[] = {{HEADER, 15, false}, {STATUS, 1, true}};
	const struct piece mute[] = {{HEADER, 16, false}};
	const struct piece *const chain[] = {headless, mute};
	const unsigned n[] = {2, 1};

	for (unsigned i = 0; i < 2; i++) {
		go_live(&rig, ALL_FEATURES, 16);
		write_header(0, VIRTIO_BLK_T_FLUSH, 0);
		offer(0, 0, chain[i], n[i]);
		kick(&rig, 0);
		assert_int_equal(wait_interrupt(&rig, 5000) & VIRTIO_MMIO_INT_CONFIG,
			VIRTIO_MMIO_INT_CONFIG);
		assert_true(get_status(&rig) & S_BROKEN);
		set_status(&rig, 0);
	}
	go_live(&rig, ALL_FEATURES, 16);
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

static void test_read_only(void **state)
{
	reg_write(&rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_true(reg_read(&rig, VIRTIO_MMIO_DEVICE_FEATURES) & 1u << VIRTIO_BLK_F_RO);
	go_live(&rig, 1ull << VIRTIO_BLK_F_RO | 1ull << VIRTIO_BLK_F_FLUSH, 16);
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

/* 5.2.6.2: a driver without FLUSH, or with the cache off, finds each write durable. */
static void test_durable(void **state)
{
	uint8_t off = 0;

	go_live(&rig, 0, 16);
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.fua, 1);
	set_status(&rig, 0);
	go_live(&rig, ALL_FEATURES, 16);
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.fua, 1);
	assert_true(bus_write(&rig.bus, MMIO_BASE + CONFIG(wce), &off, 1));
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.fua, 2);
	for (unsigned i = 0; i < 0x100; i++) /* writes to anything else change nothing */
		if (i != offsetof(struct virtio_blk_config, wce))
			bus_write(&rig.bus, MMIO_BASE + VIRTIO_MMIO_CONFIG + i, &off, 1);
	assert_int_equal(config64(CONFIG(capacity)), SIZE / 512);
}

static unsigned cache_mode(uint64_t features)
{
	set_status(&rig, 0);
	go_live(&rig, features, 16);
	return reg_read(&rig, CONFIG(wce)) & 0xff;
}

/* 5.2.5.2: who cannot flush has no cache, even if it asks for one; the next driver has. */
static void test_cache_mode(void **state)
{
	const uint64_t flush = 1ull << VIRTIO_BLK_F_FLUSH;
	uint8_t on = 1, off = 0;

	assert_int_equal(cache_mode(ALL_FEATURES), 1);
	assert_int_equal(cache_mode(ALL_FEATURES & ~flush), 0);
	assert_true(bus_write(&rig.bus, MMIO_BASE + CONFIG(wce), &on, 1));
	assert_int_equal(reg_read(&rig, CONFIG(wce)) & 0xff, 0);
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.fua, 1);
	assert_int_equal(cache_mode(ALL_FEATURES), 1);
	assert_true(bus_write(&rig.bus, MMIO_BASE + CONFIG(wce), &off, 1));
	assert_int_equal(reg_read(&rig, CONFIG(wce)) & 0xff, 0);
	assert_int_equal(cache_mode(flush), 1);
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.fua, 1);
}

static void test_errors(void **state)
{
	go_live(&rig, ALL_FEATURES, 16);
	disk.rc = -EIO;
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_IOERR);
	disk.rc = 0;
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

static void drain(void *arg)
{
	blk_drain(&disk.blk);
}

/* More requests than the device's pool has, over four queues, completed out of order. */
static void test_full(void **state)
{
	const unsigned each = 85, all = 4 * each; /* three descriptors each, rings of 256 */
	unsigned done = 0;

	disk.later = true;
	go_live(&rig, ALL_FEATURES, 256);
	for (unsigned i = 0; i < all; i++) {
		struct piece p[] = {{HEADER + i % 16 * 0x100, 16, false},
			{DATA + i * 512, 512, true}, {STATUS + i, 1, true}};

		write_header(i % 16, VIRTIO_BLK_T_IN, 9);
		offer(i / each, (uint16_t)(i % each * 3), p, 3);
	}
	for (unsigned q = 0; q < 4; q++)
		kick(&rig, q);
	while (__atomic_load_n(&disk.most, __ATOMIC_ACQUIRE) < 256)
		sched_yield();
	for (uint64_t end = now_ns() + 10 * NSEC_PER_SEC; done < all && now_ns() < end;) {
		uint32_t id, len;

		loop_call(rig.io, drain, NULL);
		for (unsigned q = 0; q < 4; q++)
			while (driver_reap(&rig.q[q], &id, &len))
				done++;
	}
	assert_int_equal(done, all);
	assert_int_equal(disk.most, 256);
	for (unsigned i = 0; i < all; i++)
		assert_memory_equal(data() + i * 512, disk.bytes + 9 * 512, 512);
	assert_true(disk.commits > 0);
	/* A pause waits for what is in flight. */
	write_header(0, VIRTIO_BLK_T_FLUSH, 0);
	offer(0, 0, (const struct piece[]){{HEADER, 16, false}, {STATUS, 1, true}}, 2);
	kick(&rig, 0);
	while (!__atomic_load_n(&disk.waiting, __ATOMIC_ACQUIRE))
		sched_yield();
	virtio_mmio_pause(rig.mmio);
	assert_int_equal(status_of(0), VIRTIO_BLK_S_OK);
}

static void test_resize(void **state)
{
	uint64_t size;

	go_live(&rig, ALL_FEATURES, 16);
	disk.measured = 2 * SIZE;
	assert_int_equal(virtio_blk_resize(rig.dev, &size), 0);
	assert_int_equal(size, 2 * SIZE);
	assert_int_equal(wait_interrupt(&rig, 5000), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(config64(CONFIG(capacity)), 2 * SIZE / 512);
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 2 * SIZE / 512, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 2 * SIZE / 512 - 1, 512, true), VIRTIO_BLK_S_OK);
	disk.measured = SIZE / 2;
	assert_int_equal(virtio_blk_resize(rig.dev, &size), -EINVAL);
	assert_int_equal(config64(CONFIG(capacity)), 2 * SIZE / 512);
}

static void test_save_and_load(void **state)
{
	struct stream_out out;
	struct stream_in in;
	uint8_t off = 0;

	go_live(&rig, ALL_FEATURES, 16);
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_OK);
	assert_true(bus_write(&rig.bus, MMIO_BASE + CONFIG(wce), &off, 1));
	virtio_mmio_pause(rig.mmio);
	stream_out_init(&out);
	virtio_mmio_save(rig.mmio, &out);
	assert_int_equal(out.err, 0);
	virtio_mmio_reset(rig.mmio);
	off = 1;
	virtio_config_set(rig.dev, offsetof(struct virtio_blk_config, wce), &off, 1);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(virtio_mmio_load(rig.mmio, &in), 0);
	virtio_mmio_resume(rig.mmio);
	disk.fua = 0;
	assert_int_equal(simple(VIRTIO_BLK_T_OUT, 1, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.fua, 1);
	virtio_mmio_pause(rig.mmio);
	disk.blk.size -= 512;
	stream_in_init(&in, out.buf, out.len);
	virtio_mmio_reset(rig.mmio);
	assert_true(virtio_mmio_load(rig.mmio, &in) < 0);
	assert_non_null(strstr(last_error(), "1048576 when the state was saved"));
	stream_out_finish(&out);
}

struct held {
	unsigned count;
};

static void count_held(void *arg)
{
	((struct held *)arg)->count = virtio_blk_held(rig.dev);
}

static unsigned held(void)
{
	struct held h;

	loop_call(rig.io, count_held, &h);
	return h.count;
}

/* A write to queue `q` that the disk has held; `slot` is its descriptors' place too. */
static void hold_one(unsigned q, unsigned slot)
{
	const struct piece p[] = {{HEADER + slot * 0x100, 16, false},
		{DATA + slot * 512, 512, false}, {STATUS + slot, 1, true}};
	const unsigned before = held();

	write_header(slot, VIRTIO_BLK_T_OUT, 100 + slot);
	memset(data() + slot * 512, (int)(0xa0 + slot), 512);
	disk.rc = BLK_HELD;
	offer(q, (uint16_t)(slot * 3), p, 3);
	kick(&rig, q);
	while (held() != before + 1)
		sched_yield();
	assert_int_equal(status_of(slot), 0xee);
}

static void expect_done(unsigned q, unsigned slot)
{
	uint32_t id, len;

	wait_used(&rig, q, &id, &len);
	assert_int_equal(id, slot * 3);
	assert_int_equal(status_of(slot), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.bytes[(100 + slot) * 512], 0xa0 + slot);
}

/* They survive pauses, are tried again when one ends, and others go on meanwhile. */
static void test_held(void **state)
{
	go_live(&rig, ALL_FEATURES, 16);
	hold_one(0, 1);
	virtio_mmio_pause(rig.mmio);
	assert_int_equal(held(), 1);
	virtio_mmio_resume(rig.mmio);
	assert_int_equal(held(), 1);
	assert_int_equal(status_of(1), 0xee);
	disk.rc = 0;
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(held(), 1);
	/* One more comes while the pause waits for the disk. */
	disk.later = true;
	disk.rc = BLK_HELD;
	write_header(2, VIRTIO_BLK_T_OUT, 102);
	memset(data() + 2 * 512, 0xa2, 512);
	offer(0, 6,
		(const struct piece[]){{HEADER + 0x200, 16, false}, {DATA + 1024, 512, false},
			{STATUS + 2, 1, true}},
		3);
	kick(&rig, 0);
	while (!__atomic_load_n(&disk.waiting, __ATOMIC_ACQUIRE))
		sched_yield();
	virtio_mmio_pause(rig.mmio);
	assert_int_equal(held(), 2);
	disk.later = false;
	disk.rc = 0;
	virtio_mmio_resume(rig.mmio);
	while (held())
		sched_yield();
	assert_int_equal(status_of(1), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(2), VIRTIO_BLK_S_OK);
	assert_int_equal(disk.bytes[101 * 512], 0xa1);
	assert_int_equal(disk.bytes[102 * 512], 0xa2);
}

static void test_held_and_reset(void **state)
{
	go_live(&rig, ALL_FEATURES, 16);
	for (unsigned i = 0; i < 300; i++) { /* more than there is room for in the pool */
		hold_one(0, 1);
		set_status(&rig, 0);
		assert_int_equal(held(), 0);
		disk.rc = 0;
		go_live(&rig, ALL_FEATURES, 16);
	}
	assert_int_equal(status_of(1), 0xee);
	assert_int_equal(simple(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	hold_one(0, 1); /* and is there at the end of it all */
}

/* The device's own flush is held too, when the driver switches its cache off. */
static void test_held_flush(void **state)
{
	struct stream_out out;
	struct stream_in in;
	uint8_t off = 0;

	go_live(&rig, ALL_FEATURES, 16);
	disk.rc = BLK_HELD;
	assert_true(bus_write(&rig.bus, MMIO_BASE + CONFIG(wce), &off, 1));
	assert_int_equal(held(), 1);
	virtio_mmio_pause(rig.mmio);
	stream_out_init(&out);
	virtio_mmio_save(rig.mmio, &out);
	virtio_mmio_reset(rig.mmio);
	assert_int_equal(held(), 0);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(virtio_mmio_load(rig.mmio, &in), 0);
	stream_out_finish(&out);
	assert_int_equal(held(), 1);
	disk.rc = 0;
	disk.flushes = 0;
	virtio_mmio_resume(rig.mmio);
	assert_int_equal(held(), 0);
	assert_int_equal(disk.flushes, 1);
}

static void load_again(const struct stream_out *out, int rc)
{
	struct stream_in in;

	virtio_mmio_reset(rig.mmio);
	assert_int_equal(held(), 0);
	stream_in_init(&in, out->buf, out->len);
	assert_int_equal(virtio_mmio_load(rig.mmio, &in), rc);
}

static void test_held_and_saved(void **state)
{
	struct stream_out out;
	uint8_t *last;

	go_live(&rig, ALL_FEATURES, 16);
	hold_one(3, 1);
	hold_one(1, 2);
	virtio_mmio_pause(rig.mmio);
	stream_out_init(&out);
	virtio_mmio_save(rig.mmio, &out);
	assert_int_equal(out.err, 0);
	disk.rc = 0;
	load_again(&out, 0);
	assert_int_equal(held(), 2);
	virtio_mmio_resume(rig.mmio);
	expect_done(3, 1);
	expect_done(1, 2);
	virtio_mmio_pause(rig.mmio);
	/* The last of all that is saved is a queue and a head. */
	last = out.buf + out.len - 4;
	last[0] = 4;
	load_again(&out, -EINVAL);
	last[0] = 3;
	last[3] = 1;
	load_again(&out, 0);
	virtio_mmio_resume(rig.mmio);
	assert_true(get_status(&rig) & S_BROKEN);
	stream_out_finish(&out);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_describes_itself),
		TEST(test_requests),
		TEST(test_any_layout),
		TEST(test_refuses),
		TEST(test_refuses_segments),
		TEST(test_broken),
		cmocka_unit_test_setup_teardown(test_read_only, setup_read_only, teardown),
		TEST(test_durable),
		TEST(test_cache_mode),
		TEST(test_errors),
		cmocka_unit_test_setup_teardown(test_full, setup_four_queues, teardown),
		TEST(test_resize),
		TEST(test_held),
		TEST(test_held_and_reset),
		TEST(test_held_flush),
		cmocka_unit_test_setup_teardown(test_held_and_saved, setup_four_queues, teardown),
		TEST(test_save_and_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
