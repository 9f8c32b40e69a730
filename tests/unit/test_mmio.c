// SPDX-License-Identifier: MIT
// The virtio-mmio registers: every width, the status machine, queues, interrupts, reset and pause
// at any moment.
#include "tests/unit/echo.h"
#include "tests/unit/mmio_driver.h"

#include "base/log.h"
#include "base/stream.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>

struct fixture {
	struct rig r;
	struct echo d;
};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	echo_init(&f.d);
	rig_init(&f.r);
	rig_attach(&f.r, &f.d.dev);
	log_set_level(LOG_LEVEL_ERROR);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rig_finish(&f->r);
	virtio_device_finish(&f->d.dev);
	return 0;
}

static void test_identity(void **state)
{
	struct rig *r = &((struct fixture *)*state)->r;

	assert_int_equal(reg_read(r, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_DEVICE_ID), 42);
	assert_int_not_equal(reg_read(r, VIRTIO_MMIO_VENDOR_ID), 0);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_DEVICE_FEATURES), 1 << 3 | 1 << 28 | 1 << 29);
	reg_write(r, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_DEVICE_FEATURES), 1 << (50 - 32) | 1);
	reg_write(r, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	for (uint32_t sel = 0; sel < 3; sel++) {
		reg_write(r, VIRTIO_MMIO_SHM_SEL, sel);
		for (uint32_t off = VIRTIO_MMIO_SHM_LEN_LOW; off <= VIRTIO_MMIO_SHM_BASE_HIGH;
			off += 4)
			assert_int_equal(reg_read(r, off), UINT32_MAX);
	}
	for (uint32_t i = 0; i < 4; i++) {
		reg_write(r, VIRTIO_MMIO_QUEUE_SEL, i == 3 ? UINT32_MAX : i);
		assert_int_equal(reg_read(r, VIRTIO_MMIO_QUEUE_NUM_MAX), i < 2 ? echo_max[i] : 0);
		assert_int_equal(reg_read(r, VIRTIO_MMIO_QUEUE_READY), 0);
	}
	assert_int_equal(reg_read(r, 0xc0), 0); /* QueueReset is not offered */
}

static void test_widths(void **state)
{
	struct fixture *f = *state;
	uint8_t data[8], zero[8] = {0};

	for (unsigned len = 1; len <= 8; len *= 2)
		for (unsigned off = 0; off + len <= 0x100; off++) {
			bool good = len == 4 && off % 4 == 0;

			memset(data, 0xff, sizeof(data));
			assert_true(bus_read(&f->r.bus, MMIO_BASE + off, data, len));
			if (!good)
				assert_memory_equal(data, zero, len);
			/* A status of the wrong width must not be one. */
			memset(data, 1, sizeof(data));
			if (!good)
				bus_write(&f->r.bus, MMIO_BASE + off, data, len);
		}
	assert_int_equal(get_status(&f->r), 0);
	for (unsigned len = 1; len <= 8; len *= 2)
		for (unsigned off = 0; off + len <= 0x100; off++) {
			memset(data, 0xff, sizeof(data));
			assert_true(bus_read(&f->r.bus, MMIO_BASE + 0x100 + off, data, len));
			for (unsigned i = 0; i < len; i++)
				assert_int_equal(data[i], off + i < 12 ? off + i + 1 : 0);
		}
}

static void test_config_write(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;
	uint32_t before = reg_read(r, VIRTIO_MMIO_CONFIG_GENERATION);
	uint16_t v = 0xabcd;

	assert_true(bus_write(&r->bus, MMIO_BASE + 0x102, &v, 2));
	assert_int_equal(reg_read(r, 0x100), 0xabcd0201);
	assert_int_not_equal(reg_read(r, VIRTIO_MMIO_CONFIG_GENERATION), before);
	before = reg_read(r, VIRTIO_MMIO_CONFIG_GENERATION);
	bus_write(&r->bus, MMIO_BASE + 0x10b, &v, 2); /* over its end */
	bus_write(&r->bus, MMIO_BASE + 0x10c, &v, 2);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_CONFIG_GENERATION), before);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_INTERRUPT_STATUS), 0); /* no driver yet */
	go_live(r, 0, 4);
	/* What changed before the driver was there it is told as it comes up. */
	assert_int_equal(wait_interrupt(r, 5000), VIRTIO_MMIO_INT_CONFIG);
	bus_write(&r->bus, MMIO_BASE + 0x100, &v, 2);
	assert_int_equal(wait_interrupt(r, 5000), VIRTIO_MMIO_INT_CONFIG);
}

static void test_status_machine(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;
	const uint32_t out_of_turn[] = {S_DRIVER, S_FEATURES, S_OK, S_ACK | S_FEATURES,
		S_ACK | S_OK, S_ACK | S_DRIVER | S_OK, 0x10, 0x100 | S_ACK, 0x80000000u, ~0u};

	for (unsigned i = 0; i < ARRAY_SIZE(out_of_turn); i++) {
		set_status(r, out_of_turn[i]);
		assert_int_equal(get_status(r), 0);
	}
	set_status(r, S_ACK);
	set_status(r, S_ACK | S_DRIVER);
	set_status(r, S_ACK); /* a bit cannot be taken back */
	assert_int_equal(get_status(r), S_ACK | S_DRIVER);
	set_status(r, S_ACK | S_DRIVER | VIRTIO_CONFIG_S_FAILED);
	assert_int_equal(get_status(r), S_ACK | S_DRIVER | VIRTIO_CONFIG_S_FAILED);
	set_status(r, 0);
	assert_int_equal(get_status(r), 0);
	go_live(r, 0, 4);
	assert_int_equal(get_status(r), S_ACK | S_DRIVER | S_FEATURES | S_OK);
	assert_int_equal(f->d.starts, 1);
	set_status(r, S_ACK | S_DRIVER | S_FEATURES | S_OK);
	assert_int_equal(f->d.starts, 1);
}

static void test_features(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;

	negotiate(r, 1ull << 4); /* not offered */
	assert_int_equal(get_status(r), S_ACK | S_DRIVER);
	accept_features(r, 1ull << 3); /* without VERSION_1: a legacy driver */
	set_status(r, S_ACK | S_DRIVER | S_FEATURES | S_OK);
	assert_int_equal(get_status(r), S_ACK | S_DRIVER);
	accept_features(r, 1ull << 3 | 1ull << 50 | 1ull << VIRTIO_F_VERSION_1);
	reg_write(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	reg_write(r, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set_status(r, S_ACK | S_DRIVER | S_FEATURES);
	assert_int_equal(get_status(r), S_ACK | S_DRIVER | S_FEATURES);
	accept_features(r, 0); /* too late */
	assert_true(f->d.dev.features == (1ull << 3 | 1ull << 50 | 1ull << VIRTIO_F_VERSION_1));
	set_status(r, 0);
	accept_features(r, 1); /* too early */
	assert_true(f->d.dev.features == 0);
}

static void test_queue_registers(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;
	struct queue_setup s = {.size = 4, .desc = 0x1000, .avail = 0x2000, .used = 0x3000};

	describe_queue(r, 0, &s); /* before FEATURES_OK */
	assert_int_equal(reg_read(r, VIRTIO_MMIO_QUEUE_READY), 0);
	negotiate(r, 0);
	describe_queue(r, 2, &s); /* no such queue */
	assert_int_equal(reg_read(r, VIRTIO_MMIO_QUEUE_READY), 0);
	describe_queue(r, 1, &s);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_QUEUE_READY), 1);
	reg_write(r, VIRTIO_MMIO_QUEUE_NUM, 3); /* while it is ready: ignored */
	set_status(r, S_ACK | S_DRIVER | S_FEATURES | S_OK);
	assert_int_equal(get_status(r), S_ACK | S_DRIVER | S_FEATURES | S_OK);
	assert_true(queue_live(&f->d.queues[1]));
	assert_false(queue_live(&f->d.queues[0])); /* the driver left it alone */
	s.size = 8;
	describe_queue(r, 0, &s); /* after DRIVER_OK */
	assert_int_equal(reg_read(r, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(f->d.queues[1].size, 4);
	/* The driver may take a queue back. */
	reg_write(r, VIRTIO_MMIO_QUEUE_SEL, 1);
	reg_write(r, VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_false(queue_live(&f->d.queues[1]));
	assert_int_equal(f->d.stops, 1);
}

static void test_bad_queues(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;
	const struct queue_setup bad[] = {
		{.size = 3, .desc = 0x1000, .avail = 0x2000, .used = 0x3000},
		{.size = 0, .desc = 0x1000, .avail = 0x2000, .used = 0x3000},
		{.size = 32, .desc = 0x1000, .avail = 0x2000, .used = 0x3000},
		{.size = 4, .desc = 0x1001, .avail = 0x2000, .used = 0x3000},
		{.size = 4, .desc = 0x1000, .avail = MMIO_RAM, .used = 0x3000},
		{.size = 4, .desc = 0x1000, .avail = 0x2000, .used = -8ull},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		negotiate(r, 0);
		describe_queue(r, 1, &bad[i]);
		set_status(r, S_ACK | S_DRIVER | S_FEATURES | S_OK);
		assert_int_equal(get_status(r), S_ACK | S_DRIVER | S_FEATURES | S_OK | S_BROKEN);
		assert_int_equal(wait_interrupt(r, 5000), VIRTIO_MMIO_INT_CONFIG);
		assert_int_equal(f->d.starts, 0);
		kick(r, 1);
		set_status(r, 0);
		assert_int_equal(get_status(r), 0);
	}
}

static void test_data(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;
	uint32_t id, len;
	char got[64] = "";

	go_live(r, 0, 8);
	offer_echo(&r->q[0], "some words");
	kick(r, 0);
	wait_used(r, 0, &id, &len);
	assert_int_equal(len, 10);
	mem_read(r->mem, 0x101000, got, 10);
	assert_string_equal(got, "some words");
	kick(r, 2); /* no such queue */
	kick(r, UINT32_MAX);
	/* The bit stays until it is acknowledged, alone. */
	offer_echo(&r->q[0], "more");
	kick(r, 0);
	while (!driver_reap(&r->q[0], &id, &len))
		;
	while (!reg_read(r, VIRTIO_MMIO_INTERRUPT_STATUS))
		;
	reg_write(r, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	reg_write(r, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

static void test_broken_ring(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;
	uint32_t id, len;

	go_live(r, 0, 8);
	driver_offer(&r->q[0], 77);
	kick(r, 0);
	assert_int_equal(wait_interrupt(r, 5000), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(get_status(r), S_ACK | S_DRIVER | S_FEATURES | S_OK | S_BROKEN);
	assert_int_equal(f->d.dev.log.count, 1);
	/* The other queue is dead as well. */
	offer_echo(&r->q[1], "x");
	kick(r, 1);
	virtio_mmio_pause(r->mmio);
	virtio_mmio_resume(r->mmio);
	kick(r, 1);
	assert_false(f->d.holds);
	assert_true(get_status(r) & S_BROKEN);
	/* A reset mends it. */
	set_status(r, 0);
	assert_int_equal(get_status(r), 0);
	go_live(r, 0, 8);
	offer_echo(&r->q[0], "again");
	kick(r, 0);
	wait_used(r, 0, &id, &len);
	assert_int_equal(len, 5);
}

static void hold_one(struct fixture *f, const char *text)
{
	offer_echo(&f->r.q[1], text);
	kick(&f->r, 1);
	while (!f->d.holds)
		;
}

static void test_reset_in_flight(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;

	for (unsigned i = 0; i < 50; i++) {
		go_live(r, 0, 8);
		hold_one(f, "in flight");
		set_status(r, 0);
		assert_false(f->d.holds);
		assert_int_equal(get_status(r), 0);
		assert_int_equal(reg_read(r, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		assert_int_equal(f->d.starts, f->d.stops);
		kick(r, 0); /* nobody listens */
	}
}

static void test_pause(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;
	uint32_t id, len;

	go_live(r, 1ull << VIRTIO_RING_F_EVENT_IDX, 8);
	hold_one(f, "held");
	virtio_mmio_pause(r->mmio);
	virtio_mmio_pause(r->mmio);
	assert_true(driver_reap(&r->q[1], &id, &len)); /* completed by the stop */
	assert_int_equal(f->d.stops, 1);
	offer_echo(&r->q[0], "while paused");
	kick(r, 0);
	assert_int_equal(get_status(r), S_ACK | S_DRIVER | S_FEATURES | S_OK);
	assert_false(driver_reap(&r->q[0], &id, &len));
	virtio_mmio_resume(r->mmio);
	virtio_mmio_resume(r->mmio);
	assert_int_equal(f->d.starts, 2);
	wait_used(r, 0, &id, &len);
	assert_int_equal(len, 12);
	/* A driver that comes up during a pause is served after it. */
	virtio_mmio_pause(r->mmio);
	set_status(r, 0);
	go_live(r, 0, 8);
	assert_int_equal(f->d.starts, 2);
	offer_echo(&r->q[0], "late");
	virtio_mmio_resume(r->mmio);
	wait_used(r, 0, &id, &len);
	assert_int_equal(len, 4);
}

static void save_state(struct fixture *f, struct stream_out *out)
{
	stream_out_init(out);
	virtio_mmio_pause(f->r.mmio);
	virtio_mmio_save(f->r.mmio, out);
	assert_int_equal(out->err, 0);
}

static int load_state(struct fixture *f, const struct stream_out *out)
{
	struct stream_in in;

	stream_in_init(&in, out->buf, out->len);
	return virtio_mmio_load(f->r.mmio, &in);
}

static void test_save_load(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->r;
	struct stream_out out;
	uint32_t id, len;

	go_live(r, 1ull << VIRTIO_RING_F_EVENT_IDX, 8);
	for (unsigned i = 0; i < 5; i++) {
		offer_echo(&r->q[0], "before");
		kick(r, 0);
		wait_used(r, 0, &id, &len);
	}
	f->d.saved = 0x1234;
	reg_write(r, VIRTIO_MMIO_QUEUE_SEL, 1);
	save_state(f, &out);
	set_status(r, 0);
	assert_int_equal(f->d.saved, 0);
	assert_int_equal(load_state(f, &out), 0);
	assert_int_equal(f->d.saved, 0x1234);
	virtio_mmio_resume(r->mmio);
	assert_int_equal(get_status(r), S_ACK | S_DRIVER | S_FEATURES | S_OK);
	assert_int_equal(reg_read(r, VIRTIO_MMIO_QUEUE_NUM_MAX), 8); /* queue 1 is selected */
	offer_echo(&r->q[0], "after");
	kick(r, 0);
	wait_used(r, 0, &id, &len);
	assert_int_equal(len, 5);
	stream_out_finish(&out);
}

/* Every bit of a saved state flipped: an error or a device that works, and never anything else. */
static void test_bad_state(void **state)
{
	struct fixture *f = *state;
	struct stream_out out;
	unsigned refused = 0;

	go_live(&f->r, 1ull << VIRTIO_RING_F_EVENT_IDX, 8);
	save_state(f, &out);
	for (size_t bit = 0; bit < out.len * 8; bit++) {
		out.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (load_state(f, &out) < 0) {
			refused++;
			assert_int_equal(get_status(&f->r), 0);
		}
		virtio_mmio_resume(f->r.mmio);
		kick(&f->r, 0);
		out.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(refused > 200);
	for (size_t len = 0; len < out.len; len++) {
		struct stream_in in;

		stream_in_init(&in, out.buf, len);
		assert_true(virtio_mmio_load(f->r.mmio, &in) < 0);
	}
	assert_int_equal(load_state(f, &out), 0);
	stream_out_finish(&out);
}

/* ---- Many threads at the registers, as hostile vCPUs are ---- */

static atomic_bool storm_over;

static void *storm(void *arg)
{
	struct rig *r = arg;
	uint32_t seed = (uint32_t)(uintptr_t)&seed;

	while (!storm_over) {
		seed = seed * 1664525u + 1013904223u;
		uint32_t off = (seed >> 8) % 0x44 * 4, v = seed >> 24 & 0xf;

		if (seed >> 31)
			bus_write(&r->bus, MMIO_BASE + off, &v, 4);
		else
			bus_read(&r->bus, MMIO_BASE + off, &v, 4);
		if (seed >> 20 == 0)
			go_live(r, 0, 8);
	}
	return NULL;
}

static void test_storm(void **state)
{
	struct fixture *f = *state;
	pthread_t t[3];
	uint64_t end = now_ns() + NSEC_PER_SEC;

	storm_over = false;
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, storm, &f->r), 0);
	while (now_ns() < end) {
		virtio_mmio_pause(f->r.mmio);
		virtio_mmio_resume(f->r.mmio);
	}
	storm_over = true;
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	set_status(&f->r, 0);
	assert_int_equal(get_status(&f->r), 0);
	assert_int_equal(f->d.starts, f->d.stops);
	assert_true(f->d.starts > 0);
}

/* Only the monitor can interrupt by a register. */
static void test_lend(void **state)
{
	struct fixture *f = *state;

	f->d.lend = 1;
	go_live(&f->r, 0, 4);
	assert_int_equal(f->d.starts, 1);
	assert_int_equal(f->d.lent, -ENOTSUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_widths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_config_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(test_features, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_queues, setup, teardown),
		cmocka_unit_test_setup_teardown(test_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_storm, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
