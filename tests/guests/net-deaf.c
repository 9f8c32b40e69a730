// SPDX-License-Identifier: MIT
// Gives buffers once and takes nothing out of them: says FULL when all are used. Once the power
// button is pressed it receives as it should, until it is told to end; says how many frames.
#include "tests/guests/net.h"

static struct net net;

void guest_main(void)
{
	uint8_t *packet = alloc(NET_HEADER + NET_FRAME_MAX + NET_BUFFER, 4096);
	unsigned count = 0;

	net_find(&net);
	net_start(&net, RING_EVENT | NET_F(MRG_RXBUF));
	print("READY\n");
	while (__atomic_load_n(&net.rx.used->idx, __ATOMIC_ACQUIRE) != NET_RING)
		relax();
	print("FULL\n");
	while (!(in32(PORT_GED) & 1))
		relax();
	for (;;) {
		uint32_t len = net_receive(&net, packet);

		if (!len) {
			relax();
			continue;
		}
		count++;
		if (net_type(packet + NET_HEADER) == NET_END)
			break;
	}
	print("frames: ");
	print_number(count);
	print("\n");
}
