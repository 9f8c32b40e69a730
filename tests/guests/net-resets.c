// SPDX-License-Identifier: MIT
// A driver that comes and goes under traffic: when the status reads 0 nothing in guest memory
// changes any more, and the next life begins with nothing of the last one.
#include "tests/guests/net.h"

#include <string.h>

#define ROUNDS 300u

static struct net net;
static uint8_t *packet;

/* Each life has other features and lasts another while. */
static unsigned live(unsigned round)
{
	static const uint64_t features[] = {0, RING_EVENT | NET_F(MRG_RXBUF),
		RING_INDIRECT | NET_F(CTRL_VQ) | NET_F(CTRL_RX),
		RING_EVENT | NET_F(MRG_RXBUF) | NET_F(CSUM) | NET_F(GUEST_CSUM) |
			NET_F(GUEST_TSO4) | NET_F(HOST_TSO4)};
	unsigned got = 0;

	net_start(&net, features[round % 4]);
	for (unsigned n = round % 50 * 40; n; n--) {
		uint32_t len = net_receive(&net, packet);

		if (!len) {
			relax();
			continue;
		}
		got++;
		/* Not waited for: the reset comes before it has gone, or after. */
		ring_desc(&net.tx, 0, packet, len, 0);
		ring_offer(&net.tx, 0);
		ring_kick(&net.tx);
	}
	return got;
}

static void check_silence(void)
{
	const uint64_t *word = (const uint64_t *)net.rx_buffers;
	uint16_t rx = net.rx.used->idx, tx = net.tx.used->idx;

	memset(net.rx_buffers, 0, (size_t)NET_RING * NET_BUFFER);
	for (unsigned i = 0; i < 2000; i++)
		relax();
	for (size_t i = 0; i < (size_t)NET_RING * NET_BUFFER / 8; i++)
		CHECK_EQUAL(word[i], 0);
	CHECK_EQUAL(__atomic_load_n(&net.rx.used->idx, __ATOMIC_ACQUIRE), rx);
	CHECK_EQUAL(__atomic_load_n(&net.tx.used->idx, __ATOMIC_ACQUIRE), tx);
}

void guest_main(void)
{
	unsigned got = 0;

	packet = alloc(NET_HEADER + NET_FRAME_MAX + NET_BUFFER, 4096);
	net_find(&net);
	print("READY\n");
	for (unsigned i = 0; i < ROUNDS || got < ROUNDS; i++) {
		got += live(i);
		virtio_reset(&net.v);
		check_silence();
	}
	print("frames: ");
	print_number(got);
	print("\n");
}
