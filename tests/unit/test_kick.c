// SPDX-License-Identifier: MIT
// Who serves a kick: the driver's thread, or the loop's.
#include "tests/unit/echo.h"
#include "tests/unit/mmio_driver.h"

#include "base/log.h"

#include <linux/virtio_ring.h>

struct fixture {
	struct rig r;
	struct echo d;
};

/* Queue 0 is brief, queue 1 is not. */
static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	echo_init(&f.d);
	f.d.dev.brief = 1;
	rig_init(&f.r);
	rig_attach(&f.r, &f.d.dev);
	log_set_level(LOG_LEVEL_ERROR);
	go_live(&f.r, 1ull << VIRTIO_RING_F_EVENT_IDX, 8);
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

/* So many kicks of queue 0 with a request of `len` bytes each; how many were served here. */
static unsigned kicks(struct fixture *f, unsigned count, uint32_t len)
{
	unsigned before = f->d.visits;
	uint32_t id, used;

	for (unsigned i = 0; i < count; i++) {
		driver_desc(&f->r.q[0], 0, 0x100000, len, VRING_DESC_F_NEXT);
		driver_desc(&f->r.q[0], 1, 0x200000, 64, VRING_DESC_F_WRITE);
		driver_offer(&f->r.q[0], 0);
		kick(&f->r, 0);
		wait_used(&f->r, 0, &id, &used);
	}
	return f->d.visits - before;
}

/* The loop's thread may be at work yet when the next one comes: of the small ones not all. */
static void test_small(void **state)
{
	unsigned here = kicks(*state, 320, 16);

	assert_in_range(here, 200, 310);
}

/* After two samples of 32 that take long to copy nothing is served here, and so it stays. */
static void test_large(void **state)
{
	assert_in_range(kicks(*state, 64, 100000), 1, 62);
	assert_int_equal(kicks(*state, 500, 100000), 0);
}

/* The way back takes twice as many, the way there again four times. */
static void test_change(void **state)
{
	kicks(*state, 64, 100000);
	assert_int_equal(kicks(*state, 100, 16), 0);
	kicks(*state, 28, 16);
	assert_in_range(kicks(*state, 31, 16), 1, 31);
	assert_in_range(kicks(*state, 96, 100000), 1, 93);
}

static void test_not_brief(void **state)
{
	struct fixture *f = *state;

	f->d.dev.brief = 0;
	assert_int_equal(kicks(f, 100, 16), 0);
	assert_true(f->d.kicks >= 100);
}

/* A queue that nobody has started, or that there is not, is nobody's to serve here. */
static void test_not_live(void **state)
{
	struct fixture *f = *state;

	set_status(&f->r, 0);
	kick(&f->r, 0);
	kick(&f->r, 7);
	assert_int_equal(f->d.visits, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_small, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_change, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_brief, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_live, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
