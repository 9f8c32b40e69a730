// SPDX-License-Identifier: MIT
// User mode's filter over frames of random bytes: nothing is read past a frame's end, what passes
// is what it was taken for, and a guest that is shut in opens no way out.
//
// The input is a byte of modes, one for what is put right, a virtio_net_hdr_v1 and a frame.
#include "base/log.h"
#include "base/util.h"
#include "net/slirp/filter.h"
#include "net/slirp/reply.h"

#include <linux/virtio_net.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RESTRICTED, OPEN, LISTED, HOST, MODES };

static struct policy policies[MODES];
static struct filter filters[MODES];
static uint64_t counts[SLIRP_COUNTS];
static int64_t now_ms;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void prepare(void)
{
	struct in6_addr a = {.s6_addr = {0x20, 1, 0xd, 0xb8, [15] = 1}};

	log_set_level(LOG_LEVEL_ERROR);
	policies[RESTRICTED].restricted = true;
	policies[LISTED].listed = policies[HOST].host = true;
	check(policy_publish(&policies[RESTRICTED], "8000:80/udp") == 0);
	check(policy_allow(&policies[LISTED], "192.0.2.0/24:80") == 0);
	check(policy_allow(&policies[LISTED], "[2001:db8::/32]:80") == 0);
	check(policy_allow(&policies[LISTED], "name.example") == 0);
	for (unsigned i = 0; i < MODES; i++)
		filter_init(&filters[i], &policies[i], counts);
	filter_learn(&filters[LISTED], "name.example", &a, 86400, 0);
}

/* Else few frames of random bytes would get anywhere: a type, a version, lengths, an address. */
static void put_right(uint8_t *frame, size_t len, uint8_t what)
{
	bool v4 = what & 1;
	uint8_t *ip = frame + FRAME_ETH;

	if (len < FRAME_ETH + 60)
		return;
	frame[12] = v4 ? 0x08 : 0x86;
	frame[13] = v4 ? 0x00 : 0xdd;
	ip[0] = v4 ? 0x45 : 0x60;
	if (what & 2) {
		ip[v4 ? 2 : 4] = (uint8_t)((len - FRAME_ETH - (v4 ? 0 : 40)) >> 8);
		ip[v4 ? 3 : 5] = (uint8_t)(len - FRAME_ETH - (v4 ? 0 : 40));
	}
	if (what & 4)
		ip[v4 ? 9 : 6] = what & 8 ? IPPROTO_TCP : IPPROTO_UDP;
	if (what & 16)
		memcpy(ip + (v4 ? 16 : 24), v4 ? "\xc0\0\2\1" : "\x20\1\xd\xb8", 4);
	if (what & 32 && v4)
		ip[6] = ip[7] = 0;
}

static void check_frame(const struct frame *f, size_t len)
{
	uint8_t reset[REPLY_HEADERS];
	struct frame r;

	check(f->end <= len && f->l4 <= f->end);
	if (f->kind == FRAME_ARP)
		return;
	frame_l4_sum(f);
	if (!frame_is_tcp_open(f))
		return;
	check(frame_parse(&r, reset, reply_reset(f, reset)) == FRAME_OK);
	check(r.flags == (TCP_RST | TCP_ACK) && frame_l4_sum(&r) == 0);
}

/* Of what goes out, that which would make a way to somewhere. */
static void check_verdict(const struct frame *f, unsigned mode, enum filter_verdict v)
{
	bool tcp = frame_is_tcp_open(f);

	if (v != FILTER_PASS || f->kind == FRAME_ARP || (f->protocol == IPPROTO_TCP && !tcp))
		return;
	if (f->protocol == IPPROTO_ICMPV6) /* goes no further than libslirp */
		return;
	/* Answers to whoever has asked a published port. */
	if (f->protocol == IPPROTO_UDP && mode == RESTRICTED)
		return;
	check(!IN6_IS_ADDR_LOOPBACK(&f->dst));
	check(f->kind == FRAME_IPV6 || f->dst.s6_addr[12] != 127);
	check(f->kind == FRAME_IPV4 || !IN6_IS_ADDR_V4MAPPED(&f->dst));
	check(mode != RESTRICTED || (!tcp && !f->fragment));
	check(mode != LISTED || !tcp || f->dst_port == 80 || f->dst.s6_addr[15] == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t frame[4096];
	struct virtio_net_hdr_v1 h;
	unsigned mode;
	struct frame f;
	size_t len;

	if (size < 2 + sizeof(h))
		return 0;
	if (!policies[LISTED].listed)
		prepare();
	mode = data[0] % MODES;
	memcpy(&h, data + 2, sizeof(h));
	len = MIN(size - 2 - sizeof(h), sizeof(frame));
	memcpy(frame, data + 2 + sizeof(h), len);
	put_right(frame, len, data[1]);
	if (!(data[0] & 0x80) && !frame_finish(&h, frame, len))
		return 0;
	/* At the end of what is its own, so that what reads further is seen. */
	{
		uint8_t *exact = malloc(len ? len : 1);

		check(exact);
		memcpy(exact, frame, len);
		if (frame_parse(&f, exact, len) == FRAME_OK) {
			check_frame(&f, len);
			now_ms += data[0] & 0x40 ? 1000 : 0;
			if (data[0] & 0x20)
				filter_in(&filters[mode], &f, now_ms);
			else
				check_verdict(&f, mode, filter_out(&filters[mode], &f, now_ms));
		}
		free(exact);
	}
	return 0;
}
