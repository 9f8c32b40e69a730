// SPDX-License-Identifier: MIT
// The kernel as the owner of a NIC's queues: what it is told and in which order, what is left where
// it refuses.
#include "net/vhost.h"
#include "tests/unit/fake_vhost.h"
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>

#define TAP 77
#define ALL                                                                                        \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF |                             \
		1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX)

static struct fake_vhost *kernel;

static struct vhost_memory_region memory[] = {
	{.guest_phys_addr = 0, .memory_size = 1 << 20, .userspace_addr = 0x100000},
	{.guest_phys_addr = 1ull << 32, .memory_size = 1 << 21, .userspace_addr = 0x400000},
};

static const struct vhost_ring rings[2] = {
	{256, 7, (void *)0x101000, (void *)0x102000, (void *)0x103000, 11, 12},
	{128, 9, (void *)0x104000, (void *)0x105000, (void *)0x106000, 13, 14},
};

static int setup(void **state)
{
	fake_reset();
	kernel = fake_vhost_open();
	return 0;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void test_start_stop(void **state)
{
	uint16_t next[2] = {0};
	struct vhost v;

	assert_int_equal(vhost_init(&v, kernel->fd), 0);
	/* What is the device's or the tap's is none of the kernel's thread. */
	assert_int_equal(
		vhost_start(&v, ALL | 1ull << VIRTIO_NET_F_CTRL_VQ | 1, memory, 2, rings, TAP), 0);
	assert_true(kernel->features == ALL);
	assert_int_equal(kernel->regions, 2);
	assert_memory_equal(kernel->region, memory, sizeof(memory));
	for (unsigned i = 0; i < 2; i++) {
		const struct fake_ring *r = &kernel->ring[i];

		assert_int_equal(r->size, rings[i].size);
		assert_int_equal(r->base, rings[i].next);
		assert_int_equal(r->at.desc_user_addr, (uintptr_t)rings[i].desc);
		assert_int_equal(r->at.avail_user_addr, (uintptr_t)rings[i].avail);
		assert_int_equal(r->at.used_user_addr, (uintptr_t)rings[i].used);
		assert_int_equal(r->at.flags, 0);
		assert_int_equal(r->kick, rings[i].kick);
		assert_int_equal(r->call, rings[i].call);
		assert_int_equal(r->error, v.error);
		assert_int_equal(r->tap, TAP);
	}
	assert_int_equal(vhost_attach(&v, -1), 0);
	assert_true(kernel->ring[0].tap == -1 && kernel->ring[1].tap == -1);
	assert_int_equal(vhost_attach(&v, TAP), 0);
	kernel->ring[0].base = 65535;
	kernel->ring[1].base = 10;
	vhost_stop(&v, next);
	assert_true(next[0] == 65535 && next[1] == 10);
	for (unsigned i = 0; i < 2; i++)
		assert_true(kernel->ring[i].tap == -1 && kernel->ring[i].kick == -1 &&
			    kernel->ring[i].call == -1);
	next[0] = 1;
	vhost_stop(&v, next);
	assert_int_equal(next[0], 1);
	/* Again, and it ends while it runs. */
	assert_int_equal(vhost_start(&v, ALL, memory, 1, rings, TAP), 0);
	vhost_finish(&v);
	assert_int_equal(kernel->ring[0].tap, -1);
	assert_false(is_open(kernel->fd));
	vhost_finish(&v);
}

/* Whatever it refuses, the rings are nobody's then, and its name is said. */
static void test_refused(void **state)
{
	unsigned all, first;
	struct vhost v;

	assert_int_equal(vhost_init(&v, kernel->fd), 0);
	first = fake_requests;
	assert_int_equal(vhost_start(&v, ALL, memory, 2, rings, TAP), 0);
	all = fake_requests;
	vhost_finish(&v);
	assert_true(all > first + 10);
	for (unsigned n = 1; n <= all; n++) {
		int rc;

		setup(state);
		fake_refuse = n;
		rc = vhost_init(&v, kernel->fd);
		assert_true(rc == (n <= first ? -EIO : 0));
		if (rc) {
			assert_false(is_open(kernel->fd));
			continue;
		}
		assert_int_equal(vhost_start(&v, ALL, memory, 2, rings, TAP), -EIO);
		assert_non_null(strstr(last_error(), "/dev/vhost-net: VHOST_"));
		assert_true(kernel->ring[0].tap == -1 && kernel->ring[1].tap == -1);
		assert_int_equal(vhost_start(&v, ALL, memory, 2, rings, TAP), 0);
		vhost_finish(&v);
	}
}

static void test_old_kernel(void **state)
{
	struct vhost v;

	kernel->has &= ~(1ull << VIRTIO_NET_F_MRG_RXBUF);
	assert_int_equal(vhost_init(&v, kernel->fd), -ENOTSUP);
	assert_non_null(strstr(last_error(), "0x8000"));
	assert_false(is_open(kernel->fd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_start_stop, setup),
		cmocka_unit_test_setup(test_refused, setup),
		cmocka_unit_test_setup(test_old_kernel, setup),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
