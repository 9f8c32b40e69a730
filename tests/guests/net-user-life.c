// SPDX-License-Identifier: MIT
// Sends the gateway pings and an echo of the host's datagrams, each numbered from 0, for a machine
// in user mode that is saved, destroyed, and goes on as another one at any moment, beside another
// process at the other end: of the answers none may come twice, before an earlier one, or damaged.
// A datagram also says how many answers of both kinds there were. One numbered UINT32_MAX ends it;
// says how many it has got.
#include "tests/guests/ip.h"

#include <string.h>

#define SIZE 200u
#define AT (IP_DATA + 8u)

enum { PINGS, DATAGRAMS, KINDS };

static struct net net;
static uint8_t *packet;
static uint32_t sent[KINDS], got[KINDS], next[KINDS];

static uint8_t pattern(uint32_t number, unsigned at)
{
	return (uint8_t)(number * 7 + at);
}

static void fill(unsigned kind)
{
	memcpy(packet + AT, &sent[kind], 4);
	memcpy(packet + AT + 4, got, sizeof(got));
	for (unsigned i = 4 + sizeof(got); i < SIZE; i++)
		packet[AT + i] = pattern(sent[kind], i);
	sent[kind]++;
}

static void send(void)
{
	static const uint16_t ports[2] = {7000, 7};

	fill(PINGS);
	net_send(&net, packet, ip_wrap_echo(&net, packet, ip_gateway, SIZE));
	fill(DATAGRAMS);
	net_send(&net, packet, ip_wrap_udp(&net, packet, ports, SIZE));
}

/* False at the end. */
static bool take(unsigned kind, uint32_t len)
{
	uint32_t number;

	CHECK_EQUAL(len, AT + SIZE);
	memcpy(&number, packet + AT, 4);
	if (number == UINT32_MAX)
		return false;
	CHECK(number >= next[kind] && number < sent[kind]);
	for (unsigned i = 4 + sizeof(got); i < SIZE; i++)
		CHECK_EQUAL(packet[AT + i], pattern(number, i));
	next[kind] = number + 1;
	got[kind]++;
	return true;
}

static bool judge(uint32_t len)
{
	if (ip_is(packet, len, IP_ICMP))
		return take(PINGS, len);
	if (ip_is(packet, len, IP_UDP))
		return take(DATAGRAMS, len);
	ip_answer_arp(&net, packet, len);
	return true;
}

static bool receive(void)
{
	bool more = true;
	uint32_t len;

	while (more && (len = net_receive(&net, packet)))
		more = judge(len);
	return more;
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
	tell("pings ", got[PINGS]);
	tell("datagrams ", got[DATAGRAMS]);
}
