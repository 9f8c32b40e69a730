// SPDX-License-Identifier: MIT
// virtio-vsock with a guest played by the test and real UNIX sockets: both directions, credit,
// ends, misuse.
#include "tests/unit/mmio_driver.h"

#include "base/log.h"
#include "base/stream.h"
#include "virtio/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CID 42u
#define HOST 2u
#define RX 0
#define TX 1
#define EVENT 2
#define RING 128u
#define BUF 4096u
#define RX_BASE 0x200000u
#define TX_BASE 0x400000u
#define EVENT_BASE 0x600000u
#define HDR sizeof(struct virtio_vsock_hdr)

#define REQUEST VIRTIO_VSOCK_OP_REQUEST
#define RESPONSE VIRTIO_VSOCK_OP_RESPONSE
#define RST VIRTIO_VSOCK_OP_RST
#define SHUTDOWN VIRTIO_VSOCK_OP_SHUTDOWN
#define RW VIRTIO_VSOCK_OP_RW
#define UPDATE VIRTIO_VSOCK_OP_CREDIT_UPDATE
#define ASK VIRTIO_VSOCK_OP_CREDIT_REQUEST
#define NO_RCV VIRTIO_VSOCK_SHUTDOWN_RCV
#define NO_SEND VIRTIO_VSOCK_SHUTDOWN_SEND

struct guest {
	struct rig r;
	char dir[64], listen_path[96];
	struct virtio_vsock_hdr hdr; /* of the packet received last */
	char data[BUF];
	bool starve;                     /* receive buffers are not given back */
	uint32_t alloc, forwarded, sent; /* the guest's counters, for one stream at a time */
};

/* ---- The guest ---- */

static void post_rx(struct guest *g, uint16_t i)
{
	driver_desc(&g->r.q[RX], i, RX_BASE + i * BUF, BUF, VRING_DESC_F_WRITE);
	driver_offer(&g->r.q[RX], i);
}

static void boot(struct guest *g)
{
	go_live(&g->r, 1ull << VIRTIO_RING_F_EVENT_IDX, RING);
	for (uint16_t i = 0; i < RING && !g->starve; i++)
		post_rx(g, i);
	kick(&g->r, RX);
	for (uint16_t i = 0; i < 8; i++) {
		driver_desc(&g->r.q[EVENT], i, EVENT_BASE + i * 8u, 8, VRING_DESC_F_WRITE);
		driver_offer(&g->r.q[EVENT], i);
	}
	kick(&g->r, EVENT);
	g->alloc = 65536;
	g->forwarded = g->sent = 0;
}

static void send_raw(
	struct guest *g, const struct virtio_vsock_hdr *hdr, const void *data, uint32_t len)
{
	uint32_t id, used;

	mem_write(g->r.mem, TX_BASE, hdr, HDR);
	driver_desc(&g->r.q[TX], 0, TX_BASE, HDR, len ? VRING_DESC_F_NEXT : 0);
	if (len) {
		mem_write(g->r.mem, TX_BASE + 4096, data, len);
		driver_desc(&g->r.q[TX], 1, TX_BASE + 4096, len, 0);
	}
	driver_offer(&g->r.q[TX], 0);
	kick(&g->r, TX);
	wait_used(&g->r, TX, &id, &used);
	assert_int_equal(used, 0);
}

static struct virtio_vsock_hdr header(struct guest *g, unsigned op, uint32_t from, uint32_t to)
{
	return (struct virtio_vsock_hdr){
		.src_cid = CID,
		.dst_cid = HOST,
		.src_port = from,
		.dst_port = to,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = g->alloc,
		.fwd_cnt = g->forwarded,
	};
}

static void send_op(struct guest *g, unsigned op, uint32_t from, uint32_t to)
{
	struct virtio_vsock_hdr h = header(g, op, from, to);

	send_raw(g, &h, NULL, 0);
}

static void send_shutdown(struct guest *g, uint32_t from, uint32_t to, uint32_t flags)
{
	struct virtio_vsock_hdr h = header(g, SHUTDOWN, from, to);

	h.flags = flags;
	send_raw(g, &h, NULL, 0);
}

static void send_data(struct guest *g, uint32_t from, uint32_t to, const void *data, uint32_t len)
{
	struct virtio_vsock_hdr h = header(g, RW, from, to);

	h.len = len;
	g->sent += len;
	send_raw(g, &h, data, len);
}

/* The next packet into g->hdr and g->data; false when none comes within ms. */
static bool recv_within(struct guest *g, int ms)
{
	struct driver *d = &g->r.q[RX];
	uint64_t end = now_ns() + (uint64_t)ms * 1000000;
	uint32_t id = 0, len = 0, why;

	driver_want_call(d, d->used_next);
	while (!driver_reap(d, &id, &len)) {
		if (now_ns() >= end)
			return false;
		wait_edge(&g->r, ms, &why);
	}
	assert_true(id < RING && len >= HDR && len <= BUF);
	mem_read(g->r.mem, RX_BASE + id * BUF, &g->hdr, HDR);
	mem_read(g->r.mem, RX_BASE + id * BUF + HDR, g->data, len - HDR);
	assert_int_equal(g->hdr.len, len - HDR);
	if (!g->starve) {
		post_rx(g, (uint16_t)id);
		kick(&g->r, RX);
	}
	return true;
}

static void expect(struct guest *g, unsigned op)
{
	if (!recv_within(g, 5000))
		print_error("no packet where op %u is expected\n", op);
	assert_int_equal(g->hdr.op, op);
	assert_int_equal(g->hdr.dst_cid, CID);
}

static void expect_for(struct guest *g, unsigned op, uint32_t from, uint32_t to)
{
	expect(g, op);
	assert_int_equal(g->hdr.src_cid, HOST);
	assert_int_equal(g->hdr.src_port, from);
	assert_int_equal(g->hdr.dst_port, to);
}

/* The host's peer is gone: the guest hears of both directions, at once or one after the other. */
static void expect_gone(struct guest *g, uint32_t from, uint32_t to, uint32_t told)
{
	while (told != (NO_RCV | NO_SEND)) {
		expect_for(g, SHUTDOWN, from, to);
		assert_int_equal(g->hdr.flags & told, 0);
		told |= g->hdr.flags;
	}
}

static void expect_nothing(struct guest *g)
{
	assert_false(recv_within(g, 30));
}

/* ---- The host ---- */

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 4096), 0);
	return fd;
}

static int listen_port(struct guest *g, uint32_t port)
{
	char path[108];

	snprintf(path, sizeof(path), "%s/sock_%u", g->dir, port);
	return listen_at(path);
}

static int dial(struct guest *g)
{
	struct sockaddr_un a = address(g->listen_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval tv = {.tv_sec = 5};

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

static int take(int listener)
{
	struct timeval tv = {.tv_sec = 5};
	int fd = accept(listener, NULL, NULL);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void expect_text(int fd, const char *text)
{
	char buf[256] = "";

	assert_int_equal(recv(fd, buf, strlen(text), MSG_WAITALL), strlen(text));
	assert_string_equal(buf, text);
}

static void expect_eof(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, 0), 0);
}

static int setup(void **state)
{
	static struct guest g;
	struct vsock_config cfg = {.name = "vsock", .cid = CID, .socket = "sock"};
	struct virtio_device *dev;

	g = (struct guest){0};
	snprintf(g.dir, sizeof(g.dir), "/tmp/test-vsock-XXXXXX");
	assert_non_null(mkdtemp(g.dir));
	snprintf(g.listen_path, sizeof(g.listen_path), "%s/sock", g.dir);
	cfg.dir = open(g.dir, O_PATH | O_CLOEXEC);
	cfg.listen = listen_at(g.listen_path);
	rig_init(&g.r);
	assert_int_equal(vsock_create(&dev, &cfg), 0);
	rig_attach(&g.r, dev);
	log_set_level(LOG_LEVEL_ERROR);
	*state = &g;
	return 0;
}

static int teardown(void **state)
{
	struct guest *g = *state;
	char cmd[128];

	rig_finish(&g->r);
	vsock_destroy(g->r.dev);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", g->dir);
	return system(cmd);
}

/* A stream from the guest's `from` to the host's `port`; the host's end of it. */
static int guest_dials(struct guest *g, int listener, uint32_t from, uint32_t port)
{
	send_op(g, REQUEST, from, port);
	expect_for(g, RESPONSE, port, from);
	return take(listener);
}

/* A stream from the host to the guest's port; *host_port is what it got. */
static int host_dials(struct guest *g, uint32_t port, uint32_t *host_port)
{
	char line[64];
	int fd = dial(g);

	snprintf(line, sizeof(line), "CONNECT %u\n", port);
	say(fd, line);
	expect(g, REQUEST);
	assert_int_equal(g->hdr.dst_port, port);
	*host_port = g->hdr.src_port;
	send_op(g, RESPONSE, port, *host_port);
	snprintf(line, sizeof(line), "OK %u\n", *host_port);
	expect_text(fd, line);
	return fd;
}

/* ---- Tests ---- */

static void test_identity(void **state)
{
	struct guest *g = *state;

	assert_int_equal(reg_read(&g->r, VIRTIO_MMIO_DEVICE_ID), 19);
	assert_int_equal(reg_read(&g->r, 0x100), CID);
	assert_int_equal(reg_read(&g->r, 0x104), 0);
}

static void test_bad_config(void **state)
{
	const uint32_t bad[] = {0, 1, 2, UINT32_MAX};
	struct virtio_device *dev = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vsock_config cfg = {
			.name = "v", .cid = bad[i], .dir = open("/tmp", O_PATH), .listen = -1};

		assert_int_equal(vsock_create(&dev, &cfg), -EINVAL);
		assert_int_equal(fcntl(cfg.dir, F_GETFD), -1); /* taken, and closed */
	}
	assert_null(dev);
}

static void test_guest_dials(void **state)
{
	struct guest *g = *state;
	int l, fd;

	boot(g);
	l = listen_port(g, 52);
	fd = guest_dials(g, l, 1000, 52);
	assert_int_equal(g->hdr.buf_alloc, 256 << 10);
	send_data(g, 1000, 52, "to the host", 11);
	expect_text(fd, "to the host");
	say(fd, "to the guest");
	expect_for(g, RW, 52, 1000);
	assert_memory_equal(g->data, "to the guest", 12);
	assert_int_equal(g->hdr.fwd_cnt, 11);
	send_shutdown(g, 1000, 52, NO_RCV | NO_SEND);
	expect_for(g, RST, 52, 1000);
	expect_eof(fd);
	close(fd);
	/* The same ports again. */
	fd = guest_dials(g, l, 1000, 52);
	send_op(g, RST, 1000, 52);
	expect_eof(fd);
	expect_nothing(g);
	close(fd);
	close(l);
}

static void test_host_dials(void **state)
{
	struct guest *g = *state;
	uint32_t port;
	int fd, other;

	other = dial(g); /* before the driver is there: waits */
	say(other, "CONNECT 7\nearly");
	boot(g);
	expect(g, REQUEST);
	assert_int_equal(g->hdr.dst_port, 7);
	port = g->hdr.src_port;
	expect_nothing(g); /* no data before the answer */
	send_op(g, RESPONSE, 7, port);
	expect_for(g, RW, port, 7);
	assert_memory_equal(g->data, "early", 5);
	fd = host_dials(g, 7, &port);
	assert_int_equal(port, 0x40000001);
	send_data(g, 7, port, "hello", 5);
	expect_text(fd, "hello");
	close(fd);
	expect_gone(g, port, 7, 0);
	send_op(g, RST, 7, port);
	/* A port on which the guest does not listen. */
	fd = dial(g);
	say(fd, "CONNECT 4294967294\n");
	expect(g, REQUEST);
	send_op(g, RST, 4294967294, g->hdr.src_port);
	expect_eof(fd);
	close(fd);
	close(other);
}

static void test_handshake(void **state)
{
	static const char *const bad[] = {"CONNECT\n", "CONNECT \n", "CONNECT x\n", "connect 5\n",
		"CONNECT 5 \n", "CONNECT 4294967295\n", "CONNECT 99999999999999999999999\n",
		"CONNECT -1\n", "CONNECT  5\n", "\n", "CONNECT 5\rx\n",
		"0123456789012345678901234567890123456789"};
	struct guest *g = *state;
	int fd;

	boot(g);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		char c;

		fd = dial(g);
		say(fd, bad[i]);
		assert_true(recv(fd, &c, 1, 0) <= 0 && errno != EAGAIN);
		close(fd);
	}
	fd = dial(g); /* gone before its line is complete */
	say(fd, "CONNECT 1");
	close(fd);
	expect_nothing(g);
	/* A byte at a time. */
	fd = dial(g);
	for (const char *p = "CONNECT 77\r\n"; *p; p++) {
		assert_int_equal(send(fd, p, 1, 0), 1);
		usleep(1000);
	}
	expect(g, REQUEST);
	assert_int_equal(g->hdr.dst_port, 77);
	/* Gone before the guest's answer. */
	close(fd);
	expect(g, RST);
	send_op(g, RESPONSE, 77, g->hdr.src_port);
	expect(g, RST);
}

static void test_refused(void **state)
{
	struct guest *g = *state;
	struct virtio_vsock_hdr h;

	boot(g);
	send_op(g, REQUEST, 5, 99); /* nobody listens */
	expect_for(g, RST, 99, 5);
	send_op(g, RST, 5, 99);
	send_op(g, RW, 5, 99);
	expect_for(g, RST, 99, 5);
	send_op(g, RESPONSE, 5, 99);
	expect_for(g, RST, 99, 5);
	send_op(g, 77, 5, 99);
	expect_for(g, RST, 99, 5);
	h = header(g, REQUEST, 5, 99);
	h.dst_cid = 7; /* another guest */
	send_raw(g, &h, NULL, 0);
	expect(g, RST);
	assert_int_equal(g->hdr.src_cid, 7);
	h = header(g, REQUEST, 5, 99);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	send_raw(g, &h, NULL, 0);
	expect_for(g, RST, 99, 5);
	assert_int_equal(g->hdr.type, VIRTIO_VSOCK_TYPE_SEQPACKET);
	h = header(g, REQUEST, 5, 99);
	h.src_cid = CID + 1; /* not ours to answer */
	send_raw(g, &h, NULL, 0);
	expect_nothing(g);
}

static void test_misuse(void **state)
{
	struct guest *g = *state;
	struct virtio_vsock_hdr h;
	int l, fd;

	boot(g);
	l = listen_port(g, 1);
	const unsigned out_of_turn[] = {REQUEST, RESPONSE, 0, 8, 0xffff};

	for (unsigned i = 0; i < ARRAY_SIZE(out_of_turn); i++) {
		fd = guest_dials(g, l, 10, 1);
		send_op(g, out_of_turn[i], 10, 1);
		expect_for(g, RST, 1, 10);
		expect_eof(fd);
		close(fd);
	}
	/* A packet that says it has more than it has. */
	fd = guest_dials(g, l, 10, 1);
	h = header(g, RW, 10, 1);
	h.len = 100;
	send_raw(g, &h, "only these", 10);
	expect_for(g, RST, 1, 10);
	expect_eof(fd);
	close(fd);
	/* Data after the end. */
	fd = guest_dials(g, l, 10, 1);
	send_shutdown(g, 10, 1, NO_SEND);
	expect_eof(fd);
	send_data(g, 10, 1, "x", 1);
	expect_for(g, RST, 1, 10);
	close(fd);
	close(l);
}

static void test_bad_buffers(void **state)
{
	struct guest *g = *state;
	uint32_t id, len;

	/* A packet that is shorter than a header is dropped. */
	boot(g);
	driver_desc(&g->r.q[TX], 0, TX_BASE, 43, 0);
	driver_offer(&g->r.q[TX], 0);
	kick(&g->r, TX);
	wait_used(&g->r, TX, &id, &len);
	expect_nothing(g);
	/* A receive buffer with no room breaks the device. */
	set_status(&g->r, 0);
	g->starve = true;
	boot(g);
	driver_desc(&g->r.q[RX], 0, RX_BASE, HDR, VRING_DESC_F_WRITE);
	driver_offer(&g->r.q[RX], 0);
	send_op(g, REQUEST, 1, 1);
	while (!(get_status(&g->r) & S_BROKEN))
		assert_int_not_equal(wait_interrupt(&g->r, 5000), 0);
}

static void test_half_close(void **state)
{
	struct guest *g = *state;
	int l, fd;

	boot(g);
	l = listen_port(g, 1);
	/* The guest ends first, and still gets the answer. */
	fd = guest_dials(g, l, 10, 1);
	send_data(g, 10, 1, "request", 7);
	send_shutdown(g, 10, 1, NO_SEND);
	expect_text(fd, "request");
	expect_eof(fd);
	say(fd, "answer");
	expect_for(g, RW, 1, 10);
	close(fd);
	expect_gone(g, 1, 10, NO_RCV);
	send_shutdown(g, 10, 1, NO_RCV | NO_SEND);
	expect_for(g, RST, 1, 10);
	/* The host ends first. */
	fd = guest_dials(g, l, 10, 1);
	say(fd, "request");
	shutdown(fd, SHUT_WR);
	expect_for(g, RW, 1, 10);
	expect_for(g, SHUTDOWN, 1, 10);
	assert_int_equal(g->hdr.flags, NO_SEND);
	send_data(g, 10, 1, "answer", 6);
	expect_text(fd, "answer");
	send_shutdown(g, 10, 1, NO_SEND);
	expect_eof(fd);
	send_shutdown(g, 10, 1, NO_RCV);
	expect_for(g, RST, 1, 10);
	close(fd);
	/* The guest will not read any more: the host's peer is told by its next write. */
	fd = guest_dials(g, l, 10, 1);
	send_shutdown(g, 10, 1, NO_RCV);
	while (send(fd, "x", 1, MSG_NOSIGNAL) == 1)
		;
	assert_int_equal(errno, EPIPE);
	send_data(g, 10, 1, "still", 5);
	expect_text(fd, "still");
	close(fd);
	close(l);
}

static void test_host_dies(void **state)
{
	struct guest *g = *state;
	static char big[40000];
	int l, fd;

	boot(g);
	l = listen_port(g, 1);
	fd = guest_dials(g, l, 10, 1);
	send_data(g, 10, 1, "never read", 10);
	close(fd);
	expect_gone(g, 1, 10, 0);
	/* What the guest sends before it has heard is dropped, and does not use up its credit. */
	for (unsigned i = 0; i < 20; i++)
		send_data(g, 10, 1, big, sizeof(big));
	while (recv_within(g, 30))
		assert_int_equal(g->hdr.op, UPDATE);
	assert_true(g->sent - g->hdr.fwd_cnt <= (128 << 10) + 40000);
	send_shutdown(g, 10, 1, NO_RCV | NO_SEND);
	expect_for(g, RST, 1, 10);
	/* A peer that only stops reading: the guest is told so, and may still be sent to. */
	fd = guest_dials(g, l, 11, 1);
	shutdown(fd, SHUT_RD);
	send_data(g, 11, 1, "x", 1);
	expect_for(g, SHUTDOWN, 1, 11);
	assert_int_equal(g->hdr.flags, NO_RCV);
	say(fd, "last words");
	expect_for(g, RW, 1, 11);
	close(fd);
	expect_gone(g, 1, 11, NO_RCV);
	close(l);
}

static void test_guest_credit(void **state)
{
	struct guest *g = *state;
	char big[5000];
	uint32_t got = 0;
	int l, fd;

	boot(g);
	memset(big, 'b', sizeof(big));
	l = listen_port(g, 1);
	g->alloc = 1000;
	fd = guest_dials(g, l, 10, 1);
	assert_int_equal(send(fd, big, sizeof(big), 0), sizeof(big));
	while (got < sizeof(big)) {
		expect_for(g, RW, 1, 10);
		assert_true(g->hdr.len <= 1000);
		got += g->hdr.len;
		if (got == sizeof(big))
			break;
		expect_for(g, ASK, 1, 10); /* once, and then it waits */
		expect_nothing(g);
		g->forwarded = got;
		send_op(g, UPDATE, 10, 1);
	}
	/* Counters that make no sense are no credit. */
	g->forwarded = got + 1;
	send_op(g, UPDATE, 10, 1);
	say(fd, "x");
	expect_for(g, ASK, 1, 10);
	expect_nothing(g);
	g->forwarded = got;
	g->alloc = 0;
	send_op(g, UPDATE, 10, 1);
	expect_nothing(g);
	g->alloc = 1;
	send_op(g, UPDATE, 10, 1);
	expect_for(g, RW, 1, 10);
	expect_for(g, ASK, 1, 10); /* there might be more */
	/* The guest may ask as well. */
	send_op(g, ASK, 10, 1);
	expect_for(g, UPDATE, 1, 10);
	close(fd);
	close(l);
}

static char pattern(uint64_t i)
{
	return (char)(i * 2654435761u >> 13);
}

static void fill_pattern(char *buf, uint32_t len, uint64_t from)
{
	for (uint32_t i = 0; i < len; i++)
		buf[i] = pattern(from + i);
}

/*
 * Sends as much as credit allows to a peer that does not read, on a stream of which `before` bytes
 * have been sent and forwarded already. How much that was is left in g->sent.
 */
static void send_until_full(struct guest *g, uint32_t from, uint32_t to, uint32_t before)
{
	static char buf[65536];
	uint32_t forwarded = before, room;

	g->sent = 0;
	while ((room = (256u << 10) - (before + g->sent - forwarded))) {
		uint32_t len = MIN(room, (uint32_t)sizeof(buf) - 100);

		fill_pattern(buf, len, g->sent);
		send_data(g, from, to, buf, len);
		while (recv_within(g, 20))
			forwarded = g->hdr.fwd_cnt;
	}
}

static uint64_t read_pattern(int fd, uint64_t want)
{
	uint64_t got = 0;
	char buf[10000];

	while (got < want) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], pattern(got + (uint64_t)i));
		got += (uint64_t)n;
	}
	return got;
}

static void test_slow_host(void **state)
{
	struct guest *g = *state;
	int l, fd, other;

	boot(g);
	l = listen_port(g, 1);
	fd = guest_dials(g, l, 10, 1);
	send_until_full(g, 10, 1, 0);
	assert_true(g->sent > 256 << 10);
	/* Another stream does not notice. */
	other = guest_dials(g, l, 11, 1);
	send_data(g, 11, 1, "quick", 5);
	g->sent -= 5;
	expect_text(other, "quick");
	close(other);
	expect_gone(g, 1, 11, 0);
	send_op(g, RST, 11, 1);
	/* As the peer reads, the guest is told. */
	assert_int_equal(read_pattern(fd, g->sent), g->sent);
	do {
		expect_for(g, UPDATE, 1, 10);
	} while (g->sent - g->hdr.fwd_cnt >= 128 << 10);
	/* One byte beyond what was granted. */
	send_until_full(g, 10, 1, g->sent);
	send_data(g, 10, 1, "x", 1);
	expect_for(g, RST, 1, 10);
	close(fd);
	close(l);
}

static void test_linger(void **state)
{
	struct guest *g = *state;
	int l, fd, again;

	boot(g);
	l = listen_port(g, 1);
	fd = guest_dials(g, l, 10, 1);
	send_until_full(g, 10, 1, 0);
	send_shutdown(g, 10, 1, NO_RCV | NO_SEND);
	expect_for(g, RST, 1, 10);        /* at once, though the host has not read */
	again = guest_dials(g, l, 10, 1); /* the name is free */
	assert_int_equal(read_pattern(fd, UINT64_MAX), g->sent);
	send_data(g, 10, 1, "new", 3);
	expect_text(again, "new");
	close(again);
	expect_gone(g, 1, 10, 0);
	send_op(g, RST, 10, 1);
	close(fd);
	/* Half-closed with data left: the end comes after it. */
	fd = guest_dials(g, l, 10, 1);
	send_until_full(g, 10, 1, 0);
	send_shutdown(g, 10, 1, NO_SEND);
	assert_int_equal(read_pattern(fd, UINT64_MAX), g->sent);
	close(fd);
	expect_gone(g, 1, 10, NO_RCV);
	send_op(g, RST, 10, 1);
	/* A peer that dies while the stream lingers. */
	fd = guest_dials(g, l, 12, 1);
	send_until_full(g, 12, 1, 0);
	send_shutdown(g, 12, 1, NO_RCV | NO_SEND);
	close(fd);
	close(l);
}

static void test_starved(void **state)
{
	struct guest *g = *state;

	g->starve = true;
	boot(g);
	for (uint32_t i = 0; i < 200; i++) /* answers wait for buffers, in order */
		send_op(g, REQUEST, i, 99);
	for (uint32_t i = 0; i < 200; i++) {
		post_rx(g, (uint16_t)(i % RING));
		kick(&g->r, RX);
		expect_for(g, RST, 99, i);
	}
	/* More than are kept: dropped, and nothing worse. */
	for (uint32_t i = 0; i < 300; i++)
		send_op(g, REQUEST, i, 99);
	g->starve = false;
	for (uint16_t i = 0; i < RING; i++)
		post_rx(g, i);
	kick(&g->r, RX);
	for (uint32_t i = 0; i < 256; i++)
		expect_for(g, RST, 99, i);
	expect_nothing(g);
}

/* Two streams with much to say take turns. */
static void test_turns(void **state)
{
	struct guest *g = *state;
	uint32_t seen[2] = {0}, turns = 0, last = 0;
	static char big[100000];
	int l, fd[2];

	g->starve = true;
	boot(g);
	g->alloc = 1 << 20;
	l = listen_port(g, 1);
	for (uint16_t i = 0; i < 2; i++) {
		post_rx(g, i);
		kick(&g->r, RX);
		fd[i] = guest_dials(g, l, i, 1);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(send(fd[i], big, sizeof(big), 0), sizeof(big));
	expect_nothing(g);
	g->starve = false;
	for (uint16_t i = 0; i < RING; i++)
		post_rx(g, i);
	kick(&g->r, RX);
	while (seen[0] + seen[1] < 2 * sizeof(big)) {
		expect(g, RW);
		seen[g->hdr.dst_port] += g->hdr.len;
		turns += g->hdr.dst_port != last;
		last = g->hdr.dst_port;
	}
	assert_true(turns > 40);
	close(fd[0]);
	close(fd[1]);
	close(l);
}

/* ---- Many streams at once ---- */

#define MANY 200u

struct many {
	int fd[MANY];
	uint64_t to_host[MANY], to_guest[MANY], got_host[MANY];
};

static void check_guest_data(struct guest *g, struct many *m)
{
	uint32_t i = g->hdr.dst_port - 5000;

	assert_int_equal(g->hdr.op, RW);
	assert_true(i < MANY);
	for (uint32_t k = 0; k < g->hdr.len; k++)
		assert_int_equal(g->data[k], pattern(i * 977 + m->to_guest[i] + k));
	m->to_guest[i] += g->hdr.len;
}

static void test_many(void **state)
{
	static struct many m;
	struct guest *g = *state;
	uint64_t host_sent[MANY] = {0}, total = 0, seen = 0;
	char buf[3000];
	int l;

	boot(g);
	m = (struct many){0};
	l = listen_port(g, 1);
	g->alloc = 1 << 20;
	for (uint32_t i = 0; i < MANY; i++)
		m.fd[i] = guest_dials(g, l, 5000 + i, 1);
	for (unsigned round = 0; round < 10; round++)
		for (uint32_t i = 0; i < MANY; i++) {
			uint32_t len = 1 + (i * 31 + round * 977) % 2999;

			fill_pattern(buf, len, m.to_host[i]);
			send_data(g, 5000 + i, 1, buf, len);
			m.to_host[i] += len;
			fill_pattern(buf, len, i * 977 + host_sent[i]);
			assert_int_equal(send(m.fd[i], buf, len, 0), len);
			host_sent[i] += len;
			total += len;
			while (recv_within(g, 0)) {
				check_guest_data(g, &m);
				seen += g->hdr.len;
			}
		}
	while (seen < total) {
		assert_true(recv_within(g, 5000));
		check_guest_data(g, &m);
		seen += g->hdr.len;
	}
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(m.to_guest[i], host_sent[i]);
		send_shutdown(g, 5000 + i, 1, NO_RCV | NO_SEND);
		expect_for(g, RST, 1, 5000 + i);
		assert_int_equal(read_pattern(m.fd[i], UINT64_MAX), m.to_host[i]);
		close(m.fd[i]);
	}
	close(l);
}

/* What it is then. */
static rlim_t limit_descriptors(rlim_t most)
{
	struct rlimit r;

	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = MIN(r.rlim_max, most);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	return r.rlim_cur;
}

static int setup_many(void **state)
{
	limit_descriptors(4096);
	return setup(state);
}

static int setup_few(void **state)
{
	limit_descriptors(100);
	return setup(state);
}

static void test_limit(void **state)
{
	struct guest *g = *state;
	static int fd[1024];
	int l, extra;

	if (limit_descriptors(4096) < 2200)
		skip();
	boot(g);
	l = listen_port(g, 1);
	for (uint32_t i = 0; i < 1024; i++)
		fd[i] = guest_dials(g, l, i, 1);
	send_op(g, REQUEST, 1024, 1);
	expect_for(g, RST, 1, 1024);
	close(take(l));  /* what was connected and dropped again */
	extra = dial(g); /* waits in the backlog */
	say(extra, "CONNECT 9\n");
	expect_nothing(g);
	send_op(g, RST, 500, 1);
	expect_eof(fd[500]);
	expect(g, REQUEST);
	assert_int_equal(g->hdr.dst_port, 9);
	close(extra);
	expect(g, RST);
	virtio_mmio_pause(g->r.mmio); /* all of them, there and back */
	virtio_mmio_resume(g->r.mmio);
	send_data(g, 1023, 1, "alive", 5);
	expect_text(fd[1023], "alive");
	set_status(&g->r, 0); /* a reset closes them all */
	for (unsigned i = 0; i < 1024; i++) {
		expect_eof(fd[i]);
		close(fd[i]);
	}
	close(l);
}

/* However many it opens, half of the process's descriptors are for others. */
static void test_descriptors(void **state)
{
	struct guest *g = *state;
	unsigned opened = 0;
	int l, free_fd;

	boot(g);
	l = listen_port(g, 1);
	assert_int_equal(listen(l, 128), 0);
	for (uint32_t i = 0; i < 100; i++) {
		send_op(g, REQUEST, i, 1);
		assert_true(recv_within(g, 5000));
		opened += g->hdr.op == RESPONSE;
	}
	assert_int_equal(opened, 50);
	free_fd = dup(l);
	assert_true(free_fd >= 0);
	close(free_fd);
	close(l);
	limit_descriptors(4096);
}

/* ---- Pause, reset, save, load ---- */

static void test_pause(void **state)
{
	struct guest *g = *state;
	int l, fd;

	boot(g);
	l = listen_port(g, 1);
	fd = guest_dials(g, l, 10, 1);
	send_until_full(g, 10, 1, 0);
	virtio_mmio_pause(g->r.mmio);
	say(fd, "meanwhile");
	virtio_mmio_resume(g->r.mmio);
	expect_for(g, RW, 1, 10);
	assert_memory_equal(g->data, "meanwhile", 9);
	virtio_mmio_pause(g->r.mmio);
	virtio_mmio_resume(g->r.mmio);
	assert_int_equal(read_pattern(fd, g->sent), g->sent);
	virtio_mmio_pause(g->r.mmio);
	close(fd);
	virtio_mmio_resume(g->r.mmio);
	do {
		assert_true(recv_within(g, 5000));
	} while (g->hdr.op == UPDATE);
	assert_int_equal(g->hdr.op, SHUTDOWN);
	close(l);
}

static void test_save_load(void **state)
{
	struct guest *g = *state;
	struct virtio_vsock_event event = {.id = 99};
	struct stream_out out;
	struct stream_in in;
	uint32_t id, len;
	int l, fd;

	boot(g);
	l = listen_port(g, 1);
	fd = guest_dials(g, l, 10, 1);
	virtio_mmio_pause(g->r.mmio);
	stream_out_init(&out);
	virtio_mmio_save(g->r.mmio, &out);
	virtio_mmio_resume(g->r.mmio);
	send_data(g, 10, 1, "goes on", 7); /* where it was saved, streams live on */
	expect_text(fd, "goes on");
	virtio_mmio_pause(g->r.mmio);
	stream_out_finish(&out);
	stream_out_init(&out);
	virtio_mmio_save(g->r.mmio, &out);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(virtio_mmio_load(g->r.mmio, &in), 0);
	virtio_mmio_resume(g->r.mmio);
	expect_eof(fd);
	wait_used(&g->r, EVENT, &id, &len);
	assert_int_equal(len, 4);
	mem_read(g->r.mem, EVENT_BASE + id * 8, &event, sizeof(event));
	assert_int_equal(event.id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	/* What the guest still believes in is refused; new streams work. */
	send_data(g, 10, 1, "x", 1);
	expect_for(g, RST, 1, 10);
	close(fd);
	fd = guest_dials(g, l, 10, 1);
	send_data(g, 10, 1, "fresh", 5);
	expect_text(fd, "fresh");
	close(fd);
	close(l);
	stream_out_finish(&out);
}

static void test_reset(void **state)
{
	struct guest *g = *state;
	uint32_t port;
	int fd;

	for (unsigned i = 0; i < 20; i++) {
		boot(g);
		fd = host_dials(g, 3, &port);
		send_data(g, 3, port, "x", 1);
		set_status(&g->r, 0);
		expect_text(fd, "x");
		expect_eof(fd);
		close(fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test(test_bad_config),
		cmocka_unit_test_setup_teardown(test_guest_dials, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_dials, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handshake, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_misuse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_close, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_dies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_credit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linger, setup, teardown),
		cmocka_unit_test_setup_teardown(test_starved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup_many, teardown),
		cmocka_unit_test_setup_teardown(test_descriptors, setup_few, teardown),
		cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
