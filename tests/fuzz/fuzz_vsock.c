// SPDX-License-Identifier: MIT
// virtio-vsock under a guest and a host's peers made of random bytes.
//
// The input is a list of operations: packets whose header is mostly sound, so that streams come to
// life, and acts of the host's peers. The device's loop is run in between until it has nothing more
// to do.
#include "tests/fuzz/transport.h"

#include "base/log.h"
#include "base/loop.h"
#include "virtio/vsock.h"

#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RAM MIB(4)
#define RING 64u
#define BUF 2048u
#define RX_BASE MIB(1)
#define TX_BASE MIB(2)
#define PORTS 2u
#define PEERS 8u
#define HDR sizeof(struct virtio_vsock_hdr)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is made once, and what each input has. */
static struct mem *mem;
static struct loop *loop;
static struct watch pauser;
static char folder[] = "/tmp/fuzz-vsock-XXXXXX";
static int dir, listener[PORTS + 1];

struct fuzz {
	struct transport t;
	int peer[PEERS];
	uint32_t host_port; /* of the last REQUEST that the guest got */
};

static void pause_loop(void *arg, uint32_t events)
{
	uint64_t n;

	check(read(pauser.fd, &n, sizeof(n)) == sizeof(n));
	loop_stop(loop);
}

/* One round of whatever is ready. */
static void run_loop(void)
{
	uint64_t one = 1;

	check(write(pauser.fd, &one, sizeof(one)) == sizeof(one));
	check(loop_run(loop) == 0);
}

static int listen_at(const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", folder, name);
	check(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 64) == 0);
	return fd;
}

static void unmake_world(void)
{
	static const char *const names[PORTS + 1] = {"s_0", "s_1", "s"};

	for (unsigned i = 0; i <= PORTS; i++)
		unlinkat(dir, names[i], 0);
	rmdir(folder);
}

static void make_world(void)
{
	char name[16];

	log_set_level(LOG_LEVEL_ERROR);
	check(mkdtemp(folder) != NULL);
	check(mem_create(&mem, RAM, MEM_PRIVATE) == 0 && loop_create(&loop, "fuzz") == 0);
	pauser = WATCH_INIT(pause_loop, NULL);
	check(loop_add(loop, &pauser, eventfd(0, EFD_NONBLOCK), EPOLLIN) == 0);
	for (unsigned i = 0; i < PORTS; i++) {
		snprintf(name, sizeof(name), "s_%u", i);
		listener[i] = listen_at(name);
	}
	listener[PORTS] = listen_at("s");
	dir = open(folder, O_PATH | O_CLOEXEC);
	atexit(unmake_world);
}

static void post_rx(struct fuzz *f, uint16_t i)
{
	driver_desc(&f->t.q[0], i, RX_BASE + i * BUF, BUF, VRING_DESC_F_WRITE);
	driver_offer(&f->t.q[0], i);
}

static void start(struct fuzz *f)
{
	const struct vsock_config cfg = {.name = "vsock",
		.cid = 3,
		.dir = dup(dir),
		.socket = "s",
		.listen = dup(listener[PORTS])};

	check(vsock_create(&f->t.dev, &cfg) == 0);
	f->t.mem = mem;
	f->t.queues = 3;
	transport_attach(&f->t, loop);
	transport_renew(&f->t, 0x1000, 0x1000, RING);
	for (unsigned i = 0; i < PEERS; i++)
		f->peer[i] = -1;
	transport_up(&f->t);
}

/* Looks at what the guest got: never more than its buffers, never a packet that makes no sense. */
static void reap(struct fuzz *f, bool give_back)
{
	struct virtio_vsock_hdr h;
	uint32_t id, len;

	while (driver_reap(&f->t.q[0], &id, &len)) {
		check(id < RING && len >= HDR && len <= BUF);
		mem_read(mem, RX_BASE + id * BUF, &h, HDR);
		check(h.len == len - HDR && h.dst_cid == 3);
		check(h.op >= VIRTIO_VSOCK_OP_REQUEST && h.op <= VIRTIO_VSOCK_OP_CREDIT_REQUEST);
		check(h.op == VIRTIO_VSOCK_OP_RW || h.len == 0);
		if (h.op == VIRTIO_VSOCK_OP_REQUEST)
			f->host_port = h.src_port;
		if (give_back)
			post_rx(f, (uint16_t)id);
	}
	f->t.dev->ops->kick(f->t.dev, 0);
}

static void send_packet(struct fuzz *f, const uint8_t op[8])
{
	struct virtio_vsock_hdr h = {
		.src_cid = 3,
		.dst_cid = 2,
		.src_port = op[1] % 4,
		.dst_port = op[1] & 0x80 ? f->host_port : op[1] >> 4 & 3,
		.type = 1,
		.op = op[2] % 9,
		.flags = op[3] % 4,
		.len = op[2] % 9 == VIRTIO_VSOCK_OP_RW ? get_le16(op + 4) : 0,
		.buf_alloc = op[6] * 256u,
		.fwd_cnt = op[7],
	};
	uint32_t room = op[3] & 0x40 ? op[7] : h.len, id, len;

	if (op[3] & 0x80) /* something is wrong with the header */
		((uint8_t *)&h)[op[6] % HDR] ^= op[7];
	mem_write(mem, TX_BASE, &h, HDR);
	driver_desc(&f->t.q[1], 0, TX_BASE, op[3] & 0x20 ? op[6] + 1u : HDR, room ? 1 : 0);
	if (room)
		driver_desc(&f->t.q[1], 1, TX_BASE + 4096, room, 0);
	driver_offer(&f->t.q[1], 0);
	f->t.dev->ops->kick(f->t.dev, 1);
	check(driver_reap(&f->t.q[1], &id, &len) && len == 0);
}

static void dial(struct fuzz *f, int *peer, const uint8_t op[8])
{
	static const char *const lines[] = {"CONNECT 1\n", "CONNECT 2\nmore", "CONNECT ",
		"CONNECT 4294967295\n", "\n", "CONNECT 3\r\n"};
	struct sockaddr_un a;
	socklen_t len = sizeof(a);
	const char *line = lines[op[2] % ARRAY_SIZE(lines)];

	check(getsockname(listener[PORTS], (struct sockaddr *)&a, &len) == 0);
	*peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connect(*peer, (struct sockaddr *)&a, len) == 0)
		(void)!send(*peer, line, strlen(line), MSG_NOSIGNAL);
}

static void act(struct fuzz *f, const uint8_t op[8])
{
	static char bytes[65536];
	int *peer = &f->peer[op[1] % PEERS];

	if (*peer < 0 && op[2] & 0x80)
		dial(f, peer, op);
	else if (*peer < 0)
		*peer = accept4(listener[op[2] % PORTS], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	else if (op[2] < 100)
		(void)!send(*peer, bytes, get_le16(op + 4), MSG_NOSIGNAL);
	else if (op[2] < 200)
		(void)!recv(*peer, bytes, get_le16(op + 4), 0);
	else if (op[2] < 230)
		shutdown(*peer, op[3] % 3);
	else {
		close(*peer);
		*peer = -1;
	}
}

static void operate(struct fuzz *f, const uint8_t op[8])
{
	switch (op[0] % 8) {
	case 0:
		reap(f, op[1] & 1);
		break;
	case 1:
		for (uint16_t i = 0; i < op[1] % RING && f->t.q[0].avail_next == 0; i++)
			post_rx(f, i);
		f->t.dev->ops->kick(f->t.dev, 0);
		break;
	case 2:
		f->t.dev->ops->stop(f->t.dev);
		f->t.dev->ops->start(f->t.dev);
		break;
	case 3:
	case 4:
		act(f, op);
		run_loop();
		break;
	default:
		send_packet(f, op);
	}
	transport_kick(&f->t);
}

static void drop_backlog(void)
{
	for (unsigned i = 0; i <= PORTS; i++) {
		int fd;

		while ((fd = accept4(listener[i], NULL, NULL, SOCK_NONBLOCK)) >= 0)
			close(fd);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {0};

	if (!mem)
		make_world();
	start(&f);
	for (size_t i = 0; i + 8 <= size && i < 8 * 200; i += 8)
		operate(&f, data + i);
	run_loop();
	for (unsigned i = 0; i < PEERS; i++)
		if (f.peer[i] >= 0)
			close(f.peer[i]);
	run_loop();
	transport_down(&f.t);
	vsock_destroy(f.t.dev);
	drop_backlog();
	return 0;
}
