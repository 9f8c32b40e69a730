// SPDX-License-Identifier: MIT
// All NICs of this machine among many on one bridge (tests/vm/net-crowd): when the host says so
// each calls all others, then sends a frame to each of them; what each has heard is reported.
//
// A frame has, behind its type, what it is and the number of the NIC that it is from, which is the
// last byte of its address, too. Word of the command line: nics=N, how many there are in all.
#include "tests/guests/net.h"
#include "tests/guests/pci.h"

#include <string.h>

#define NICS 4u
#define SLOTS 32u
#define MINIMUM 60u
#define PACKET_ROOM 128u

enum { CALL = 1, ADDRESS, REPORT, CALLED, ADDRESSED, REPORTED };

struct report {
	uint64_t called, addressed; /* by whom, a bit each */
	uint32_t strays;            /* for others */
	uint32_t doubles;
};

static struct nic {
	struct net net;
	struct report heard;
} nic[NICS];

static unsigned nics, all;
static uint8_t *packet, *out, *outs;
static uint8_t host[6];
static bool ending;

static void find_all(void)
{
	for (unsigned slot = 0; slot < SLOTS && nics < NICS; slot++) {
		struct net *n = &nic[nics].net;

		if (!pci_take_virtio(&n->v, slot, VIRTIO_ID_NET))
			continue;
		for (unsigned i = 0; i < sizeof(n->mac); i++)
			n->mac[i] = mmio_read8(virtio_config(&n->v) + i);
		virtio_route(&n->v, VECTOR_IRQ);
		net_start(n, RING_EVENT | NET_F(MRG_RXBUF));
		nics++;
	}
}

static void compose(const struct nic *n, uint8_t *to_send, const uint8_t to[6], uint8_t what)
{
	uint8_t *frame = to_send + NET_HEADER;

	memcpy(frame, to, 6);
	memcpy(frame + 6, n->net.mac, 6);
	frame[12] = NET_TEST >> 8;
	frame[13] = NET_TEST & 0xff;
	frame[14] = what;
	frame[15] = n->net.mac[5];
}

static void send(struct nic *n, const uint8_t to[6], uint8_t what)
{
	compose(n, out, to, what);
	net_send(&n->net, out, NET_HEADER + MINIMUM);
}

static void call(struct nic *n)
{
	static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	send(n, everybody, CALLED);
}

/* All at once: on few processors it takes its time until the device has its turn. */
static void address_all(struct nic *n)
{
	struct ring *r = &n->net.tx;
	uint32_t head, len;

	for (unsigned i = 0; i < all; i++) {
		uint8_t *p = outs + i * PACKET_ROOM;

		compose(n, p, n->net.mac, ADDRESSED);
		p[NET_HEADER + 5] = (uint8_t)i;
		ring_desc(r, i, p, NET_HEADER + MINIMUM, 0);
		if (i != n->net.mac[5])
			ring_offer(r, i);
	}
	ring_kick(r);
	for (unsigned i = 1; i < all; i++)
		while (!ring_reap(r, &head, &len))
			relax();
}

static void hear(struct nic *n, uint64_t *by, unsigned from)
{
	if (*by >> from & 1)
		n->heard.doubles++;
	*by |= 1ull << from;
}

static void obey(struct nic *n, const uint8_t *frame)
{
	memcpy(host, frame + 6, 6);
	if (frame[14] == CALL) {
		memset(&n->heard, 0, sizeof(n->heard)); /* nobody has called before the host */
		call(n);
	} else if (frame[14] == ADDRESS) {
		address_all(n);
	}
	memcpy(out + NET_HEADER + 16, &n->heard, sizeof(n->heard));
	if (frame[14] == REPORT)
		send(n, host, REPORTED);
}

static void take(struct nic *n, const uint8_t *frame)
{
	bool mine = !memcmp(frame, n->net.mac, 6);

	ending |= net_type(frame) == NET_END;
	if (net_type(frame) != NET_TEST)
		return;
	if (!mine && frame[0] != 0xff)
		n->heard.strays++;
	else if (frame[14] <= REPORT)
		obey(n, frame);
	else if (frame[14] == CALLED && !mine)
		hear(n, &n->heard.called, frame[15] % 64);
	else if (frame[14] == ADDRESSED && mine)
		hear(n, &n->heard.addressed, frame[15] % 64);
	else
		n->heard.strays++;
}

/* With so many machines on few processors each is to sleep while there is nothing for it. In ring
 * 0, interrupts off: one that comes after the look ends the halt. */
static void halt_if_idle(void *arg)
{
	for (unsigned i = 0; i < nics; i++) {
		struct ring *r = &nic[i].net.rx;

		if (__atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE) != r->reaped)
			return;
	}
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static void sleep(void)
{
	for (unsigned i = 0; i < nics; i++)
		nic[i].net.rx.avail->ring[NET_RING] = nic[i].net.rx.reaped;
	fence();
	kernel_call(halt_if_idle, NULL);
}

void guest_main(void)
{
	all = (unsigned)told_number("nics=", 64);
	packet = alloc(NET_HEADER + NET_FRAME_MAX + NET_BUFFER, 4096);
	out = alloc(4096, 4096);
	irq_init();
	irq_enable();
	outs = alloc(all * PACKET_ROOM, 4096);
	find_all();
	CHECK_EQUAL(nics, NICS);
	print("READY\n");
	while (!ending) {
		for (unsigned i = 0; i < nics; i++)
			while (net_receive(&nic[i].net, packet))
				take(&nic[i], packet + NET_HEADER);
		sleep();
	}
}
