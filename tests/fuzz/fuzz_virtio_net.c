// SPDX-License-Identifier: MIT
// virtio-net under a driver made of random bytes, over socket pairs whose other ends are made of
// them too.
//
// There are two drivers. The honest one keeps to the rules of the ring; what it sends and commands
// may be wrong, and what has to come of it is known (net_model.h): a packet arrives as it was, or
// there is a reason why it may not; none comes twice or before an earlier one; the counters account
// for each. The hostile one writes anywhere into the rings and its memory, and loads states that
// are damaged: all that must hold is that what leaves is in order.
//
// The input is a header (driver, pairs, features, ring size), then operations of eight bytes.
#include "tests/fuzz/net_honest.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "virtio/net.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define RINGS 0x1000u
#define RING_ROOM 0x2000u
#define OPERATIONS 150u
#define F MODEL_F

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One of each kind, as making one takes far longer than most inputs: used, reset, used again. */
static struct made {
	struct virtio_device *dev;
	int own[PAIRS], peer[PAIRS];
} made[2 * PAIRS];

static struct loop *loop;
static struct mem *mem;
static struct watch stopper;

/* ---- the device ---- */

/* A packet that waits for buffers is lost with them. */
static void take_down(struct fuzz *f)
{
	transport_down(&f->t);
	for (unsigned i = 0; i < f->pairs; i++)
		f->in[i].excuses++;
}

/* That of offloads at will is there, too, which only a tap has. */
static void negotiate(struct fuzz *f, uint8_t low, uint8_t high)
{
	static const uint64_t sets[] = {F(MRG_RXBUF), F(CTRL_VQ), F(CTRL_RX), F(CTRL_RX_EXTRA),
		F(CTRL_VLAN) | F(CTRL_MAC_ADDR), F(MQ), 1ull << VIRTIO_RING_F_EVENT_IDX,
		1ull << VIRTIO_RING_F_INDIRECT_DESC, F(CSUM), F(HOST_TSO4) | F(HOST_TSO6),
		F(HOST_UFO) | 1ull << NET_F_HOST_USO, F(HOST_ECN), F(GUEST_CSUM),
		F(GUEST_TSO4) | F(GUEST_TSO6),
		F(GUEST_UFO) | F(GUEST_ECN) | 1ull << NET_F_GUEST_USO4 | 1ull << NET_F_GUEST_USO6,
		F(GUEST_ANNOUNCE) | F(CTRL_GUEST_OFFLOADS)};
	unsigned bits = (unsigned)high << 8 | low;

	f->m.features = F(MAC) | F(STATUS);
	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
		f->m.features |= bits >> i & 1 ? sets[i] : 0;
	f->t.dev->features = f->m.features;
}

/* As a reset makes them: new rings. What was in them is not heard of again. */
static void renew(struct fuzz *f, uint8_t bits)
{
	uint16_t size = (uint16_t)(1u << (f->t.hostile ? bits % 9 : 6 + bits % 3));

	transport_renew(&f->t, RINGS, RING_ROOM, size);
	for (unsigned i = 0; i < f->t.queues; i++)
		for (unsigned s = 0; s < SLOTS; s++)
			f->slot[i][s].busy = false;
	for (unsigned i = 0; i < f->pairs; i++) {
		f->out[i].first = f->out[i].end;
		f->smallest[i] = UINT32_MAX;
	}
	model_reset(&f->m, honest_mac);
}

/* ---- the hostile driver ---- */

static void attack(struct fuzz *f, const uint8_t op[8])
{
	struct driver *d = &f->t.q[op[1] % f->t.queues];
	uint8_t *ram = mem_get(mem, 0, RAM);
	uint64_t addr = (uint64_t)get_le16(op + 4) << (op[1] >> 4);
	struct virtio_net_hdr_v1 h;

	switch (op[2] % 6) {
	case 0:
		ram[RINGS + get_le16(op + 4) % (RING_ROOM * QUEUES)] = op[6];
		break;
	case 1:
	case 2:
		driver_desc(d, op[3] % d->setup.size, addr, op[6] * (op[7] & 0x80 ? 256u : 1u),
			op[7] & 7);
		break;
	case 3: /* more often than there are entries */
		for (unsigned n = op[4] < 0xf0 ? op[4] % 4 + 1u : op[4]; n; n--)
			driver_offer(d, op[3] % d->setup.size);
		break;
	case 4:
		honest_header(&h, op, 60);
		mem_write(mem, addr, &h, sizeof(h));
		break;
	default:
		mem_write(mem, addr, op + 2, 6);
	}
	f->t.kick_again[op[1] % f->t.queues] |= op[0] >> 7;
}

/* ---- both ---- */

/* Whatever leaves must be such as the device may let through. */
static void check_left(struct fuzz *f, unsigned pair, const uint8_t *packet, size_t len)
{
	struct virtio_net_hdr_v1 h, again;

	f->left++;
	if (!f->t.hostile) {
		honest_check_left(f, pair, packet, len);
		return;
	}
	check(len >= HDR);
	memcpy(&h, packet, HDR);
	check(model_sends(&f->m, &h, (uint32_t)len - HDR, &again));
	check(memcmp(&again, &h, HDR) == 0);
}

static void read_all(struct fuzz *f)
{
	static uint8_t packet[PACKET_MAX];
	ssize_t n;

	for (unsigned i = 0; i < f->pairs; i++)
		while ((n = recv(f->peer[i], packet, sizeof(packet), MSG_DONTWAIT)) > 0)
			check_left(f, i, packet, (size_t)n);
}

static void stop_loop(void *arg, uint32_t events)
{
	loop_stop(loop);
}

/* It is for good, and there is a reason. */
static void note_death(struct fuzz *f)
{
	bool closed = false, dead = virtio_net_link(f->t.dev) == VIRTIO_NET_LOST;

	for (unsigned i = 0; i < f->pairs; i++)
		closed |= f->peer[i] < 0;
	check(dead ? closed : !f->dead);
	f->dead = dead;
}

/* Whatever is ready has its turn, and what comes of it is looked at. */
static void settle(struct fuzz *f)
{
	transport_kick(&f->t);
	check(loop_run(loop) == 0);
	note_death(f);
	if (!f->deaf)
		read_all(f);
	for (unsigned i = 0; i < f->pairs && !f->t.hostile; i++)
		honest_reap(f, i);
}

/* Where a state is damaged the device is reset, as it is by who loads it. */
static void save_and_load(struct fuzz *f, const uint8_t op[8])
{
	struct stream_out out;
	struct stream_in in;
	bool damaged = f->t.hostile && op[4] & 1;

	stream_out_init(&out);
	f->t.dev->ops->save(f->t.dev, &out);
	check(out.err == 0);
	if (damaged)
		out.buf[get_le16(op + 5) % out.len] ^= op[7];
	stream_in_init(&in, out.buf, out.len);
	f->t.dev->ops->reset(f->t.dev);
	if (f->t.dev->ops->load(f->t.dev, &in)) {
		check(damaged);
		f->t.dev->ops->reset(f->t.dev);
	}
	f->m.announce = true;
	stream_out_finish(&out);
}

static void pause_or_reset(struct fuzz *f, const uint8_t op[8])
{
	take_down(f);
	read_all(f);
	if (op[2] & 1 || f->t.broken) {
		f->t.dev->ops->reset(f->t.dev);
		negotiate(f, op[3], op[4]);
		renew(f, op[5]);
	} else {
		save_and_load(f, op);
	}
	transport_up(&f->t);
}

/* An other end is closed. */
static void die(struct fuzz *f, unsigned pair)
{
	if (f->peer[pair] < 0)
		return;
	read_all(f);
	close(f->peer[pair]);
	f->peer[pair] = -1;
}

static void set_link(struct fuzz *f, bool up)
{
	f->m.up = up;
	virtio_net_set_link(f->t.dev, up);
	note_death(f);
	check(f->t.hostile || f->dead ||
		virtio_net_link(f->t.dev) == (up ? VIRTIO_NET_UP : VIRTIO_NET_DOWN));
}

static void check_config(const struct fuzz *f)
{
	struct virtio_net_config c;
	bool announce = f->m.announce && has(f, VIRTIO_NET_F_GUEST_ANNOUNCE);

	memcpy(&c, f->t.dev->config, sizeof(c));
	check(memcmp(c.mac, f->m.mac, 6) == 0);
	check(c.status == (f->m.up && !f->dead ? VIRTIO_NET_S_LINK_UP : 0) +
				  (announce ? VIRTIO_NET_S_ANNOUNCE : 0));
}

static void operate(struct fuzz *f, const uint8_t op[8])
{
	switch (op[0] % 16) {
	case 0:
		if (op[1] < 96)
			pause_or_reset(f, op);
		else if (op[1] < 160)
			f->deaf = op[2] & 1;
		else if (op[1] < 240)
			set_link(f, op[2] & 1);
		else if (op[1] >= 254)
			die(f, op[2] % f->pairs);
		break;
	case 1:
		f->t.kick_again[op[1] % f->t.queues] = true;
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		honest_arrive(f, op);
		break;
	case 6:
	case 7:
	case 8:
		if (!f->t.hostile)
			honest_command(f, op);
		else
			attack(f, op);
		break;
	case 9:
	case 10:
	case 11:
		if (!f->t.hostile)
			honest_give(f, op);
		else
			attack(f, op);
		break;
	default:
		if (!f->t.hostile)
			honest_post(f, op);
		else
			attack(f, op);
	}
	settle(f);
	if (f->t.broken)
		pause_or_reset(f, op);
	if (!f->t.hostile)
		check_config(f);
}

/* ---- one input ---- */

static void make_device(struct fuzz *f, struct made *m, uint32_t mtu)
{
	struct virtio_net_args args = {
		.name = "net", .end = {.pairs = f->pairs}, .mtu = mtu, .link_up = true};
	const int room = 40000; /* the kernel doubles it: one of the largest packets, and a few */

	memcpy(args.mac, honest_mac, 6);
	for (unsigned i = 0; i < f->pairs; i++) {
		int ends[2];

		check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) ==
			0);
		check(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
		args.end.fd[i] = m->own[i] = ends[0];
		m->peer[i] = ends[1];
	}
	check(virtio_net_create(&m->dev, &args) == 0);
}

static struct net_counters count(const struct fuzz *f)
{
	struct virtio_net_counters c;

	virtio_net_count(f->t.dev, &c);
	return c.port;
}

static void begin(struct fuzz *f, const uint8_t head[4])
{
	bool large = head[0] & 0x10;
	struct made *m;

	f->t.hostile = head[0] & 1;
	f->deaf = head[0] & 2;
	f->pairs = 1 + (head[0] >> 2) % PAIRS;
	f->m = (struct model){.pairs_max = f->pairs, .mtu = large ? 9000 : 1500, .up = true};
	f->made = m = &made[f->pairs - 1 + (large ? PAIRS : 0)];
	if (!m->dev)
		make_device(f, m, large ? 9000 : 0);
	memcpy(f->peer, m->peer, sizeof(f->peer));
	f->t.mem = mem;
	f->t.dev = m->dev;
	f->t.queues = 2 * f->pairs + 1;
	transport_attach(&f->t, loop);
	f->before = count(f);
	virtio_net_set_link(f->t.dev, true);
	negotiate(f, head[1], head[2]);
	renew(f, head[3]);
	transport_up(&f->t);
}

/* All that is under way is given the chance to arrive, and nothing may be left but what the driver
 * has not given the room for. */
static void finish_traffic(struct fuzz *f)
{
	uint64_t before;

	f->deaf = false;
	do {
		before = f->delivered + f->used + f->left;
		for (unsigned i = 0; i < f->m.pairs; i++) {
			honest_give_all(f, i);
			f->t.kick_again[2 * i] = f->t.kick_again[2 * i + 1] = true;
		}
		settle(f);
		settle(f);
	} while (f->delivered + f->used + f->left != before);
	for (unsigned i = 0; i < f->m.pairs; i++)
		check(f->t.q[2 * i + 1].avail_next == f->t.q[2 * i + 1].used_next);
}

static uint64_t count_left(int fd)
{
	uint64_t n = 0;
	uint8_t byte;

	while (recv(fd, &byte, 1, MSG_DONTWAIT) > 0)
		n++;
	return n;
}

/* Whatever was sent was delivered, or counted as dropped, or nobody was there to take it. */
static void account(struct fuzz *f)
{
	const struct net_counters c = count(f), *b = &f->before;
	uint64_t left = 0, dropped = 0;

	for (unsigned i = 0; i < f->pairs; i++) {
		uint64_t here = count_left(f->made->own[i]);

		check(!here || i >= f->m.pairs || !f->m.up || !honest_receives(f, i) ||
			honest_room(f, i) < model_longest(&f->m));
		left += here;
	}
	for (unsigned i = 0; i < NET_DROPS; i++)
		dropped += c.drops[i] - b->drops[i];
	check(c.rx.packets - b->rx.packets == f->delivered);
	check(c.tx.packets - b->tx.packets == f->left);
	check(c.drops[NET_DROP_REFUSED] == b->drops[NET_DROP_REFUSED]);
	check(f->arrived + f->used == f->delivered + f->left + dropped + left);
}

/* A device that has lost an other end is of no more use. */
static void end(struct fuzz *f)
{
	bool closed = false;

	if (!f->t.hostile)
		finish_traffic(f);
	take_down(f);
	read_all(f);
	if (!f->t.hostile && !f->dead)
		account(f);
	f->t.dev->ops->reset(f->t.dev);
	for (unsigned i = 0; i < f->pairs; i++) {
		count_left(f->made->own[i]);
		closed |= f->peer[i] < 0;
	}
	if (!closed)
		return;
	virtio_net_destroy(f->t.dev);
	for (unsigned i = 0; i < f->pairs; i++)
		if (f->peer[i] >= 0)
			close(f->peer[i]);
	f->made->dev = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;

	if (size < 4)
		return 0;
	if (!mem) {
		log_set_level(LOG_LEVEL_ERROR);
		check(mem_create(&mem, RAM, MEM_PRIVATE) == 0 && loop_create(&loop, "fuzz") == 0);
		stopper = WATCH_INIT(stop_loop, NULL);
		check(loop_add(loop, &stopper, eventfd(1, EFD_NONBLOCK), EPOLLIN) == 0);
	}
	memset(&f, 0, sizeof(f));
	begin(&f, data);
	for (size_t i = 4; i + 8 <= size && i < 4 + 8 * OPERATIONS; i += 8)
		operate(&f, data + i);
	end(&f);
	return 0;
}
