// SPDX-License-Identifier: MIT
// Each way to send a packet or a command wrong (virtio 1.2, 5.1.6): what is answered, what breaks
// the device, and that it goes on after a reset. tests/vm/net-watch looks at what gets out.
//
// Frames carry a number and whether they may get out. In the end those that the host sends are
// answered with their length and the sum of their bytes.
#include "tests/guests/net.h"

#include <string.h>

#define W VRING_DESC_F_WRITE
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT
#define END_OF_RAM MIB(16)

#define ALL                                                                                        \
	(RING_EVENT | RING_INDIRECT | NET_F(MRG_RXBUF) | NET_F(CSUM) | NET_F(HOST_TSO4) |          \
		NET_F(GUEST_CSUM) | NET_F(GUEST_TSO4) | NET_F(CTRL_VQ) | NET_F(CTRL_RX) |          \
		NET_F(CTRL_RX_EXTRA) | NET_F(CTRL_VLAN) | NET_F(CTRL_MAC_ADDR) |                   \
		NET_F(GUEST_ANNOUNCE) | NET_F(CTRL_GUEST_OFFLOADS))

static struct net net;
static uint8_t *packet;
static uint8_t host[6];
static uint32_t number; /* of frames that may get out */

/* ---- frames ---- */

/* A frame for the host; one that may get out has the next number. */
static struct virtio_net_hdr_v1 *compose(uint32_t len, bool good)
{
	uint8_t *frame = packet + NET_HEADER;

	memset(packet, 0, NET_HEADER + len);
	memcpy(frame, host, 6);
	memcpy(frame + 6, net.mac, 6);
	frame[12] = NET_TEST >> 8;
	frame[13] = NET_TEST & 0xff;
	memcpy(frame + 14, &number, 4);
	frame[18] = good;
	if (good)
		number++;
	return (struct virtio_net_hdr_v1 *)packet;
}

static void send_good(uint32_t len)
{
	compose(len, true);
	net_send(&net, packet, NET_HEADER + len);
}

/* IPv4 and TCP, to be cut into segments: what comes out is one frame of `len` bytes. */
static void send_segments(uint32_t len)
{
	struct virtio_net_hdr_v1 *h = compose(len, true);
	uint8_t *ip = packet + NET_HEADER + 14;

	memcpy(packet + NET_HEADER + len - 5, ip, 5); /* number and mark */
	ip[-2] = 8;
	ip[-1] = 0;
	ip[0] = 0x45;
	ip[2] = (uint8_t)((len - 14) >> 8);
	ip[3] = (uint8_t)(len - 14);
	ip[4] = 0;
	ip[8] = 64;
	ip[9] = 6;
	ip[20 + 12] = 5 << 4;
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	h->gso_size = 1400;
	h->hdr_len = 54;
	h->csum_start = 34;
	h->csum_offset = 16;
	net_send(&net, packet, NET_HEADER + len);
}

static void start(uint64_t features)
{
	net_start(&net, features);
	CHECK(!virtio_broken(&net.v));
}

/* ---- headers that lie ---- */

static void lying_headers(void)
{
	static const struct virtio_net_hdr_v1 lies[] = {
		{.flags = 1, .csum_start = 59},
		{.flags = 1, .csum_start = 58, .csum_offset = 1},
		{.flags = 1, .csum_start = 65535, .csum_offset = 65535},
		{.flags = 1, .csum_offset = 65534},
		{.gso_type = 1, .gso_size = 100, .hdr_len = 54},
		{.flags = 1, .gso_type = 1, .hdr_len = 54},
		{.flags = 1, .gso_type = 1, .gso_size = 100, .hdr_len = 61},
		{.flags = 1, .gso_type = 1, .gso_size = 100, .hdr_len = 65535},
		{.flags = 1, .gso_type = 0x81, .gso_size = 100, .hdr_len = 54},
		{.flags = 1, .gso_type = 0x80, .gso_size = 100, .hdr_len = 54},
		{.flags = 1, .gso_type = 2, .gso_size = 100, .hdr_len = 54},
		{.flags = 1, .gso_type = 4, .gso_size = 100, .hdr_len = 54},
		{.flags = 1, .gso_type = 0x7f, .gso_size = 100, .hdr_len = 54},
	};

	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		*compose(60, false) = lies[i];
		net_send(&net, packet, NET_HEADER + 60);
		send_good(60);
	}
	for (uint32_t len = 1; len < NET_HEADER + 14; len++) {
		compose(60, false);
		net_send(&net, packet, len);
	}
	compose(NET_FRAME_MAX + 1, false);
	net_send(&net, packet, NET_HEADER + NET_FRAME_MAX + 1);
	send_good(19);
	CHECK(!virtio_broken(&net.v));
}

/* ---- chains ---- */

/* A driver's mistakes in a ring: each descriptor as it is said, the first one at `head`. */
struct chain {
	unsigned head, n;
	struct vring_desc d[3];
};

static struct vring_desc table[3]; /* indirect */

static const struct chain bad_chains[] = {
	{0, 1, {{.len = 0}}}, {0, 1, {{.addr = END_OF_RAM - 16, .len = 17}}},
	{0, 1, {{.addr = UINT64_MAX - 4, .len = 60}}}, {0, 1, {{.addr = LAYOUT_LAPIC, .len = 60}}},
	{0, 1, {{.len = UINT32_MAX}}},
	{0, 2, {{.len = 60, .flags = NEXT, .next = 1}, {.len = 60, .flags = NEXT, .next = 0}}},
	{0, 1, {{.len = 60, .flags = NEXT, .next = NET_RING}}}, {NET_RING, 1, {{.len = 60}}},
	{65535, 1, {{.len = 60}}}, {0, 2, {{.len = 60, .flags = W | NEXT, .next = 1}, {.len = 60}}},
	{0, 1, {{.len = 0, .flags = INDIRECT}}}, {0, 1, {{.len = 17, .flags = INDIRECT}}},
	{0, 1, {{.len = 16 * 1025, .flags = INDIRECT}}},
	{0, 1, {{.addr = END_OF_RAM - 16, .len = 48, .flags = INDIRECT}}},
	{0, 1, {{.len = 48, .flags = INDIRECT | NEXT, .next = 1}}},
	{0, 1, {{.addr = 1, .len = 48, .flags = INDIRECT}}}, /* 1: the table, with one in it */
};

static void await_broken(void)
{
	while (!virtio_broken(&net.v))
		relax();
}

static void offer_bad(struct ring *r, const struct chain *c)
{
	table[0] = (struct vring_desc){.addr = (uint64_t)table, .len = 48, .flags = INDIRECT};
	for (unsigned i = 0; i < c->n; i++) {
		r->desc[i] = c->d[i];
		if (!c->d[i].addr)
			r->desc[i].addr = (uint64_t)packet;
		if (c->d[i].addr == 1)
			r->desc[i].addr = (uint64_t)table;
	}
	ring_offer(r, c->head);
	ring_kick(r);
	await_broken();
}

/* More than there is room for in the ring. */
static void offer_too_many(struct ring *r)
{
	r->offered += NET_RING;
	ring_offer(r, 0);
	ring_kick(r);
	await_broken();
}

static void reads_only(struct ring *r)
{
	ring_desc(r, 0, packet, 60, 0);
	ring_offer(r, 0);
	ring_kick(r);
	await_broken();
}

/* The receive queue has all its buffers already: it is begun without. */
static void start_without_buffers(void)
{
	net.features = ALL & virtio_offered(&net.v);
	virtio_start(&net.v, net.features);
	virtio_queue(&net.v, &net.rx, 0, NET_RING);
	virtio_live(&net.v);
}

static void malformed_chains(void)
{
	for (unsigned i = 0; i < sizeof(bad_chains) / sizeof(bad_chains[0]); i++) {
		compose(60, false);
		start(ALL);
		offer_bad(&net.tx, &bad_chains[i]);
		start(ALL);
		offer_bad(&net.ctrl, &bad_chains[i]);
		start_without_buffers();
		offer_bad(&net.rx, &bad_chains[i]);
		start(ALL);
		send_good(60);
	}
	start_without_buffers();
	reads_only(&net.rx);
	start_without_buffers();
	offer_too_many(&net.rx);
	start(ALL);
	offer_too_many(&net.tx);
	start(ALL);
	offer_too_many(&net.ctrl);
	start(ALL & ~RING_INDIRECT);
	offer_bad(&net.tx, &(struct chain){0, 1, {{.addr = 1, .len = 16, .flags = INDIRECT}}});
	start(ALL);
	/* One to be written only is a packet without a header. */
	ring_desc(&net.tx, 0, packet, 60, W);
	ring_offer(&net.tx, 0);
	ring_kick(&net.tx);
	CHECK_EQUAL(ring_wait(&net.tx, &(uint32_t){0}), 0);
	send_good(60);
}

/* ---- commands of each length ---- */

static void command_lengths(uint8_t class, uint8_t command, const void *data, uint32_t len)
{
	static uint8_t buffer[512];

	memset(buffer, 0, sizeof(buffer));
	memcpy(buffer, data, len);
	for (uint32_t i = 0; i < len + 9; i++)
		CHECK_EQUAL(net_command(&net, class, command, buffer, i),
			i == len ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
	CHECK_EQUAL(net_command(&net, class, 0x7f, buffer, len), VIRTIO_NET_ERR);
}

/* Less than its two bytes, and no room for an answer. */
static void half_commands(void)
{
	uint32_t head;

	for (unsigned i = 0; i < 4; i++) {
		uint8_t *answer = net.ctrl_data + 8;

		*answer = 0xee;
		if (i < 2)
			ring_desc(&net.ctrl, 0, net.ctrl_data, 1, NEXT);
		else
			ring_desc(&net.ctrl, 0, net.ctrl_data, i, 0);
		ring_desc(&net.ctrl, 1, answer, 1, W);
		ring_offer(&net.ctrl, i == 1);
		ring_kick(&net.ctrl);
		CHECK_EQUAL(ring_wait(&net.ctrl, &head), i < 2);
		CHECK_EQUAL(head, i == 1);
		CHECK_EQUAL(*answer, i < 2 ? VIRTIO_NET_ERR : 0xee);
	}
}

static void truncated_commands(void)
{
	const uint64_t offloads = NET_F(GUEST_CSUM) | NET_F(GUEST_TSO4);
	const uint16_t vlan = 4095, far = 4096;
	const uint8_t on = 1;
	uint8_t tables[4 + 12 + 4 + 6] = {2, [6] = 2, [12] = 2, [16] = 1, [20] = 1};

	for (unsigned i = 0; i <= VIRTIO_NET_CTRL_RX_NOBCAST; i++)
		command_lengths(VIRTIO_NET_CTRL_RX, (uint8_t)i, &on, 1);
	command_lengths(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables));
	command_lengths(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, net.mac, 6);
	command_lengths(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &vlan, 2);
	command_lengths(VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, "", 0);
	command_lengths(
		VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &offloads, 8);
	CHECK_EQUAL(net_command(&net, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &far, 2),
		VIRTIO_NET_ERR);
	CHECK_EQUAL(net_command(&net, 0x55, 0, &on, 1), VIRTIO_NET_ERR);
	tables[0] = tables[1] = tables[2] = tables[3] = 0xff;
	CHECK_EQUAL(net_command(&net, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables,
			    sizeof(tables)),
		VIRTIO_NET_ERR);
	half_commands();
}

/* ---- what the host sends ---- */

static void answer(uint32_t len)
{
	uint32_t sum = 0, words[2];

	for (uint32_t i = NET_HEADER; i < len; i++)
		sum += packet[i];
	words[0] = len - NET_HEADER;
	words[1] = sum;
	compose(60, true);
	memcpy(packet + NET_HEADER + 19, words, sizeof(words));
	net_send(&net, packet, NET_HEADER + 60);
}

/* The next frame for us; others have theirs about us. */
static uint32_t receive(void)
{
	for (;;) {
		uint32_t len = net_receive(&net, packet);

		if (len && !memcmp(packet + NET_HEADER, net.mac, 6))
			return len;
		relax();
	}
}

void guest_main(void)
{
	uint32_t len;

	packet = alloc(NET_HEADER + NET_FRAME_MAX + NET_BUFFER, 4096);
	net_find(&net);
	start(ALL);
	print("READY\n");
	receive();
	memcpy(host, packet + NET_HEADER + 6, 6);
	lying_headers();
	malformed_chains();
	truncated_commands();
	start(ALL);
	send_segments(1514);
	send_segments(NET_FRAME_MAX - 4);
	while (len = receive(), net_type(packet + NET_HEADER) != NET_END)
		answer(len);
}
