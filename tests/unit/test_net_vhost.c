// SPDX-License-Identifier: MIT
// virtio-net with the kernel as the owner of its queues: when it gets them, what it is told, and
// when and how they come back.
#include "tests/unit/fake_vhost.h"
#include "tests/unit/virtio_pci_driver.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "virtio/net.h"

#include <linux/virtio_net.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RAM MIB(16)
#define PAIRS 2u
#define QUEUES (2 * PAIRS + 1)
#define RING(queue) (0x10000u + 0x10000u * (queue))
#define COMMAND 0x100000u
#define ACK 0x101000u
#define F(name) (1ull << VIRTIO_NET_F_##name)
#define FEATURES (F(MRG_RXBUF) | F(CTRL_VQ) | F(CTRL_RX) | F(CTRL_MAC_ADDR) | F(MQ) | F(STATUS))

static struct fixture {
	struct pci_rig r; /* first, as the driver's functions have it */
	struct mem *mem;
	struct loop *io;
	struct virtio_device *dev;
	struct virtio_pci *pci;
	struct driver q[QUEUES];
	struct fake_vhost *kernel[PAIRS];
	int tap[PAIRS], peer[PAIRS];
} f;

static void create(void)
{
	struct virtio_net_args args = {.name = "net0", .mac = {2, 0, 0, 0, 0, 1}, .link_up = true};
	struct virtio_pci_config cfg = {.mem = f.mem, .io = f.io, .pci = f.r.pci, .place = SLOT};

	args.end = (struct net_end){.pairs = PAIRS, .tap = true, .vhosts = PAIRS};
	for (unsigned i = 0; i < PAIRS; i++) {
		int ends[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
		args.end.fd[i] = f.tap[i] = ends[0];
		f.peer[i] = ends[1];
		f.kernel[i] = fake_vhost_open();
		assert_int_equal(vhost_init(&args.end.vhost[i], f.kernel[i]->fd), 0);
	}
	assert_int_equal(virtio_net_create(&f.dev, &args), 0);
	cfg.dev = f.dev;
	assert_int_equal(virtio_pci_create(&f.pci, &cfg), 0);
}

static int setup(void **state)
{
	f = (struct fixture){0};
	fake_reset();
	pci_rig_init(&f.r);
	assert_int_equal(mem_create(&f.mem, RAM, MEM_PRIVATE), 0);
	assert_int_equal(loop_create(&f.io, "io"), 0);
	assert_int_equal(loop_spawn(f.io, NULL, NULL), 0);
	create();
	log_set_level(LOG_LEVEL_ERROR);
	place_bar(&f.r, SLOT, 0, BAR);
	decode(&f.r, SLOT, true);
	return 0;
}

static int teardown(void **state)
{
	virtio_pci_destroy(f.pci);
	loop_destroy(f.io);
	virtio_net_destroy(f.dev);
	for (unsigned i = 0; i < PAIRS; i++)
		if (f.peer[i] >= 0)
			close(f.peer[i]);
	pci_rig_finish(&f.r);
	mem_destroy(f.mem);
	return 0;
}

/* ---- A driver ---- */

static void go_live(bool vectors)
{
	negotiate(&f.r, FEATURES);
	if (vectors)
		use_vectors(&f.r, QUEUES);
	for (unsigned i = 0; i < QUEUES; i++) {
		driver_init(&f.q[i], f.mem, RING(i), 16, 0);
		describe_queue(&f.r, i, &f.q[i].setup);
	}
	set_status(&f.r, S_LIVE);
}

static void settled(void *arg)
{
}

/* What the device was told before has had its effect. */
static void await_device(void)
{
	loop_call(f.io, settled, NULL);
}

static void command(uint8_t class, uint8_t number, const void *data, uint32_t len)
{
	struct driver *q = &f.q[QUEUES - 1];
	const uint8_t head[2] = {class, number};
	uint32_t id, got;
	uint8_t answer;

	mem_write(f.mem, COMMAND, head, 2);
	mem_write(f.mem, COMMAND + 2, data, len);
	driver_desc(q, 0, COMMAND, 2 + len, VRING_DESC_F_NEXT);
	driver_desc(q, 1, ACK, 1, VRING_DESC_F_WRITE);
	driver_offer(q, 0);
	reg_set(&f.r, AT_NOTIFY + NOTIFY_STRIDE * (QUEUES - 1), 2, QUEUES - 1);
	while (!driver_reap(q, &id, &got))
		sched_yield();
	mem_read(f.mem, ACK, &answer, 1);
	assert_int_equal(answer, VIRTIO_NET_OK);
}

static void use_pairs(uint16_t pairs)
{
	command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs));
}

/* ---- What is so ---- */

static void count(void *arg)
{
	virtio_net_count(f.dev, arg);
}

static bool kernel_has_them(void)
{
	struct virtio_net_counters c;

	loop_call(f.io, count, &c);
	return c.vhost;
}

static int tap_of(unsigned pair)
{
	assert_int_equal(f.kernel[pair]->ring[0].tap, f.kernel[pair]->ring[1].tap);
	return f.kernel[pair]->ring[0].tap;
}

/* As if it had moved packets: `n` of queue `i` used. */
static void kernel_uses(unsigned i, uint16_t n)
{
	f.kernel[i / 2]->ring[i % 2].base = n;
	f.q[i].used->idx = n;
	f.q[i].avail->idx = n;
	f.q[i].avail_next = f.q[i].used_next = n;
}

/* The monitor moves a packet of the guest's from queue 1. */
static void check_monitor_sends(void)
{
	static const uint8_t frame[60];
	const struct virtio_net_hdr_v1 h = {0};
	char got[128];
	uint32_t id, len;

	mem_write(f.mem, COMMAND, &h, sizeof(h));
	mem_write(f.mem, COMMAND + sizeof(h), frame, sizeof(frame));
	driver_desc(&f.q[1], 0, COMMAND, sizeof(h) + sizeof(frame), 0);
	driver_offer(&f.q[1], 0);
	reg_set(&f.r, AT_NOTIFY + NOTIFY_STRIDE, 2, 1);
	while (!driver_reap(&f.q[1], &id, &len))
		sched_yield();
	if (f.peer[0] >= 0)
		assert_int_equal(recv(f.peer[0], got, sizeof(got), 0), sizeof(h) + sizeof(frame));
}

/* ---- Tests ---- */

static void test_told(void **state)
{
	const struct fake_ring *r;

	go_live(true);
	assert_true(kernel_has_them());
	assert_int_equal(f.kernel[0]->regions, 1);
	assert_int_equal(f.kernel[0]->region[0].memory_size, RAM);
	assert_ptr_equal(
		(void *)(uintptr_t)f.kernel[0]->region[0].userspace_addr, mem_get(f.mem, 0, 1));
	for (unsigned i = 0; i < 2 * PAIRS; i++) {
		r = &f.kernel[i / 2]->ring[i % 2];
		assert_int_equal(r->size, 16);
		assert_ptr_equal((void *)(uintptr_t)r->at.desc_user_addr, f.q[i].desc);
		assert_ptr_equal((void *)(uintptr_t)r->at.avail_user_addr, f.q[i].avail);
		assert_ptr_equal((void *)(uintptr_t)r->at.used_user_addr, f.q[i].used);
		assert_int_equal(r->kick, transport_kick_fd(&f.pci->t, i));
		assert_true(r->call >= 0);
	}
	assert_true(f.kernel[0]->features & F(MRG_RXBUF));
	assert_true(tap_of(0) == f.tap[0] && tap_of(1) == -1);
	set_status(&f.r, 0);
	assert_true(tap_of(0) == -1 && f.kernel[0]->ring[0].kick == -1);
	assert_false(kernel_has_them());
}

static void test_pairs(void **state)
{
	go_live(true);
	use_pairs(2);
	assert_true(tap_of(0) == f.tap[0] && tap_of(1) == f.tap[1]);
	virtio_pci_pause(f.pci);
	assert_true(tap_of(0) == -1 && tap_of(1) == -1);
	virtio_pci_resume(f.pci);
	assert_true(tap_of(0) == f.tap[0] && tap_of(1) == f.tap[1]);
	use_pairs(1);
	assert_true(tap_of(0) == f.tap[0] && tap_of(1) == -1);
	set_status(&f.r, 0);
	go_live(true);
	assert_true(tap_of(0) == f.tap[0] && tap_of(1) == -1);
}

/* It goes on from where the kernel was, and the kernel from there. */
static void test_pause(void **state)
{
	struct queue_setup *s = &f.pci->t.queues[1].setup;

	go_live(true);
	kernel_uses(0, 5);
	kernel_uses(1, 65530);
	virtio_pci_pause(f.pci);
	assert_true(s->next_avail == 65530 && s->next_used == 65530);
	assert_int_equal(f.pci->t.queues[0].setup.next_avail, 5);
	f.kernel[0]->ring[1].base = 0;
	virtio_pci_resume(f.pci);
	assert_int_equal(f.kernel[0]->ring[1].base, 65530);
	assert_true(kernel_has_them());
}

/* A state that was saved while the kernel had them goes on with the kernel, and with the monitor.
 */
static void test_save_load(void **state)
{
	struct stream_out s;
	struct stream_in in;

	go_live(true);
	use_pairs(2);
	kernel_uses(1, 7);
	kernel_uses(2, 65535);
	virtio_pci_pause(f.pci);
	stream_out_init(&s);
	virtio_pci_save(f.pci, &s);
	for (unsigned n = 0; n < 2; n++) {
		stream_in_init(&in, s.buf, s.len);
		assert_int_equal(virtio_pci_load(f.pci, &in), 0);
		assert_int_equal(tap_of(0), -1);
		f.kernel[0]->ring[1].base = f.kernel[1]->ring[0].base = 0;
		/* The second time the kernel does not want them. */
		fake_requests = 0;
		fake_refuse = n;
		virtio_pci_resume(f.pci);
		assert_int_equal(kernel_has_them(), n == 0);
		if (n)
			continue;
		assert_int_equal(f.kernel[0]->ring[1].base, 7);
		assert_int_equal(f.kernel[1]->ring[0].base, 65535);
		assert_true(tap_of(0) == f.tap[0] && tap_of(1) == f.tap[1]);
	}
	check_monitor_sends();
	assert_int_equal(f.q[1].used->idx, 8);
	stream_out_finish(&s);
}

/* While there is no link the monitor has them, to throw away what is sent. */
static void set_link(void *arg)
{
	virtio_net_set_link(f.dev, *(bool *)arg);
}

static void test_link(void **state)
{
	bool up = false;
	uint32_t id, len;

	go_live(true);
	kernel_uses(1, 3);
	loop_call(f.io, set_link, &up);
	assert_false(kernel_has_them());
	assert_int_equal(tap_of(0), -1);
	driver_desc(&f.q[1], 0, COMMAND, 72, 0);
	driver_offer(&f.q[1], 0);
	reg_set(&f.r, AT_NOTIFY + NOTIFY_STRIDE, 2, 1);
	while (!driver_reap(&f.q[1], &id, &len))
		sched_yield();
	up = true;
	loop_call(f.io, set_link, &up);
	assert_true(kernel_has_them());
	assert_int_equal(f.kernel[0]->ring[1].base, 4);
	assert_int_equal(get_status(&f.r), S_LIVE);
}

/* The tap is taken away: the monitor throws away what is sent. */
static void test_tap_gone(void **state)
{
	go_live(true);
	close(f.peer[0]);
	f.peer[0] = -1;
	while (kernel_has_them())
		sched_yield();
	assert_int_equal(tap_of(0), -1);
	check_monitor_sends();
	assert_int_equal(get_status(&f.r), S_LIVE);
}

static void test_without_vectors(void **state)
{
	go_live(false);
	assert_false(kernel_has_them());
	check_monitor_sends();
}

/* A guest that starts without, again and again, does not fill the log. */
static void test_log(void **state)
{
	int fd = memfd_create("log", MFD_CLOEXEC), was = dup(STDERR_FILENO);
	char text[4096] = "";
	unsigned lines = 0;

	log_set_level(LOG_LEVEL_INFO);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	for (unsigned i = 0; i < 200; i++) {
		set_status(&f.r, 0);
		go_live(false);
	}
	assert_int_equal(dup2(was, STDERR_FILENO), STDERR_FILENO);
	assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		lines++;
	assert_in_range(lines, 1, 20);
	close(was);
	close(fd);
}

/* Whatever the kernel refuses at the start, the monitor goes on. */
static void test_refused(void **state)
{
	unsigned all, first = fake_requests;

	go_live(true);
	await_device();
	all = fake_requests - first;
	assert_true(all > 20);
	for (unsigned n = 1; n <= all; n++) {
		set_status(&f.r, 0);
		await_device();
		fake_requests = 0;
		fake_refuse = n;
		go_live(true);
		assert_false(kernel_has_them());
		assert_true(tap_of(0) == -1 && tap_of(1) == -1);
		check_monitor_sends();
	}
	set_status(&f.r, 0);
	fake_refuse = 0;
	go_live(true);
	assert_true(kernel_has_them());
}

static void test_error(void **state)
{
	go_live(true);
	assert_int_equal(eventfd_write(f.kernel[1]->ring[0].error, 1), 0);
	while (!(get_status(&f.r) & VIRTIO_CONFIG_S_NEEDS_RESET))
		sched_yield();
	await_device();
	assert_true(tap_of(0) == -1 && tap_of(1) == -1);
	virtio_pci_pause(f.pci);
	virtio_pci_resume(f.pci);
	assert_int_equal(tap_of(0), -1);
	set_status(&f.r, 0);
	go_live(true);
	assert_true(kernel_has_them());
	assert_int_equal(get_status(&f.r), S_LIVE);
}

/* A driver that breaks the rules on the control queue gets no more packets either. */
static void test_broken(void **state)
{
	go_live(true);
	f.q[QUEUES - 1].avail->idx = 100;
	reg_set(&f.r, AT_NOTIFY + NOTIFY_STRIDE * (QUEUES - 1), 2, QUEUES - 1);
	while (!(get_status(&f.r) & VIRTIO_CONFIG_S_NEEDS_RESET))
		sched_yield();
	await_device();
	assert_int_equal(tap_of(0), -1);
}

static void test_filter(void **state)
{
	static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t tables[] = {
		1, 0, 0, 0, 2, 0, 0, 0, 0, 7, 1, 0, 0, 0, 0x33, 0x33, 0, 0, 0, 9};
	uint8_t on = 1, off = 0;

	go_live(true);
	/* A driver that has asked for nothing gets everything. */
	assert_int_equal(fake_filter_count, 0);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1);
	assert_int_equal(fake_filter_count, 2);
	assert_memory_equal(fake_filter[0], f.dev->config, 6);
	assert_memory_equal(fake_filter[1], everybody, 6);
	command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables));
	assert_int_equal(fake_filter_count, 4);
	assert_memory_equal(fake_filter[1], tables + 4, 6);
	assert_memory_equal(fake_filter[3], tables + 14, 6);
	assert_false(fake_filter_groups);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1);
	assert_true(fake_filter_groups);
	command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, tables + 4, 6);
	assert_memory_equal(fake_filter[0], tables + 4, 6);
	/* The monitor judges by itself. */
	virtio_pci_pause(f.pci);
	assert_int_equal(fake_filter_count, 0);
	virtio_pci_resume(f.pci);
	assert_int_equal(fake_filter_count, 4);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1);
	assert_int_equal(fake_filter_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pairs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tap_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_vectors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_filter, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
