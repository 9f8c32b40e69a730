// SPDX-License-Identifier: MIT
// Sends frames numbered from 0 and takes the host's, for a machine that is saved, destroyed, and
// goes on as another one at any moment: of the host's none may come twice, before an earlier one,
// or damaged. One of NET_END ends it; says how many it has sent and got.
#include "tests/guests/net.h"

#include <string.h>

#define SIZE 200u

static struct net net;
static uint8_t *packet;
static uint32_t sent, got, next;

static uint8_t pattern(uint32_t number, unsigned at)
{
	return (uint8_t)(number * 7 + at);
}

static void send(void)
{
	uint8_t *frame = packet + NET_HEADER;

	memset(packet, 0, NET_HEADER);
	memcpy(frame, "\2\0\0\xff\xff\xfe", 6);
	memcpy(frame + 6, net.mac, 6);
	frame[12] = NET_TEST >> 8;
	frame[13] = NET_TEST & 0xff;
	memcpy(frame + 14, &sent, 4);
	for (unsigned i = 18; i < SIZE; i++)
		frame[i] = pattern(sent, i);
	net_send(&net, packet, NET_HEADER + SIZE);
	sent++;
}

static bool receive(void)
{
	uint32_t number, len = net_receive(&net, packet);
	const uint8_t *frame = packet + NET_HEADER;

	if (!len || memcmp(frame, net.mac, 6) != 0)
		return true;
	if (net_type(frame) == NET_END)
		return false;
	CHECK_EQUAL(len, NET_HEADER + SIZE);
	memcpy(&number, frame + 14, 4);
	CHECK(number >= next);
	for (unsigned i = 18; i < SIZE; i++)
		CHECK_EQUAL(frame[i], pattern(number, i));
	next = number + 1;
	got++;
	return true;
}

static void tell(const char *what, uint32_t n)
{
	print(what);
	print_number(n);
	print("\n");
}

void guest_main(void)
{
	packet = alloc(NET_HEADER + NET_FRAME_MAX + NET_BUFFER, 4096);
	net_find(&net);
	net_start(&net, RING_EVENT | RING_INDIRECT | NET_F(MRG_RXBUF));
	print("READY\n");
	do {
		send();
	} while (receive());
	tell("sent ", sent);
	tell("got ", got);
}
