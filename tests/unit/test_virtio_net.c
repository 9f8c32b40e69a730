// SPDX-License-Identifier: MIT
// virtio-net through its registers, over socket pairs whose other ends are ours.
#include "tests/unit/mmio_driver.h"

#include "base/log.h"
#include "base/stream.h"
#include "virtio/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define HDR sizeof(struct virtio_net_hdr_v1)
#define MTU 9000u
#define BIG (HDR + NET_FRAME_MAX)
#define DATA(slot) (0x200000u + 0x20000u * (slot)) /* guest addresses of buffers, 128 KiB each */
#define ACK 0x1f0000u
#define COMMAND 0x1f0100u
#define CONFIG(field) (VIRTIO_MMIO_CONFIG + offsetof(struct virtio_net_config, field))
#define F(name) (1ull << VIRTIO_NET_F_##name)
#define CTRL_ALL                                                                                   \
	(F(CTRL_VQ) | F(CTRL_RX) | F(CTRL_RX_EXTRA) | F(CTRL_VLAN) | F(CTRL_MAC_ADDR) |            \
		F(GUEST_ANNOUNCE) | F(MAC) | F(STATUS))
#define SPREAD (F(CSUM) | F(HOST_TSO4) | F(GUEST_CSUM) | F(GUEST_TSO4))

static const uint8_t own_mac[6] = {2, 0, 0, 0, 0, 1};

static struct rig rig;
static int peer[NET_PAIRS_MAX]; /* the other ends */
static unsigned events;
static char last_event[96];

static void event(void *arg, const char *name, const char *what)
{
	assert_string_equal(name, "net0");
	snprintf(last_event, sizeof(last_event), "%s", what);
	events++;
}

static struct net_end end_given; /* what is to be in it beside its ends */
static int pcap_file;
static unsigned pcap_room;

static void create(unsigned pairs, uint64_t offers)
{
	struct virtio_net_args args = {.name = "net0",
		.end = {.pairs = pairs, .offers = offers, .pcap = end_given.pcap},
		.mtu = MTU,
		.link_up = true,
		.event = event};
	struct virtio_device *dev;

	memcpy(args.mac, own_mac, 6);
	for (unsigned i = 0; i < pairs; i++) {
		int ends[2];

		assert_int_equal(
			socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends),
			0);
		args.end.fd[i] = ends[0];
		peer[i] = ends[1];
	}
	events = 0;
	rig_init(&rig);
	assert_int_equal(virtio_net_create(&dev, &args), 0);
	rig_attach(&rig, dev);
	log_set_level(LOG_LEVEL_ERROR);
}

static int setup(void **state)
{
	create(1, SPREAD);
	return 0;
}

static int setup_plain(void **state)
{
	create(1, 0);
	return 0;
}

static int setup_two(void **state)
{
	create(2, 0);
	return 0;
}

static int teardown(void **state)
{
	rig_finish(&rig);
	virtio_net_destroy(rig.dev);
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
		if (peer[i] > 0)
			close(peer[i]);
		peer[i] = 0;
	}
	return 0;
}

/* ---- what a test does ---- */

static void *at(uint64_t addr, size_t len)
{
	return mem_get(rig.mem, addr, len);
}

/* Bytes that tell where they are. */
static void fill(uint8_t *to, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(i * 7 + (i >> 8) * 31 + seed);
}

struct packet {
	struct virtio_net_hdr_v1 hdr;
	uint8_t frame[NET_FRAME_MAX + 64];
};

/* A frame for the guest, of so many bytes: to a group of two that nobody filters by default. */
static void arrive(unsigned pair, size_t len, unsigned seed)
{
	static struct packet p;

	p = (struct packet){0};
	fill(p.frame, len, seed);
	assert_int_equal(send(peer[pair], &p, HDR + len, 0), HDR + len);
}

static void arrive_to(const uint8_t mac[6], int vlan)
{
	struct packet p = {0};

	memcpy(p.frame, mac, 6);
	put_le16(p.frame + 12, vlan < 0 ? 0x0008 : 0x0081);
	p.frame[14] = (uint8_t)(vlan >> 8);
	p.frame[15] = (uint8_t)vlan;
	assert_int_equal(send(peer[0], &p, HDR + 60, 0), HDR + 60);
}

/* Waits for a packet from the guest; -1: none came within ms. */
static ssize_t leave(unsigned pair, struct packet *p, int ms)
{
	struct pollfd f = {.fd = peer[pair], .events = POLLIN};

	return poll(&f, 1, ms) > 0 ? recv(peer[pair], p, sizeof(*p), 0) : -1;
}

static void give(unsigned queue, uint16_t desc, uint64_t addr, uint32_t len)
{
	driver_desc(&rig.q[queue], desc, addr, len, VRING_DESC_F_WRITE);
	driver_offer(&rig.q[queue], desc);
}

static void post(unsigned queue, uint16_t desc, const struct virtio_net_hdr_v1 *h, size_t frame)
{
	uint64_t addr = DATA(desc);
	uint8_t *to = at(addr, HDR + frame);

	memcpy(to, h, HDR);
	fill(to + HDR, frame, desc);
	driver_desc(&rig.q[queue], desc, addr, (uint32_t)(HDR + frame), 0);
	driver_offer(&rig.q[queue], desc);
	kick(&rig, queue);
}

static void reap(unsigned queue, uint32_t id, uint32_t len)
{
	uint32_t got_id, got_len;

	wait_used(&rig, queue, &got_id, &got_len);
	assert_int_equal(got_id, id);
	assert_int_equal(got_len, len);
}

static void check_bytes(const uint8_t *got, size_t len, unsigned seed)
{
	static uint8_t want[NET_FRAME_MAX];

	fill(want, len, seed);
	assert_memory_equal(got, want, len);
}

/* A call into the loop: what has come in before has been dealt with. */
static void nothing(void *arg)
{
}

static void count(void *arg)
{
	virtio_net_count(rig.dev, arg);
}

static struct virtio_net_counters counters(void)
{
	struct virtio_net_counters c;

	loop_call(rig.io, count, &c);
	return c;
}

/* Waits until so many were dropped. */
static void await_drops(enum net_drop why, uint64_t n)
{
	for (unsigned i = 0; counters().port.drops[why] < n && i < 5000; i++)
		poll(NULL, 0, 1);
	assert_int_equal(counters().port.drops[why], n);
}

/* ---- the device ---- */

static uint64_t offered(void)
{
	uint64_t low;

	reg_write(&rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	low = reg_read(&rig, VIRTIO_MMIO_DEVICE_FEATURES);
	reg_write(&rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	return low | (uint64_t)reg_read(&rig, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
}

static uint16_t status_in_config(void)
{
	return (uint16_t)(reg_read(&rig, CONFIG(status) & ~3u) >> 8 * (CONFIG(status) & 3));
}

static void test_describes_itself(void **state)
{
	const uint64_t want = CTRL_ALL | F(MRG_RXBUF) | F(MTU) | SPREAD;

	assert_int_equal(reg_read(&rig, VIRTIO_MMIO_DEVICE_ID), 1);
	assert_int_equal(offered() & want, want);
	assert_int_equal(
		offered() & (F(MQ) | F(HOST_TSO6) | F(GUEST_UFO) | F(CTRL_GUEST_OFFLOADS)), 0);
	assert_int_equal(reg_read(&rig, CONFIG(mac)), 0x00000002);
	assert_int_equal(reg_read(&rig, CONFIG(mac) + 4) & 0xffff, 0x0100);
	assert_int_equal(status_in_config(), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(reg_read(&rig, CONFIG(max_virtqueue_pairs)) & 0xffff, 1);
	assert_int_equal(reg_read(&rig, CONFIG(mtu) & ~3u) >> 16, MTU);
}

static void test_send(void **state)
{
	struct virtio_net_hdr_v1 h = {
		.flags = 0xfe, .hdr_len = 99, .csum_start = 7, .num_buffers = 5};
	const struct virtio_net_hdr_v1 plain = {0};
	static struct packet p;
	uint64_t addr = DATA(1);

	go_live(&rig, SPREAD, 16);
	post(1, 0, &h, 60);
	assert_int_equal(leave(0, &p, 5000), HDR + 60);
	assert_memory_equal(&p.hdr, &plain, HDR);
	check_bytes(p.frame, 60, 0);
	reap(1, 0, 0);
	/* The largest, in pieces that begin within the header. */
	h = (struct virtio_net_hdr_v1){.flags = 1,
		.gso_type = 1,
		.gso_size = 1400,
		.hdr_len = 54,
		.csum_start = 34,
		.csum_offset = 16};
	memcpy(at(addr, HDR), &h, HDR);
	fill(at(addr + HDR, NET_FRAME_MAX), NET_FRAME_MAX, 3);
	driver_desc(&rig.q[1], 1, addr, 5, VRING_DESC_F_NEXT);
	driver_desc(&rig.q[1], 2, addr + 5, 100, VRING_DESC_F_NEXT);
	driver_desc(&rig.q[1], 3, addr + 105, BIG - 105, 0);
	driver_offer(&rig.q[1], 1);
	kick(&rig, 1);
	assert_int_equal(leave(0, &p, 5000), BIG);
	assert_memory_equal(&p.hdr, &h, HDR);
	check_bytes(p.frame, NET_FRAME_MAX, 3);
	reap(1, 1, 0);
	assert_int_equal(counters().port.tx.packets, 2);
	assert_int_equal(counters().port.tx.bytes, 60 + NET_FRAME_MAX);
}

/* Used, counted, and the next one goes. */
static void test_bad_headers(void **state)
{
	static const struct {
		struct virtio_net_hdr_v1 h;
		size_t frame;
	} bad[] = {
		{{0}, 0},
		{{0}, 13},
		{{0}, NET_FRAME_MAX + 1},
		{{.flags = 1, .csum_start = 58, .csum_offset = 1}, 60},
		{{.flags = 1, .csum_start = 65535, .csum_offset = 65535}, 60},
		{{.gso_type = 1, .gso_size = 100, .hdr_len = 54}, 60},
		{{.flags = 1, .gso_type = 1, .gso_size = 0, .hdr_len = 54}, 60},
		{{.flags = 1, .gso_type = 1, .gso_size = 100, .hdr_len = 61}, 60},
		{{.flags = 1, .gso_type = 1 | 0x80, .gso_size = 100, .hdr_len = 54}, 60},
		{{.flags = 1, .gso_type = 4, .gso_size = 100, .hdr_len = 54}, 60},
		{{.flags = 1, .gso_type = 3, .gso_size = 100, .hdr_len = 54}, 60},
		{{.flags = 1, .gso_type = 5, .gso_size = 100, .hdr_len = 54}, 60},
		{{.flags = 1, .gso_type = 2, .gso_size = 100, .hdr_len = 54}, 60},
		{{.flags = 1, .gso_type = 0x7f, .gso_size = 100, .hdr_len = 54}, 60},
	};
	const struct virtio_net_hdr_v1 good = {0};
	static struct packet p;

	go_live(&rig, SPREAD, 16);
	for (uint16_t i = 0; i < ARRAY_SIZE(bad); i++) {
		post(1, i, &bad[i].h, bad[i].frame);
		reap(1, i, 0);
		assert_int_equal(counters().port.drops[NET_DROP_BAD], i + 1);
	}
	driver_desc(&rig.q[1], 0, DATA(0), HDR - 1, 0);
	driver_offer(&rig.q[1], 0);
	kick(&rig, 1);
	reap(1, 0, 0);
	/* Nothing to be read at all. */
	give(1, 1, DATA(1), 64);
	kick(&rig, 1);
	reap(1, 1, 0);
	post(1, 2, &good, 14);
	assert_int_equal(leave(0, &p, 5000), HDR + 14);
	assert_int_equal(leave(0, &p, 0), -1);
	assert_int_equal(counters().port.drops[NET_DROP_BAD], ARRAY_SIZE(bad) + 2);
	assert_int_equal(get_status(&rig) & S_BROKEN, 0);
}

static void test_checksum_not_negotiated(void **state)
{
	const struct virtio_net_hdr_v1 h = {.flags = 1, .csum_start = 14, .csum_offset = 6};

	go_live(&rig, 0, 16);
	post(1, 0, &h, 60);
	reap(1, 0, 0);
	assert_int_equal(counters().port.drops[NET_DROP_BAD], 1);
}

/* The other end takes no more for a while: packets wait in the queue, in order. */
static void test_send_waits(void **state)
{
	enum { N = 64 };
	const struct virtio_net_hdr_v1 h = {0};
	static struct packet p;
	uint64_t addr = DATA(0);
	int small = 4096;

	setsockopt(peer[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	go_live(&rig, 0, N);
	memcpy(at(addr, HDR), &h, HDR);
	for (uint16_t i = 0; i < N; i++) {
		uint64_t frame = DATA(1) + i * 0x4000u;

		fill(at(frame, 9000), 9000, i);
		driver_desc(&rig.q[1], i, frame, 9000, 0);
	}
	/* Headers and frames need two descriptors: the frames' own bytes are the header as well. */
	for (uint16_t i = 0; i < N; i++) {
		memcpy(at(DATA(1) + i * 0x4000u, HDR), &h, HDR);
		driver_offer(&rig.q[1], i);
	}
	kick(&rig, 1);
	loop_call(rig.io, nothing, NULL);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(leave(0, &p, 5000), 9000);
		assert_int_equal(p.frame[0], (uint8_t)(HDR * 7 + i));
	}
	for (uint16_t i = 0; i < N; i++)
		reap(1, i, 0);
	assert_int_equal(counters().port.tx.packets, N);
	assert_int_equal(counters().port.drops[NET_DROP_REFUSED], 0);
}

/* ---- received ---- */

static uint16_t buffers_of(uint64_t addr)
{
	struct virtio_net_hdr_v1 h;

	memcpy(&h, at(addr, HDR), HDR);
	return h.num_buffers;
}

static void test_receive(void **state)
{
	go_live(&rig, F(MRG_RXBUF), 16);
	for (uint16_t i = 0; i < 4; i++)
		give(0, i, DATA(i), 2048);
	kick(&rig, 0);
	arrive(0, 60, 1);
	reap(0, 0, HDR + 60);
	assert_int_equal(buffers_of(DATA(0)), 1);
	check_bytes(at(DATA(0) + HDR, 60), 60, 1);
	/* Exactly one buffer, then one byte more. */
	arrive(0, 2048 - HDR, 2);
	reap(0, 1, 2048);
	assert_int_equal(buffers_of(DATA(1)), 1);
	arrive(0, 2049 - HDR, 3);
	reap(0, 2, 2048);
	assert_int_equal(rig.q[0].used->idx, 4); /* both at once */
	reap(0, 3, 1);
	assert_int_equal(buffers_of(DATA(2)), 2);
	check_bytes(at(DATA(2) + HDR, 2048 - HDR), 2048 - HDR, 3);
	assert_int_equal(counters().port.rx.packets, 3);
	assert_int_equal(counters().port.rx.bytes, 60 + 2048 - HDR + 2049 - HDR);
}

/* Round and round, with packets of all sizes over buffers of all sizes. */
static void test_receive_wraps(void **state)
{
	enum { SIZE = 16, ROUNDS = 2000 };
	static uint8_t got[BIG];
	uint32_t seed = 1, id, len, lens[SIZE];
	uint16_t offered_to = 0;

	go_live(&rig, F(MRG_RXBUF) | F(GUEST_CSUM) | F(GUEST_TSO4), SIZE);
	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t frame, n = 0;

		for (; (uint16_t)(offered_to - rig.q[0].used_next) < SIZE; offered_to++) {
			seed = seed * 1664525 + 1013904223;
			lens[offered_to % SIZE] = 1 + (seed >> 8) % 12000;
			give(0, offered_to % SIZE, DATA(offered_to % SIZE),
				lens[offered_to % SIZE]);
		}
		kick(&rig, 0);
		seed = seed * 1664525 + 1013904223;
		frame = NET_FRAME_MIN + (seed >> 8) % 8000;
		arrive(0, frame, round);
		do {
			wait_used(&rig, 0, &id, &len);
			assert_true(len <= lens[id]);
			memcpy(got + n, at(DATA(id), len), len);
			n += len;
		} while (n < HDR + frame);
		assert_int_equal(n, HDR + frame);
		check_bytes(got + HDR, frame, round);
	}
	assert_int_equal(counters().port.rx.packets, ROUNDS);
}

static void test_receive_one_by_one(void **state)
{
	uint16_t i = 0;

	go_live(&rig, 0, 16);
	driver_desc(&rig.q[0], 0, DATA(0), 5, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
	driver_desc(&rig.q[0], 1, DATA(0) + 5, 100, VRING_DESC_F_WRITE);
	driver_offer(&rig.q[0], 0);
	kick(&rig, 0);
	arrive(0, 94, 1); /* one more than there is room for */
	await_drops(NET_DROP_ROOM, 1);
	arrive(0, 93, 2);
	reap(0, i, HDR + 93);
	assert_int_equal(buffers_of(DATA(0)), 1);
	check_bytes(at(DATA(0) + HDR, 93), 93, 2);
	/* A buffer that no packet fits is kept; what comes is dropped. */
	give(0, 2, DATA(2), 4);
	kick(&rig, 0);
	arrive(0, 60, 3);
	await_drops(NET_DROP_ROOM, 2);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/* No buffers: what comes waits where it is, and costs nothing. */
static void test_no_buffers(void **state)
{
	uint64_t before;

	go_live(&rig, F(MRG_RXBUF), 16);
	for (unsigned i = 0; i < 4; i++)
		arrive(0, 100 + i, i);
	loop_call(rig.io, nothing, NULL);
	before = cpu_ns();
	poll(NULL, 0, 200);
	assert_true(cpu_ns() - before < 50 * 1000000ull);
	assert_int_equal(rig.q[0].used->idx, 0);
	for (uint16_t i = 0; i < 4; i++) {
		give(0, i, DATA(i), 2048);
		kick(&rig, 0);
		reap(0, i, (uint32_t)HDR + 100 + i);
		check_bytes(at(DATA(i) + HDR, 100u + i), 100u + i, i);
	}
}

/* A packet for which there are not enough buffers yet is whole once there are. */
static void test_waits_for_room(void **state)
{
	go_live(&rig, F(MRG_RXBUF), 16);
	give(0, 0, DATA(0), 1000);
	kick(&rig, 0);
	arrive(0, 2988, 7);
	arrive(0, 60, 8);
	loop_call(rig.io, nothing, NULL);
	give(0, 1, DATA(0) + 1000, 1000);
	kick(&rig, 0);
	loop_call(rig.io, nothing, NULL);
	poll(NULL, 0, 20);
	assert_int_equal(rig.q[0].used->idx, 0);
	give(0, 2, DATA(0) + 2000, 1000);
	kick(&rig, 0);
	for (unsigned i = 0; i < 3; i++)
		reap(0, i, 1000);
	assert_int_equal(buffers_of(DATA(0)), 3);
	check_bytes(at(DATA(0) + HDR, 2988), 2988, 7);
	give(0, 3, DATA(3), 1000);
	kick(&rig, 0);
	reap(0, 3, HDR + 60);
	/* All of the ring, and still too small. */
	assert_int_equal(counters().port.drops[NET_DROP_ROOM], 0);
	for (uint16_t i = 0; i < 16; i++)
		give(0, i, DATA(i), 100);
	kick(&rig, 0);
	arrive(0, 1600, 9);
	await_drops(NET_DROP_ROOM, 1);
	arrive(0, 1588, 10);
	for (unsigned i = 0; i < 16; i++)
		reap(0, i, 100);
	/* Longer than any packet that was agreed on. */
	give(0, 0, DATA(0), 100);
	kick(&rig, 0);
	arrive(0, MTU + 19, 9);
	await_drops(NET_DROP_ROOM, 2);
}

/* Nor where it is the last that is served in a turn: the guest is asked for more at once. */
static void test_waits_for_room_last(void **state)
{
	const uint16_t turn = 64;

	go_live(&rig, F(MRG_RXBUF), 128);
	for (unsigned i = 0; i < turn - 1u; i++)
		arrive(0, 60, i);
	arrive(0, 2000, turn);
	loop_call(rig.io, nothing, NULL);
	for (uint16_t i = 0; i < turn; i++)
		give(0, i, DATA(i), 1000);
	kick(&rig, 0);
	for (uint16_t i = 0; i < turn - 1u; i++)
		reap(0, i, HDR + 60);
	poll(NULL, 0, 20);
	loop_call(rig.io, nothing, NULL);
	assert_false(rig.q[0].used->flags & VRING_USED_F_NO_NOTIFY);
	give(0, turn, DATA(turn), 2000);
	kick(&rig, 0);
	reap(0, turn - 1, 1000);
	reap(0, turn, (uint32_t)HDR + 1000);
}

static void test_short_packets(void **state)
{
	go_live(&rig, F(MRG_RXBUF), 16);
	give(0, 0, DATA(0), 2048);
	kick(&rig, 0);
	assert_int_equal(send(peer[0], "x", 1, 0), 1);
	arrive(0, 0, 0);
	arrive(0, 13, 0);
	arrive(0, 14, 5);
	reap(0, 0, HDR + 14);
	assert_int_equal(counters().port.drops[NET_DROP_BAD], 3);
}

static void test_buffer_not_writable(void **state)
{
	go_live(&rig, F(MRG_RXBUF), 16);
	driver_desc(&rig.q[0], 0, DATA(0), 100, 0);
	driver_offer(&rig.q[0], 0);
	kick(&rig, 0);
	loop_call(rig.io, nothing, NULL);
	wait_interrupt(&rig, 5000);
	assert_true(get_status(&rig) & S_BROKEN);
	arrive(0, 60, 0);
	set_status(&rig, 0);
	go_live(&rig, F(MRG_RXBUF), 16);
	give(0, 0, DATA(0), 2048);
	kick(&rig, 0);
	reap(0, 0, HDR + 60);
}

/* ---- control ---- */

static uint8_t command(unsigned queue, uint8_t class, uint8_t cmd, const void *data, size_t len)
{
	uint8_t head[2] = {class, cmd}, answer = 0xee;
	uint32_t id, used;

	mem_write(rig.mem, COMMAND, head, 2);
	mem_write(rig.mem, COMMAND + 2, data, len);
	mem_write(rig.mem, ACK, &answer, 1);
	driver_desc(&rig.q[queue], 0, COMMAND, (uint32_t)(2 + len), VRING_DESC_F_NEXT);
	driver_desc(&rig.q[queue], 1, ACK, 1, VRING_DESC_F_WRITE);
	driver_offer(&rig.q[queue], 0);
	kick(&rig, queue);
	wait_used(&rig, queue, &id, &used);
	assert_int_equal(used, 1);
	mem_read(rig.mem, ACK, &answer, 1);
	return answer;
}

#define OK VIRTIO_NET_OK
#define ERR VIRTIO_NET_ERR

static void test_commands(void **state)
{
	static const struct {
		uint8_t class, cmd, len, answer;
		uint8_t data[40];
	} t[] = {
		{VIRTIO_NET_CTRL_RX, 0, 1, OK, {1}},
		{VIRTIO_NET_CTRL_RX, 5, 1, OK, {1}},
		{VIRTIO_NET_CTRL_RX, 6, 1, ERR, {1}},
		{VIRTIO_NET_CTRL_RX, 0, 0, ERR, {0}},
		{VIRTIO_NET_CTRL_RX, 0, 2, ERR, {0}},
		{VIRTIO_NET_CTRL_MAC, 0, 8, OK, {0}},
		{VIRTIO_NET_CTRL_MAC, 0, 7, ERR, {0}},
		{VIRTIO_NET_CTRL_MAC, 0, 9, ERR, {0}},
		{VIRTIO_NET_CTRL_MAC, 0, 14, OK, {1}},
		{VIRTIO_NET_CTRL_MAC, 0, 13, ERR, {1}},
		{VIRTIO_NET_CTRL_MAC, 0, 14, ERR, {2}},
		{VIRTIO_NET_CTRL_MAC, 0, 14, ERR, {0xff, 0xff, 0xff, 0xff}},
		{VIRTIO_NET_CTRL_MAC, 0, 14, ERR, {0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
		{VIRTIO_NET_CTRL_MAC, 1, 6, OK, {2, 0, 0, 0, 0, 1}},
		{VIRTIO_NET_CTRL_MAC, 1, 5, ERR, {2}},
		{VIRTIO_NET_CTRL_MAC, 2, 6, ERR, {2}},
		{VIRTIO_NET_CTRL_VLAN, 0, 2, OK, {0xff, 0x0f}},
		{VIRTIO_NET_CTRL_VLAN, 1, 2, OK, {0xff, 0x0f}},
		{VIRTIO_NET_CTRL_VLAN, 0, 2, ERR, {0x00, 0x10}},
		{VIRTIO_NET_CTRL_VLAN, 0, 1, ERR, {0}},
		{VIRTIO_NET_CTRL_VLAN, 2, 2, ERR, {0}},
		{VIRTIO_NET_CTRL_ANNOUNCE, 0, 0, OK, {0}},
		{VIRTIO_NET_CTRL_ANNOUNCE, 1, 0, ERR, {0}},
		{VIRTIO_NET_CTRL_ANNOUNCE, 0, 1, ERR, {0}},
		{VIRTIO_NET_CTRL_MQ, 0, 2, ERR, {1}},
		{VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, 8, ERR, {0}},
		{6, 0, 1, ERR, {0}},
		{255, 255, 40, ERR, {0}},
	};

	go_live(&rig, CTRL_ALL, 16);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		uint8_t answer = command(2, t[i].class, t[i].cmd, t[i].data, t[i].len);

		if (answer != t[i].answer)
			fail_msg("command %u.%u of case %u: %u", t[i].class, t[i].cmd, i, answer);
	}
	/* Not even a class, and no room for the answer. */
	driver_desc(&rig.q[2], 0, COMMAND, 1, VRING_DESC_F_NEXT);
	driver_desc(&rig.q[2], 1, ACK, 64, VRING_DESC_F_WRITE);
	driver_offer(&rig.q[2], 0);
	kick(&rig, 2);
	reap(2, 0, 1);
	assert_int_equal(*(uint8_t *)at(ACK, 1), ERR);
	driver_desc(&rig.q[2], 0, COMMAND, 2, 0);
	driver_offer(&rig.q[2], 0);
	kick(&rig, 2);
	reap(2, 0, 0);
	assert_int_equal(get_status(&rig) & S_BROKEN, 0);
}

/* What was not negotiated cannot be commanded. */
static void test_commands_not_negotiated(void **state)
{
	const uint8_t data[8] = {1};

	go_live(&rig, F(CTRL_VQ) | F(CTRL_RX), 16);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, 1, data, 1), OK);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, 2, data, 1), ERR);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_MAC, 1, data, 6), ERR);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_VLAN, 0, data, 2), ERR);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_ANNOUNCE, 0, data, 0), ERR);
}

/* Sends one that is to be filtered or not, then one that never is, which tells. */
static bool passes(const uint8_t mac[6], int vlan)
{
	uint64_t before = counters().port.drops[NET_DROP_FILTERED];
	bool passed;

	arrive_to(mac, vlan);
	arrive_to(own_mac, -1);
	give(0, 0, DATA(0), 2048);
	kick(&rig, 0);
	reap(0, 0, HDR + 60);
	passed = memcmp(at(DATA(0) + HDR, 6), own_mac, 6) != 0 || vlan >= 0;
	if (counters().port.drops[NET_DROP_FILTERED] != before) {
		assert_int_equal(counters().port.drops[NET_DROP_FILTERED], before + 1);
		return false;
	}
	assert_true(passed || !memcmp(mac, own_mac, 6));
	give(0, 0, DATA(0), 2048);
	kick(&rig, 0);
	reap(0, 0, HDR + 60);
	return true;
}

static void test_filter(void **state)
{
	static const uint8_t other[6] = {2, 0, 0, 0, 0, 2}, group[6] = {1, 0, 0x5e, 0, 0, 1},
			     group2[6] = {1, 0, 0x5e, 0, 0, 2},
			     all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const uint8_t on = 1, off = 0;
	uint8_t table[8 + 12] = {1}, many[8 + 65 * 6] = {0};

	go_live(&rig, CTRL_ALL | F(MRG_RXBUF), 16);
	assert_true(passes(other, -1));
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1), OK);
	assert_false(passes(other, -1));
	assert_false(passes(group, -1));
	assert_true(passes(all, -1));
	assert_false(passes(own_mac, 5));
	assert_int_equal(command(2, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, "\5\0", 2), OK);
	assert_true(passes(own_mac, 5));
	assert_false(passes(own_mac, 6));
	memcpy(table + 4, other, 6);
	table[10] = 1;
	memcpy(table + 14, group, 6);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table,
				 sizeof(table)),
		OK);
	assert_true(passes(other, -1));
	assert_true(passes(group, -1));
	assert_false(passes(group2, -1));
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1), OK);
	assert_true(passes(group2, -1));
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOMULTI, &on, 1), OK);
	assert_false(passes(group, -1));
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, &on, 1), OK);
	assert_false(passes(all, -1));
	/* More than the table has room for: all of that kind. */
	many[4] = 65;
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOMULTI, &off, 1), OK);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &off, 1), OK);
	assert_int_equal(
		command(2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, many, sizeof(many)),
		OK);
	assert_false(passes(other, -1));
	assert_true(passes(group2, -1));
	/* A reset forgets all of it. */
	set_status(&rig, 0);
	go_live(&rig, F(MRG_RXBUF), 16);
	assert_true(passes(other, -1));
	assert_true(passes(own_mac, 6));
}

static void test_address(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};
	const uint8_t off = 0;

	go_live(&rig, CTRL_ALL | F(MRG_RXBUF), 16);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1), OK);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6), OK);
	assert_int_equal(reg_read(&rig, CONFIG(mac) + 4) & 0xffff, 0x0900);
	arrive_to(own_mac, -1);
	arrive_to(mac, -1);
	give(0, 0, DATA(0), 2048);
	kick(&rig, 0);
	reap(0, 0, HDR + 60);
	assert_memory_equal(at(DATA(0) + HDR, 6), mac, 6);
	set_status(&rig, 0);
	assert_int_equal(reg_read(&rig, CONFIG(mac) + 4) & 0xffff, 0x0100);
}

/* Without the filter, which is another feature's, everything still arrives. */
static void test_address_alone(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9}, table[8] = {0};
	const uint8_t off = 0;

	go_live(&rig, F(CTRL_VQ) | F(CTRL_MAC_ADDR) | F(MRG_RXBUF), 16);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6), OK);
	assert_int_equal(reg_read(&rig, CONFIG(mac) + 4) & 0xffff, 0x0900);
	assert_int_equal(
		command(2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table, 8), ERR);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1), ERR);
	arrive_to(own_mac, -1);
	give(0, 0, DATA(0), 2048);
	kick(&rig, 0);
	reap(0, 0, HDR + 60);
}

/* ---- several queues ---- */

static void test_pairs(void **state)
{
	const struct virtio_net_hdr_v1 h = {0};
	static struct packet p;
	uint8_t two[2] = {2}, three[2] = {3}, none[2] = {0};

	assert_true(offered() & F(MQ));
	assert_int_equal(reg_read(&rig, CONFIG(max_virtqueue_pairs)) & 0xffff, 2);
	go_live(&rig, F(MRG_RXBUF) | F(MQ) | F(CTRL_VQ), 16);
	give(2, 0, DATA(0), 2048);
	kick(&rig, 2);
	post(3, 1, &h, 60);
	arrive(1, 60, 4);
	assert_int_equal(leave(1, &p, 50), -1);
	assert_int_equal(rig.q[2].used->idx, 0);
	assert_int_equal(command(4, VIRTIO_NET_CTRL_MQ, 0, three, 2), ERR);
	assert_int_equal(command(4, VIRTIO_NET_CTRL_MQ, 0, none, 2), ERR);
	assert_int_equal(command(4, VIRTIO_NET_CTRL_MQ, 0, two, 1), ERR);
	assert_int_equal(command(4, VIRTIO_NET_CTRL_MQ, 0, two, 2), OK);
	reap(2, 0, HDR + 60);
	assert_int_equal(leave(1, &p, 5000), HDR + 60);
	check_bytes(p.frame, 60, 1);
}

/* Where the driver knows of one pair only, the control queue is the third. */
static void test_pairs_unknown(void **state)
{
	const uint8_t on = 1;

	go_live(&rig, F(CTRL_VQ) | F(CTRL_RX), 16);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, 0, &on, 1), OK);
}

/* ---- the link ---- */

static void set_link(void *arg)
{
	virtio_net_set_link(rig.dev, *(bool *)arg);
}

static void test_link(void **state)
{
	const struct virtio_net_hdr_v1 h = {0};
	static struct packet p;
	bool up = false;

	go_live(&rig, F(STATUS) | F(MRG_RXBUF), 16);
	give(0, 0, DATA(0), 2048);
	kick(&rig, 0);
	loop_call(rig.io, set_link, &up);
	assert_int_equal(
		wait_interrupt(&rig, 5000) & VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(status_in_config(), 0);
	post(1, 0, &h, 60);
	reap(1, 0, 0);
	assert_int_equal(leave(0, &p, 0), -1);
	arrive(0, 60, 1);
	arrive(0, 60, 2);
	loop_call(rig.io, nothing, NULL);
	assert_int_equal(rig.q[0].used->idx, 0);
	up = true;
	loop_call(rig.io, set_link, &up);
	assert_int_equal(status_in_config(), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(counters().port.drops[NET_DROP_LINK], 3);
	arrive(0, 60, 3);
	reap(0, 0, HDR + 60);
	check_bytes(at(DATA(0) + HDR, 60), 60, 3);
	post(1, 1, &h, 60);
	assert_int_equal(leave(0, &p, 5000), HDR + 60);
}

static void look_at_link(void *arg)
{
	*(enum virtio_net_link *)arg = virtio_net_link(rig.dev);
}

static enum virtio_net_link link_now(void)
{
	enum virtio_net_link link;

	loop_call(rig.io, look_at_link, &link);
	return link;
}

static void lose(void *arg)
{
	virtio_net_lose(rig.dev);
}

/* Before its descriptor says so, by who knows why. */
static void test_other_end_is_lost(void **state)
{
	const struct virtio_net_hdr_v1 h = {0};

	go_live(&rig, F(STATUS) | F(MRG_RXBUF), 16);
	assert_int_equal(link_now(), VIRTIO_NET_UP);
	loop_call(rig.io, lose, NULL);
	wait_interrupt(&rig, 5000);
	assert_int_equal(status_in_config(), 0);
	close(peer[0]);
	peer[0] = 0;
	post(1, 0, &h, 60);
	reap(1, 0, 0);
	assert_int_equal(events, 0);
	assert_int_equal(link_now(), VIRTIO_NET_LOST);
}

static void test_other_end_goes(void **state)
{
	const struct virtio_net_hdr_v1 h = {0};
	bool up = true;

	go_live(&rig, F(STATUS) | F(MRG_RXBUF), 16);
	close(peer[0]);
	peer[0] = 0;
	wait_interrupt(&rig, 5000);
	assert_int_equal(status_in_config(), 0);
	assert_int_equal(link_now(), VIRTIO_NET_LOST);
	loop_call(rig.io, set_link, &up);
	assert_int_equal(status_in_config(), 0);
	assert_int_equal(events, 0);
	post(1, 0, &h, 60);
	reap(1, 0, 0);
	give(0, 0, DATA(0), 2048);
	kick(&rig, 0);
	loop_call(rig.io, nothing, NULL);
	assert_int_equal(counters().port.drops[NET_DROP_LINK], 1);
	set_status(&rig, 0);
	go_live(&rig, F(STATUS), 16);
	assert_int_equal(status_in_config(), 0);
	assert_int_equal(events, 0);
}

/* ---- recordings ---- */

static unsigned pcap_pipe(int *file)
{
	int ends[2], size;

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	size = fcntl(ends[1], F_SETPIPE_SZ, 4096);
	assert_true(size > 0);
	*file = ends[0];
	end_given.pcap = ends[1];
	return (unsigned)size;
}

static int setup_pcap(void **state)
{
	pcap_room = pcap_pipe(&pcap_file);
	create(1, 0);
	end_given.pcap = 0;
	return 0;
}

static int teardown_pcap(void **state)
{
	close(pcap_file);
	return teardown(state);
}

static void check_record(size_t len, unsigned seed)
{
	struct {
		uint32_t seconds, nanoseconds, kept, len;
	} r;
	uint8_t frame[4096];

	assert_int_equal(read(pcap_file, &r, sizeof(r)), sizeof(r));
	assert_int_equal(r.len, len);
	assert_int_equal(r.kept, len);
	assert_true(r.seconds > 1700000000 && r.nanoseconds < 1000000000);
	assert_int_equal(read(pcap_file, frame, len), len);
	check_bytes(frame, len, seed);
}

/* What the guest sends and gets, without our header, also from several buffers; what is dropped
 * not. Where there is no room in the file it ends with an event, and traffic goes on. */
static void test_pcap(void **state)
{
	const struct virtio_net_hdr_v1 h = {0};
	static struct packet p;

	go_live(&rig, F(STATUS) | F(MRG_RXBUF), 16);
	post(1, 0, &h, 60);
	assert_int_equal(leave(0, &p, 5000), HDR + 60);
	reap(1, 0, 0);
	check_record(60, 0);
	post(1, 1, &h, 3);
	reap(1, 1, 0);
	for (uint16_t i = 0; i < 3; i++)
		give(0, i, DATA(i), 300);
	kick(&rig, 0);
	arrive(0, 500, 9);
	reap(0, 0, 300);
	reap(0, 1, HDR + 500 - 300);
	check_record(500, 9);
	for (unsigned i = 0; i <= pcap_room / 1000; i++) {
		post(1, 2, &h, 1000);
		assert_int_equal(leave(0, &p, 5000), HDR + 1000);
		reap(1, 2, 0);
	}
	loop_call(rig.io, nothing, NULL);
	assert_int_equal(events, 1);
	assert_non_null(strstr(last_event, "; nothing more is recorded"));
	arrive(0, 60, 1);
	reap(0, 2, HDR + 60);
	assert_int_equal(events, 1);
}

/* ---- limits ---- */

static void set_limits(void *arg)
{
	virtio_net_set_limits(rig.dev, arg);
}

#define MSEC 1000000ull

/* One at once, then one each 10 ms, each way; what waits is not lost, and has no such wait once the
 * limit is lifted. */
static void test_limits(void **state)
{
	struct net_limits l = {.tx = {.packets = 100, .packets_burst = 1},
		.rx = {.packets = 100, .packets_burst = 1}};
	const struct virtio_net_hdr_v1 h = {0};
	static struct packet p;
	uint64_t start;

	go_live(&rig, F(STATUS) | F(MRG_RXBUF), 16);
	loop_call(rig.io, set_limits, &l);
	start = now_ns();
	for (uint16_t i = 0; i < 6; i++)
		post(1, i, &h, 60);
	for (uint16_t i = 0; i < 6; i++) {
		assert_int_equal(leave(0, &p, 5000), HDR + 60);
		check_bytes(p.frame, 60, i);
	}
	assert_true(now_ns() - start >= 50 * MSEC);
	for (uint16_t i = 0; i < 8; i++)
		give(0, i, DATA(i), 2048);
	kick(&rig, 0);
	start = now_ns();
	for (unsigned i = 0; i < 6; i++)
		arrive(0, 60, i);
	for (uint16_t i = 0; i < 6; i++)
		reap(0, i, HDR + 60);
	assert_true(now_ns() - start >= 50 * MSEC);
	/* A debt of an hour, and no limit any more. */
	l = (struct net_limits){.tx = {.bandwidth = 1, .bandwidth_burst = 1},
		.rx = {.bandwidth = 1, .bandwidth_burst = 1}};
	loop_call(rig.io, set_limits, &l);
	for (uint16_t i = 6; i < 8; i++) {
		post(1, i, &h, 3600);
		arrive(0, 1800, i);
	}
	assert_int_equal(leave(0, &p, 5000), HDR + 3600);
	assert_int_equal(leave(0, &p, 20), -1);
	reap(0, 6, HDR + 1800);
	l = (struct net_limits){0};
	loop_call(rig.io, set_limits, &l);
	assert_int_equal(leave(0, &p, 5000), HDR + 3600);
	reap(0, 7, HDR + 1800);
	assert_int_equal(counters().port.tx.packets, 8);
	assert_int_equal(counters().port.rx.packets, 8);
}

/* Nothing is asked of a device that is gone, or stopped, when the time is over. */
static void test_limits_and_the_end(void **state)
{
	struct net_limits l = {.tx = {.packets = 100, .packets_burst = 1}};
	const struct virtio_net_hdr_v1 h = {0};
	static struct packet p;

	go_live(&rig, F(STATUS), 16);
	loop_call(rig.io, set_limits, &l);
	for (uint16_t i = 0; i < 6; i++)
		post(1, i, &h, 60);
	assert_int_equal(leave(0, &p, 5000), HDR + 60);
	virtio_mmio_pause(rig.mmio);
	while (leave(0, &p, 30) >= 0)
		;
	virtio_mmio_resume(rig.mmio);
	assert_int_equal(leave(0, &p, 5000), HDR + 60);
	set_status(&rig, 0);
	poll(NULL, 0, 30);
}

/* ---- state ---- */

/* Saved with buffers taken in advance and a packet that waits; goes on in another device. */
static void test_save_and_load(void **state)
{
	static const uint8_t other[6] = {2, 0, 0, 0, 0, 2};
	const uint8_t off = 0;
	struct stream_out out;
	struct stream_in in;

	go_live(&rig, CTRL_ALL | F(MRG_RXBUF), 16);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1), OK);
	for (uint16_t i = 0; i < 3; i++)
		give(0, i, DATA(i), 100);
	kick(&rig, 0);
	arrive(0, 1000, 1);
	loop_call(rig.io, nothing, NULL);
	poll(NULL, 0, 20);
	virtio_mmio_pause(rig.mmio);
	stream_out_init(&out);
	virtio_mmio_save(rig.mmio, &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(counters().port.drops[NET_DROP_ROOM], 1);
	virtio_mmio_reset(rig.mmio);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(virtio_mmio_load(rig.mmio, &in), 0);
	virtio_mmio_resume(rig.mmio);
	stream_out_finish(&out);
	assert_int_equal(status_in_config(), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(command(2, VIRTIO_NET_CTRL_ANNOUNCE, 0, NULL, 0), OK);
	assert_int_equal(status_in_config(), VIRTIO_NET_S_LINK_UP);
	arrive_to(other, -1);
	arrive_to(own_mac, -1);
	reap(0, 0, HDR + 60);
	arrive_to(own_mac, -1);
	reap(0, 1, HDR + 60);
	assert_int_equal(counters().port.drops[NET_DROP_FILTERED], 1);
}

/* No state that a device cannot have is taken, wherever it is cut or changed. */
static void test_bad_state(void **state)
{
	struct stream_out out;
	struct stream_in in;
	uint8_t *copy;

	virtio_mmio_pause(rig.mmio);
	stream_out_init(&out);
	rig.dev->ops->save(rig.dev, &out);
	copy = malloc(out.len);
	for (size_t len = 0; len < out.len; len++) {
		memcpy(copy, out.buf, len);
		stream_in_init(&in, copy, len);
		assert_true(rig.dev->ops->load(rig.dev, &in) < 0);
	}
	for (size_t i = 0; i < out.len; i++) {
		memcpy(copy, out.buf, out.len);
		copy[i] ^= 0xff;
		stream_in_init(&in, copy, out.len);
		rig.dev->ops->load(rig.dev, &in);
	}
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(rig.dev->ops->load(rig.dev, &in), 0);
	free(copy);
	stream_out_finish(&out);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_describes_itself),
		TEST(test_send),
		TEST(test_bad_headers),
		TEST(test_checksum_not_negotiated),
		TEST(test_send_waits),
		TEST(test_receive),
		TEST(test_receive_wraps),
		TEST(test_receive_one_by_one),
		TEST(test_no_buffers),
		TEST(test_waits_for_room),
		TEST(test_waits_for_room_last),
		TEST(test_short_packets),
		TEST(test_buffer_not_writable),
		cmocka_unit_test_setup_teardown(test_commands, setup_plain, teardown),
		TEST(test_commands_not_negotiated),
		TEST(test_filter),
		TEST(test_address),
		TEST(test_address_alone),
		cmocka_unit_test_setup_teardown(test_pairs, setup_two, teardown),
		cmocka_unit_test_setup_teardown(test_pairs_unknown, setup_two, teardown),
		TEST(test_link),
		TEST(test_other_end_is_lost),
		TEST(test_other_end_goes),
		cmocka_unit_test_setup_teardown(test_pcap, setup_pcap, teardown_pcap),
		TEST(test_limits),
		TEST(test_limits_and_the_end),
		TEST(test_save_and_load),
		TEST(test_bad_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
