// SPDX-License-Identifier: MIT
// virtio-rng through its registers: requests of every shape, bounds, a broken driver.
#include "tests/unit/mmio_driver.h"

#include "base/log.h"
#include "base/stream.h"
#include "virtio/rng.h"

#define BUF 0x100000u

static int setup(void **state)
{
	static struct rig r;
	struct virtio_device *dev;

	rig_init(&r);
	assert_int_equal(rng_create(&dev, "rng"), 0);
	rig_attach(&r, dev);
	log_set_level(LOG_LEVEL_ERROR);
	*state = &r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	rig_finish(r);
	rng_destroy(r->dev);
	return 0;
}

static uint32_t ask(struct rig *r, uint64_t addr, uint32_t size)
{
	uint32_t id, len;

	driver_desc(&r->q[0], 0, addr, size, VRING_DESC_F_WRITE);
	driver_offer(&r->q[0], 0);
	kick(r, 0);
	wait_used(r, 0, &id, &len);
	assert_int_equal(id, 0);
	return len;
}

static unsigned zeroes(struct rig *r, uint64_t addr, uint32_t size)
{
	const uint8_t *p = mem_get(r->mem, addr, size);
	unsigned n = 0;

	for (uint32_t i = 0; i < size; i++)
		n += p[i] == 0;
	return n;
}

static void test_sizes(void **state)
{
	struct rig *r = *state;

	assert_int_equal(reg_read(r, VIRTIO_MMIO_DEVICE_ID), 4);
	go_live(r, 0, 16);
	assert_int_equal(ask(r, BUF, 1), 1);
	assert_int_equal(ask(r, BUF, 64), 64);
	assert_int_equal(ask(r, BUF, 4096), 4096);
	assert_true(zeroes(r, BUF, 4096) < 100); /* 16 expected */
	/* More than one gets at once; what lies behind is left alone. */
	assert_int_equal(ask(r, BUF + 8192, 1 << 20), 4096);
	assert_int_equal(zeroes(r, BUF + 12288, 1 << 19), 1 << 19);
}

static void test_scattered(void **state)
{
	struct rig *r = *state;
	uint32_t id, len;

	go_live(r, 0, 16);
	for (uint16_t i = 0; i < 16; i++)
		driver_desc(&r->q[0], i, BUF + i * 4096u, 3,
			VRING_DESC_F_WRITE | (i < 15 ? VRING_DESC_F_NEXT : 0));
	driver_offer(&r->q[0], 0);
	kick(r, 0);
	wait_used(r, 0, &id, &len);
	assert_int_equal(len, 48);
	assert_int_equal(zeroes(r, BUF + 3, 4093), 4093);
}

static void test_many(void **state)
{
	struct rig *r = *state;
	uint32_t id, len;

	go_live(r, 1ull << VIRTIO_RING_F_EVENT_IDX, 16);
	for (unsigned round = 0; round < 5000; round++) {
		for (uint16_t i = 0; i < 16; i++) {
			driver_desc(&r->q[0], i, BUF + i * 8u, 8, VRING_DESC_F_WRITE);
			driver_offer(&r->q[0], i);
		}
		driver_want_call(&r->q[0], (uint16_t)(r->q[0].used_next + 15));
		kick(r, 0);
		for (unsigned i = 0; i < 16; i++) {
			wait_used(r, 0, &id, &len);
			assert_int_equal(len, 8);
		}
	}
}

static void test_no_room(void **state)
{
	struct rig *r = *state;

	go_live(r, 0, 16);
	driver_desc(&r->q[0], 0, BUF, 8, 0);
	driver_offer(&r->q[0], 0);
	kick(r, 0);
	assert_int_equal(wait_interrupt(r, 5000), VIRTIO_MMIO_INT_CONFIG);
	assert_true(get_status(r) & S_BROKEN);
}

static void test_save_load(void **state)
{
	struct rig *r = *state;
	struct stream_out out;
	struct stream_in in;

	go_live(r, 0, 16);
	ask(r, BUF, 8);
	virtio_mmio_pause(r->mmio);
	stream_out_init(&out);
	virtio_mmio_save(r->mmio, &out);
	virtio_mmio_reset(r->mmio);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(virtio_mmio_load(r->mmio, &in), 0);
	virtio_mmio_resume(r->mmio);
	assert_int_equal(ask(r, BUF, 8), 8);
	stream_out_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scattered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
