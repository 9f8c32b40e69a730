// SPDX-License-Identifier: MIT
// Who serves a kick: the driver's thread, or the loop's.
#include "tests/unit/echo.h"
#include "tests/unit/mmio_driver.h"

#include "base/fd.h"
#include "base/log.h"
#include "virtio/transport.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <sys/eventfd.h>

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

/* The loop's thread may be at work yet on what was seen to be used: until it is not. */
static void settle(struct loop *loop)
{
	while (!loop_visit(loop))
		sched_yield();
	loop_leave(loop);
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
		settle(f->r.io);
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

/* A transport of its own, to see which doorbells it wants to be the kernel's. */
struct bells {
	struct rig r;
	struct echo d;
	struct transport t;
	unsigned binds, unbinds;
	int result;
};

static void no_interrupt(void *arg, unsigned queue)
{
}

static void nothing(void *arg)
{
}

static int note_bind(void *arg, unsigned queue, bool add)
{
	struct bells *b = arg;

	assert_int_equal(queue, 0);
	if (add)
		b->binds++;
	else
		b->unbinds++;
	return b->result;
}

static const struct transport_ops noting = {
	.queue_interrupt = no_interrupt,
	.config_interrupt = nothing,
	.reset = nothing,
	.bind = note_bind,
};

static void start_queue(struct bells *b)
{
	struct driver *d = &b->r.q[0];

	transport_set_status(&b->t, S_ACK);
	transport_set_status(&b->t, S_ACK | S_DRIVER);
	transport_accept(&b->t, 1, 1u << (VIRTIO_F_VERSION_1 - 32));
	transport_set_status(&b->t, S_ACK | S_DRIVER | S_FEATURES);
	driver_init(d, b->r.mem, MMIO_RING(0), 8, 0);
	transport_set_queue_size(&b->t, 0, 8);
	transport_set_queue_ring(&b->t, 0, RING_DESC, false, (uint32_t)d->setup.desc);
	transport_set_queue_ring(&b->t, 0, RING_AVAIL, false, (uint32_t)d->setup.avail);
	transport_set_queue_ring(&b->t, 0, RING_USED, false, (uint32_t)d->setup.used);
	transport_set_queue_ready(&b->t, 0, 1);
	transport_set_status(&b->t, S_ACK | S_DRIVER | S_FEATURES | S_OK);
}

static int setup_bells(void **state)
{
	static struct bells b;

	b = (struct bells){0};
	echo_init(&b.d);
	b.d.dev.brief = 1;
	rig_init(&b.r);
	assert_int_equal(transport_init(&b.t, &(struct transport_config){.dev = &b.d.dev,
						      .mem = b.r.mem,
						      .io = b.r.io,
						      .ops = &noting,
						      .arg = &b}),
		0);
	log_set_level(LOG_LEVEL_ERROR);
	start_queue(&b);
	*state = &b;
	return 0;
}

static int teardown_bells(void **state)
{
	struct bells *b = *state;

	transport_finish(&b->t);
	rig_finish(&b->r);
	virtio_device_finish(&b->d.dev);
	return 0;
}

static void rings(struct bells *b, unsigned count, uint32_t len)
{
	uint32_t id, used;

	for (unsigned i = 0; i < count; i++) {
		driver_desc(&b->r.q[0], 0, 0x100000, len, VRING_DESC_F_NEXT);
		driver_desc(&b->r.q[0], 1, 0x200000, 64, VRING_DESC_F_WRITE);
		driver_offer(&b->r.q[0], 0);
		settle(b->r.io);
		assert_true(transport_kick(&b->t, 0));
		while (!driver_reap(&b->r.q[0], &id, &used))
			usleep(10);
	}
}

/* It is the kernel's while requests are large, and wherever it has moved to; not before or after.
 */
static void test_bind(void **state)
{
	struct bells *b = *state;

	rings(b, 100, 16);
	assert_int_equal(b->binds, 0);
	rings(b, 100, 100000);
	assert_int_equal(b->binds, 1);
	pthread_mutex_lock(&b->t.bell_lock);
	transport_unbind(&b->t);
	pthread_mutex_unlock(&b->t.bell_lock);
	assert_int_equal(b->unbinds, 1);
	rings(b, 1, 16);
	assert_int_equal(b->binds, 2);
	rings(b, 200, 16);
	assert_int_equal(b->unbinds, 2);
	rings(b, 10, 16);
	assert_int_equal(b->binds, 2);
}

/* What cannot be now is tried with the next kick; what fails is not, until it has moved. */
static void test_bind_fails(void **state)
{
	struct bells *b = *state;

	b->result = -EAGAIN;
	rings(b, 100, 100000);
	assert_in_range(b->binds, 10, 100);
	b->result = -ENOSPC;
	b->binds = 0;
	rings(b, 10, 100000);
	assert_int_equal(b->binds, 1);
	pthread_mutex_lock(&b->t.bell_lock);
	transport_unbind(&b->t);
	pthread_mutex_unlock(&b->t.bell_lock);
	b->result = 0;
	rings(b, 10, 100000);
	assert_int_equal(b->binds, 2);
	assert_int_equal(b->unbinds, 0);
}

static atomic_bool over;

static void *kick_on(void *arg)
{
	struct bells *b = arg;

	while (!over)
		transport_kick(&b->t, 0);
	return NULL;
}

/* While one of its vCPUs kicks another resets: no doorbell is taken for descriptor 0 meanwhile. */
static void test_reset_and_kick(void **state)
{
	struct bells *b = *state;
	int was = dup(STDIN_FILENO), fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t told = 0;
	pthread_t kicker;

	b->d.dev.brief = 0;
	assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
	over = false;
	assert_int_equal(pthread_create(&kicker, NULL, kick_on, b), 0);
	for (unsigned i = 0; i < 20000; i++)
		transport_set_status(&b->t, 0);
	over = true;
	pthread_join(kicker, NULL);
	assert_int_equal(eventfd_read(fd, &told), -1);
	assert_int_equal(told, 0);
	close(fd);
	assert_true(was < 0 || dup2(was, STDIN_FILENO) == STDIN_FILENO);
	cleanup_fd_(&was);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_small, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_change, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_brief, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_live, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bind, setup_bells, teardown_bells),
		cmocka_unit_test_setup_teardown(test_bind_fails, setup_bells, teardown_bells),
		cmocka_unit_test_setup_teardown(test_reset_and_kick, setup_bells, teardown_bells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
