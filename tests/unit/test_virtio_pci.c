// SPDX-License-Identifier: MIT
// The virtio-pci registers: found by capabilities, every width, the status machine, vectors, moving
// BARs, reset, pause, save and load; a queue that goes to another owner.
#include "tests/unit/echo.h"
#include "tests/unit/virtio_pci_driver.h"

#include "base/log.h"
#include "base/loop.h"
#include "virtio/pci.h"
#include "virtio/transport_priv.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#define RAM MIB(16)
#define NO_VECTOR VIRTIO_MSI_NO_VECTOR

struct fixture {
	struct pci_rig r;
	struct mem *mem;
	struct loop *io;
	struct echo d;
	struct virtio_pci *pci;
	struct driver q[2];
	atomic_uint sent[3]; /* messages, by their data */
};

static void sent(void *arg, uint64_t address, uint32_t data)
{
	struct fixture *f = arg;

	assert_true(address == 0xfee00000);
	f->sent[data]++;
}

static int setup(void **state)
{
	static struct fixture f;
	struct virtio_pci_config cfg = {.dev = &f.d.dev, .place = SLOT};

	f = (struct fixture){0};
	echo_init(&f.d);
	pci_rig_init(&f.r);
	assert_int_equal(mem_create(&f.mem, RAM, MEM_PRIVATE), 0);
	assert_int_equal(loop_create(&f.io, "io"), 0);
	assert_int_equal(loop_spawn(f.io, NULL, NULL), 0);
	cfg.mem = f.mem;
	cfg.io = f.io;
	cfg.pci = f.r.pci;
	assert_int_equal(virtio_pci_create(&f.pci, &cfg), 0);
	f.pci->msix.cfg.send = sent;
	f.pci->msix.cfg.arg = &f;
	log_set_level(LOG_LEVEL_ERROR);
	place_bar(&f.r, SLOT, 0, BAR);
	decode(&f.r, SLOT, true);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_pci_destroy(f->pci);
	loop_destroy(f->io);
	pci_rig_finish(&f->r);
	mem_destroy(f->mem);
	virtio_device_finish(&f->d.dev);
	return 0;
}

/* ---- A driver ---- */

static void go_live(struct fixture *f, uint64_t features)
{
	negotiate(&f->r, features);
	for (unsigned i = 0; i < 2; i++) {
		driver_init(&f->q[i], f->mem, 0x10000u + 0x10000u * i, 8, 0);
		describe_queue(&f->r, i, &f->q[i].setup);
	}
	set_status(&f->r, S_LIVE);
}

static void kick(struct fixture *f, unsigned queue)
{
	reg_set(&f->r, AT_NOTIFY + queue * NOTIFY_STRIDE, 2, queue);
}

static void await_sent(struct fixture *f, unsigned vector, unsigned count)
{
	while (f->sent[vector] < count)
		sched_yield();
	assert_int_equal(f->sent[vector], count);
}

/* The length of the answer to a request. */
static uint32_t echo_once(struct fixture *f, const char *text)
{
	uint32_t id, len;

	offer_echo(&f->q[0], text);
	driver_want_call(&f->q[0], f->q[0].used_next);
	kick(f, 0);
	while (!driver_reap(&f->q[0], &id, &len))
		sched_yield();
	return len;
}

/* ---- Tests ---- */

static unsigned find_virtio(struct fixture *f, uint8_t type)
{
	unsigned at = find_capability(&f->r, SLOT, PCI_CAP_ID_VNDR, 0);

	while (at && config_get(&f->r, SLOT, at + 3, 1) != type)
		at = find_capability(&f->r, SLOT, PCI_CAP_ID_VNDR, at);
	return at;
}

static void test_capabilities(void **state)
{
	struct fixture *f = *state;
	struct pci_rig *r = &f->r;
	static const struct {
		uint8_t type, len;
		uint32_t at, size;
	} want[] = {
		{VIRTIO_PCI_CAP_COMMON_CFG, 16, AT_COMMON, 56},
		{VIRTIO_PCI_CAP_NOTIFY_CFG, 20, AT_NOTIFY, 8},
		{VIRTIO_PCI_CAP_ISR_CFG, 16, AT_ISR, 1},
		{VIRTIO_PCI_CAP_DEVICE_CFG, 16, AT_DEVICE, 12},
		{VIRTIO_PCI_CAP_PCI_CFG, 20, 0, 0},
	};

	assert_int_equal(config_get(r, SLOT, PCI_VENDOR_ID, 4), 0x106a1af4);
	assert_int_equal(config_get(r, SLOT, PCI_CLASS_REVISION, 4), 0x00ff0001);
	assert_true(config_get(r, SLOT, PCI_SUBSYSTEM_ID, 2) >= 0x40);
	assert_int_equal(config_get(r, SLOT, PCI_INTERRUPT_PIN, 1), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
		unsigned at = find_virtio(f, want[i].type);

		assert_true(at && at % 4 == 0);
		assert_int_equal(config_get(r, SLOT, at + 2, 1), want[i].len);
		assert_int_equal(config_get(r, SLOT, at + 4, 1), 0);
		assert_int_equal(config_get(r, SLOT, at + 8, 4), want[i].at);
		assert_int_equal(config_get(r, SLOT, at + 12, 4), want[i].size);
	}
	assert_int_equal(config_get(r, SLOT, find_virtio(f, VIRTIO_PCI_CAP_NOTIFY_CFG) + 16, 4), 4);
	assert_int_not_equal(find_capability(r, SLOT, PCI_CAP_ID_MSIX, 0), 0);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	for (unsigned i = 0; i < 4; i++) {
		reg_set(&f->r, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_SELECT, 2), i);
		assert_int_equal(
			reg_get(&f->r, VIRTIO_PCI_COMMON_Q_SIZE, 2), i < 2 ? echo_max[i] : 0);
		assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_NOFF, 2), i);
		assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_MSIX, 2), NO_VECTOR);
	}
}

/* Every width at every offset of the registers: the right one and no other. */
static void test_widths(void **state)
{
	struct fixture *f = *state;
	static const uint8_t starts[] = {
		0, 4, 8, 12, 16, 18, 20, 21, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56};
	uint8_t data[8], zero[8] = {0};

	reg_set(&f->r, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	for (unsigned len = 1; len <= 8; len *= 2)
		for (unsigned off = 0; off + len <= 0x80; off++) {
			bool good = false;

			for (unsigned i = 0; i + 1 < sizeof(starts); i++)
				good |= off == starts[i] && len == starts[i + 1] - starts[i] + 0u;
			memset(data, 0xff, sizeof(data));
			assert_true(bus_read(&f->r.mmio, BAR + off, data, len));
			if (good)
				continue;
			assert_memory_equal(data, zero, len);
			memset(data, 1, sizeof(data));
			bus_write(&f->r.mmio, BAR + off, data, len);
		}
	assert_int_equal(get_status(&f->r), 0);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_DFSELECT, 4), 1);
	for (unsigned len = 1; len <= 8; len *= 2)
		for (unsigned off = 0; off + len <= 0x100; off++) {
			memset(data, 0xff, sizeof(data));
			assert_true(bus_read(&f->r.mmio, BAR + AT_DEVICE + off, data, len));
			for (unsigned i = 0; i < len; i++)
				assert_int_equal(data[i], off + i < 12 ? off + i + 1 : 0);
		}
	for (unsigned off = 0x6000; off < BAR_SIZE; off += 4) {
		reg_set(&f->r, off, 4, UINT32_MAX);
		assert_int_equal(reg_get(&f->r, off, 4), 0);
	}
}

static void test_features(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_DF, 4), 1 << 3 | 1 << 28 | 1 << 29);
	reg_set(&f->r, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_DF, 4), 1 << (50 - 32) | 1);
	reg_set(&f->r, VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_DF, 4), 0);
	negotiate(&f->r, 1ull << 4); /* not offered */
	assert_int_equal(get_status(&f->r), S_ACK | S_DRIVER);
	accept_features(&f->r, 1ull << 50 | 1ull << VIRTIO_F_VERSION_1);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_GFSELECT, 4), 1);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_GF, 4), 1 << (50 - 32) | 1);
	set_status(&f->r, S_ACK | S_DRIVER | S_FEATURES);
	assert_int_equal(get_status(&f->r), S_ACK | S_DRIVER | S_FEATURES);
	set_status(&f->r, 0);
	assert_int_equal(get_status(&f->r), 0);
}

static void test_queue_registers(void **state)
{
	struct fixture *f = *state;
	struct queue_setup s = {
		.size = 4, .desc = 0x100001000, .avail = 0x200002000, .used = 0x300003000};

	describe_queue(&f->r, 0, &s); /* before FEATURES_OK */
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	negotiate(&f->r, 0);
	describe_queue(&f->r, 2, &s); /* no such queue */
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	describe_queue(&f->r, 1, &s);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 4);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0x1000);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_DESCHI, 4), 1);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_AVAILLO, 4), 0x2000);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_AVAILHI, 4), 2);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_USEDLO, 4), 0x3000);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_USEDHI, 4), 3);
	/* It cannot be taken back. */
	reg_set(&f->r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	reg_set(&f->r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 2);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	set_status(&f->r, S_LIVE); /* its rings are not in RAM */
	assert_int_equal(get_status(&f->r), S_LIVE | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(reg_get(&f->r, AT_ISR, 1), 2);
	assert_int_equal(reg_get(&f->r, AT_ISR, 1), 0);
	set_status(&f->r, 0);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_SIZE, 2), echo_max[1]);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_DESCHI, 4), 0);
}

static void test_vectors(void **state)
{
	struct fixture *f = *state;
	uint32_t v = 7;

	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_MSIX, 2), NO_VECTOR);
	reg_set(&f->r, VIRTIO_PCI_COMMON_MSIX, 2, 3); /* one more than there are */
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_MSIX, 2), NO_VECTOR);
	use_vectors(&f->r, 2);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_MSIX, 2), 0);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_MSIX, 2), 2);
	reg_set(&f->r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 9);
	reg_set(&f->r, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_MSIX, 2), NO_VECTOR);
	/* Live, without a reset in between, which would void them. */
	go_live(f, 0);
	assert_int_equal(echo_once(f, "some words"), 10);
	await_sent(f, 1, 1);
	assert_int_equal(reg_get(&f->r, AT_ISR, 1), 0);
	bus_write(&f->r.mmio, BAR + AT_DEVICE, &v, 4);
	await_sent(f, 0, 1);
	assert_int_equal(reg_get(&f->r, AT_ISR, 1), 2);
	/* Masked: pending, and sent once it is not. */
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 1);
	assert_int_equal(echo_once(f, "more"), 4);
	while (!reg_get(&f->r, AT_PENDING, 4))
		;
	assert_int_equal(reg_get(&f->r, AT_PENDING, 4), 2);
	assert_int_equal(f->sent[1], 1);
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 0);
	await_sent(f, 1, 2);
	assert_int_equal(f->sent[2], 0);
	/* A reset voids what is pending, and who it is for. */
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 1);
	assert_int_equal(echo_once(f, "void"), 4);
	while (!reg_get(&f->r, AT_PENDING, 4))
		;
	set_status(&f->r, 0);
	assert_int_equal(reg_get(&f->r, AT_PENDING, 4), 0);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_MSIX, 2), NO_VECTOR);
	assert_int_equal(f->d.starts, f->d.stops);
}

/* Without MSI-X the driver polls. */
static void test_polling(void **state)
{
	struct fixture *f = *state;

	go_live(f, 0);
	reg_get(&f->r, AT_ISR, 1);
	assert_int_equal(echo_once(f, "polled"), 6);
	while (reg_get(&f->r, AT_ISR, 1) != 1)
		;
	assert_int_equal(reg_get(&f->r, AT_ISR, 1), 0);
	kick(f, 2); /* no such queue */
	reg_set(&f->r, AT_NOTIFY + 1, 1, 0);
	reg_set(&f->r, AT_NOTIFY + 0xffc, 4, 0);
	reg_set(&f->r, AT_NOTIFY, 1, 0xff);
	reg_set(&f->r, AT_NOTIFY, 4, 0xffffffff);
	assert_int_equal(get_status(&f->r), S_LIVE);
}

/* The window in configuration space, with the BAR nowhere. */
static void test_window(void **state)
{
	struct fixture *f = *state;
	struct pci_rig *r = &f->r;
	unsigned cap = find_virtio(f, VIRTIO_PCI_CAP_PCI_CFG);
	static const struct {
		uint32_t bar, at, size;
	} bad[] = {{1, 0, 4}, {0xff, 0, 4}, {0, BAR_SIZE, 4}, {0, UINT32_MAX - 3, 4}, {0, 2, 4},
		{0, 0, 3}, {0, 0, 0}, {0, 0, 8}, {0, 0, UINT32_MAX}};

	decode(r, SLOT, false);
	config_set(r, SLOT, cap + 12, 4, 1);
	config_set(r, SLOT, cap + 8, 4, VIRTIO_PCI_COMMON_STATUS);
	config_set(r, SLOT, cap + 16, 4, S_ACK);
	assert_int_equal(config_get(r, SLOT, cap + 16, 1), S_ACK);
	config_set(r, SLOT, cap + 12, 4, 4);
	config_set(r, SLOT, cap + 8, 4, AT_DEVICE + 4);
	assert_int_equal(config_get(r, SLOT, cap + 16, 4), 0x08070605);
	assert_int_equal(port_get(r, SLOT, cap + 16, 4), 0x08070605);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		config_set(r, SLOT, cap + 4, 1, bad[i].bar);
		config_set(r, SLOT, cap + 8, 4, bad[i].at);
		config_set(r, SLOT, cap + 12, 4, bad[i].size);
		config_set(r, SLOT, cap + 16, 4, 0x5a5a5a00 + i);
		assert_int_equal(config_get(r, SLOT, cap + 16, 4), 0x5a5a5a00 + i);
	}
	decode(r, SLOT, true);
	assert_int_equal(get_status(&f->r), S_ACK);
}

static void test_move(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	go_live(f, 0);
	place_bar(&f->r, SLOT, 0, BAR + 0x100000);
	assert_int_equal(get_status(&f->r), 0xff);
	assert_int_equal(mem_get_len(&f->r, BAR + 0x100000 + VIRTIO_PCI_COMMON_STATUS, 1), S_LIVE);
	offer_echo(&f->q[0], "moved");
	bus_write(&f->r.mmio, BAR + 0x100000 + AT_NOTIFY, "\0", 2);
	while (!driver_reap(&f->q[0], &id, &len))
		sched_yield();
	assert_int_equal(len, 5);
	decode(&f->r, SLOT, false); /* goes on without registers */
	assert_true(queue_live(&f->d.queues[0]));
}

static void save_state(struct fixture *f, struct stream_out *out)
{
	stream_out_init(out);
	virtio_pci_pause(f->pci);
	virtio_pci_save(f->pci, out);
	assert_int_equal(out->err, 0);
}

static int load_state(struct fixture *f, const struct stream_out *out)
{
	struct stream_in in;

	stream_in_init(&in, out->buf, out->len);
	return virtio_pci_load(f->pci, &in);
}

static void test_save_load(void **state)
{
	struct fixture *f = *state;
	struct stream_out out;

	use_vectors(&f->r, 2);
	go_live(f, 1ull << VIRTIO_RING_F_EVENT_IDX);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(echo_once(f, "before"), 6);
	await_sent(f, 1, 5);
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 1);
	assert_int_equal(echo_once(f, "pending"), 7);
	while (!reg_get(&f->r, AT_PENDING, 4))
		;
	f->d.saved = 0x1234;
	reg_set(&f->r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	save_state(f, &out);
	virtio_pci_reset(f->pci);
	assert_int_equal(
		reg_get(&f->r, VIRTIO_PCI_COMMON_Q_SELECT, 2), 0xffff); /* its BAR is nowhere */
	assert_int_equal(config_get(&f->r, SLOT, PCI_BASE_ADDRESS_0, 4), 0);
	assert_int_equal(f->d.saved, 0);
	assert_int_equal(load_state(f, &out), 0);
	assert_int_equal(f->d.saved, 0x1234);
	virtio_pci_resume(f->pci);
	assert_int_equal(get_status(&f->r), S_LIVE);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_SELECT, 2), 1);
	assert_int_equal(reg_get(&f->r, VIRTIO_PCI_COMMON_Q_MSIX, 2), 2);
	assert_int_equal(reg_get(&f->r, AT_PENDING, 4), 2);
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 0);
	assert_in_range(f->sent[1], 6, 7);
	assert_int_equal(echo_once(f, "after"), 5);
	while (f->sent[1] < 7)
		sched_yield();
	stream_out_finish(&out);
}

/* Every bit of a saved state flipped: an error or a device that works, and never anything else. */
static void test_bad_state(void **state)
{
	struct fixture *f = *state;
	struct stream_out out;
	unsigned refused = 0;

	go_live(f, 1ull << VIRTIO_RING_F_EVENT_IDX);
	save_state(f, &out);
	for (size_t bit = 0; bit < out.len * 8; bit++) {
		out.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (load_state(f, &out) < 0) {
			refused++;
			assert_int_equal(config_get(&f->r, SLOT, PCI_COMMAND, 2), 0);
			decode(&f->r, SLOT, true);
			place_bar(&f->r, SLOT, 0, BAR);
			assert_int_equal(get_status(&f->r), 0);
		}
		virtio_pci_resume(f->pci);
		kick(f, 0);
		out.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(refused > 2000);
	for (size_t len = 0; len < out.len; len++) {
		struct stream_in in;

		stream_in_init(&in, out.buf, len);
		assert_true(virtio_pci_load(f->pci, &in) < 0);
	}
	assert_int_equal(load_state(f, &out), 0);
	stream_out_finish(&out);
}

/* ---- Many threads at the registers and the BAR, as hostile vCPUs are ---- */

static atomic_bool storm_over;

static void *storm(void *arg)
{
	struct fixture *f = arg;
	uint32_t seed = (uint32_t)(uintptr_t)&seed;

	while (!storm_over) {
		seed = seed * 1664525u + 1013904223u;
		uint32_t reg = (seed >> 8) % 56, v = seed >> 24 & 0xf;

		if (seed >> 30 == 0)
			bus_write(&f->r.mmio, BAR + reg, &v, 1u << (seed >> 5) % 3);
		else if (seed >> 30 == 1)
			bus_read(&f->r.mmio, BAR + (seed >> 8) % BAR_SIZE, &v, 4);
		else if (seed >> 30 == 2)
			kick(f, v % 2);
		else
			config_set(&f->r, SLOT, (reg + 4) & ~3u, 4, seed & BAR);
		if (seed >> 20 == 0) {
			place_bar(&f->r, SLOT, 0, BAR);
			decode(&f->r, SLOT, true);
			if (seed & 1)
				use_vectors(&f->r, 2);
			go_live(f, 0);
		}
	}
	return NULL;
}

/* ---- Another owner ---- */

static void call_owner(void *arg, unsigned index)
{
	transport_ring(*(int *)arg);
}

static void not_broken(void *arg, const char *why)
{
	fail_msg("broken: %s", why);
}

static bool is_rung(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* Answers a request as the owner of queue 0, from its doorbell to its positions. */
static void serve_as_owner(struct fixture *f)
{
	struct queue_setup *s = f->d.setups[0];
	const struct queue_host host = {call_owner, not_broken, &s->call};
	struct queue q = {0};
	struct iovec iov[4];
	struct queue_elem e = {.iov = iov, .cap = 4};

	while (!is_rung(s->kick))
		sched_yield();
	assert_int_equal(queue_start(&q, f->mem, s, 0, &host), 0);
	assert_true(queue_pop(&q, &e));
	assert_int_equal(e.in_n, 1);
	queue_push(&q, &e, 7);
	queue_notify(&q);
	queue_stop(&q, s);
}

/* Queue 0 goes to an owner outside and is taken back, with what the driver does meanwhile. */
static void test_lend(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;
	uint64_t bits;

	f->d.lend = 1;
	use_vectors(&f->r, 2);
	go_live(f, 0);
	while (!f->d.starts)
		sched_yield();
	assert_int_equal(f->d.lent, 0);
	/* It is rung once in any case. */
	while (!is_rung(f->d.setups[0]->kick))
		sched_yield();
	offer_echo(&f->q[0], "owner");
	kick(f, 0);
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 1);
	serve_as_owner(f);
	assert_true(driver_reap(&f->q[0], &id, &len));
	assert_int_equal(len, 7);
	assert_int_equal(reg_get(&f->r, AT_PENDING, 4), 1 << 1);
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 0);
	await_sent(f, 1, 1);
	/* The other queue is the device's all the time. */
	kick(f, 1);
	while (!f->d.kicks)
		sched_yield();
	/* Taken back for a pause; what is signalled under a mask outlives that. */
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 1);
	transport_ring(f->d.setups[0]->call);
	virtio_pci_pause(f->pci);
	assert_int_equal(f->d.setups[0]->call, -1);
	assert_int_equal(f->d.setups[0]->next_used, 1);
	msix_pending_read(&f->pci->msix, 0, &bits, 8);
	assert_int_equal(bits, 1 << 1);
	f->d.lend = 0;
	virtio_pci_resume(f->pci);
	assert_int_equal(echo_once(f, "monitor"), 7);
	reg_set(&f->r, AT_TABLE + 16 + 12, 4, 0);
	while (!f->sent[1])
		sched_yield();
	/* And again, after a reset. */
	f->d.lend = 2;
	set_status(&f->r, 0);
	use_vectors(&f->r, 2);
	go_live(f, 0);
	assert_int_equal(f->d.lent, 0);
	assert_int_equal(f->d.setups[1]->next_avail, 0);
	set_status(&f->r, 0);
}

static void restart_echo(void *arg)
{
	virtio_restart(&((struct fixture *)arg)->d.dev);
}

/* The device chooses again while the driver is at it. */
static void test_lend_changes(void **state)
{
	struct fixture *f = *state;

	f->d.lend = 1;
	f->d.unwilling = true;
	use_vectors(&f->r, 2);
	loop_call(f->io, restart_echo, f); /* nothing is started yet */
	go_live(f, 0);
	assert_int_equal(echo_once(f, "none"), 4);
	assert_int_equal(f->d.lent, 0);
	f->d.unwilling = false;
	loop_call(f->io, restart_echo, f);
	assert_int_equal(f->d.starts, 2);
	offer_echo(&f->q[0], "owner");
	kick(f, 0);
	serve_as_owner(f);
	assert_int_equal(f->q[0].used->idx, 2);
	f->q[0].used_next++;
	f->d.lend = 0;
	loop_call(f->io, restart_echo, f);
	assert_int_equal(echo_once(f, "device"), 6);
	assert_int_equal(get_status(&f->r), S_LIVE);
}

static void test_lend_refused(void **state)
{
	struct fixture *f = *state;

	f->d.lend = 1;
	go_live(f, 0);
	assert_int_equal(echo_once(f, "mine"), 4);
	assert_int_equal(f->d.lent, -ENOTSUP);
}

static void test_storm(void **state)
{
	struct fixture *f = *state;
	pthread_t t[3];
	uint64_t end = now_ns() + NSEC_PER_SEC / 2;

	storm_over = false;
	f->d.lend = 1;
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, storm, f), 0);
	while (now_ns() < end) {
		virtio_pci_pause(f->pci);
		virtio_pci_resume(f->pci);
	}
	storm_over = true;
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	place_bar(&f->r, SLOT, 0, BAR);
	decode(&f->r, SLOT, true);
	set_status(&f->r, 0);
	assert_int_equal(get_status(&f->r), 0);
	assert_int_equal(f->d.starts, f->d.stops);
	assert_true(f->d.starts > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_capabilities, setup, teardown),
		cmocka_unit_test_setup_teardown(test_widths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_features, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vectors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_polling, setup, teardown),
		cmocka_unit_test_setup_teardown(test_window, setup, teardown),
		cmocka_unit_test_setup_teardown(test_move, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lend_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lend_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_storm, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
