// SPDX-License-Identifier: MIT
// User mode's judgement: words of publish= and allow=, frames and their sums, what passes, what is
// learned of answers of DNS.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "net/slirp/dns.h"
#include "net/slirp/filter.h"
#include "net/slirp/reply.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>

static struct policy policy;
static struct filter filter;
static uint64_t counts[SLIRP_COUNTS];
static uint8_t frame[2048];

static int setup(void **state)
{
	memset(&policy, 0, sizeof(policy));
	memset(counts, 0, sizeof(counts));
	memset(frame, 0, sizeof(frame));
	filter_init(&filter, &policy, counts);
	return 0;
}

static struct in6_addr address(const char *text)
{
	struct in6_addr a;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return frame_ipv4(&v4);
	assert_int_equal(inet_pton(AF_INET6, text, &a), 1);
	return a;
}

static void test_publish(void **state)
{
	static const struct {
		const char *text;
		const char *host;
		uint16_t port, guest;
		bool udp;
	} good[] = {
		{"8080:80", "127.0.0.1", 8080, 80, false},
		{"1:65535/udp", "127.0.0.1", 1, 65535, true},
		{"0.0.0.0:8080:80/tcp", "0.0.0.0", 8080, 80, false},
		{"[::1]:8080:80", "::1", 8080, 80, false},
		{"[2001:db8::1]:53:53/udp", "2001:db8::1", 53, 53, true},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		const struct policy_publish *p = &policy.publish[i];
		char text[INET6_ADDRSTRLEN];
		bool v4;

		assert_int_equal(policy_publish(&policy, good[i].text), 0);
		v4 = p->host.any.sa_family == AF_INET;
		inet_ntop(p->host.any.sa_family,
			v4 ? (const void *)&p->host.v4.sin_addr : &p->host.v6.sin6_addr, text,
			sizeof(text));
		assert_string_equal(text, good[i].host);
		assert_int_equal(
			ntohs(v4 ? p->host.v4.sin_port : p->host.v6.sin6_port), good[i].port);
		assert_int_equal(p->guest_port, good[i].guest);
		assert_int_equal(p->udp, good[i].udp);
	}
	assert_int_equal(policy.published, ARRAY_SIZE(good));
}

static void test_publish_is_refused(void **state)
{
	static const char *const bad[] = {"", ":", "80", "80:", ":80", "0:80", "80:0", "65536:80",
		"80:65536", "80:80/", "80:80/sctp", "80:80/udp/tcp", "x:80", "80:x", "+80:80",
		"-1:80", " 80:80", "80 :80", "80:80 ", "1.2.3:80:80", "1.2.3.4.5:80:80",
		"localhost:80:80", "::1:80:80", "[::1:80:80", "[::1]80:80", "[::1]:80", "[]:80:80",
		"[1.2.3.4]:80:80", "[::1%lo]:80:80", "80:80:80:80", "080000:80",
		"[2001:db8:1111:2222:3333:4444:5555:6666:7777:8888:9999]:80:80:80:80:80:80:80:80"};
	char want[256];

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		if (policy_publish(&policy, bad[i]) != -EINVAL)
			fail_msg("publish %s", bad[i]);
		snprintf(want, sizeof(want),
			"publish %s: must be [ADDRESS:]HOSTPORT:GUESTPORT[/udp], ports from 1 to "
			"65535, an IPv6 address in brackets",
			bad[i]);
		assert_string_equal(last_error(), want);
	}
	assert_int_equal(policy.published, 0);
	assert_int_equal(policy_publish(&policy, "53:53/udp"), 0);
	assert_int_equal(policy_publish(&policy, "53:53"), 0);
	assert_int_equal(policy_publish(&policy, "[::1]:53:53/udp"), 0);
	assert_int_equal(policy_publish(&policy, "54:53/udp"), -EINVAL);
	assert_string_equal(last_error(),
		"publish 54:53/udp: the guest's port 53 is published for datagrams already, and "
		"its answers go one way");
	policy.published = 0;
	for (unsigned i = 0; i < POLICY_PUBLISH_MAX; i++)
		assert_int_equal(policy_publish(&policy, "80:80"), 0);
	assert_int_equal(policy_publish(&policy, "80:80"), -EINVAL);
	assert_string_equal(last_error(), "publish 80:80: at most 64 are taken");
}

static void test_allow(void **state)
{
	static const struct {
		const char *text, *name, *net;
		unsigned bits;
		uint16_t port;
	} good[] = {
		{"10.0.0.0/8", "", "10.0.0.0", 104, 0},
		{"10.0.0.0/8:443", "", "10.0.0.0", 104, 443},
		{"192.0.2.1", "", "192.0.2.1", 128, 0},
		{"192.0.2.1:22", "", "192.0.2.1", 128, 22},
		{"0.0.0.0/0", "", "0.0.0.0", 96, 0},
		{"2001:db8::/32", "", "2001:db8::", 32, 0},
		{"[2001:db8::/32]:22", "", "2001:db8::", 32, 22},
		{"[2001:db8::1]", "", "2001:db8::1", 128, 0},
		{"::/0", "", "::", 0, 0},
		{"Deb.Debian.org:80", "deb.debian.org", "::", 0, 80},
		{"localhost", "localhost", "::", 0, 0},
		{"_x-1.example", "_x-1.example", "::", 0, 0},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		const struct policy_rule *r = &policy.rule[i];
		struct in6_addr net = address(good[i].net);

		assert_int_equal(policy_allow(&policy, good[i].text), 0);
		assert_string_equal(r->name, good[i].name);
		assert_memory_equal(&r->net, &net, sizeof(net));
		assert_int_equal(r->bits, good[i].bits);
		assert_int_equal(r->port, good[i].port);
	}
	assert_true(policy_knows_name(&policy, "deb.debian.org"));
	assert_false(policy_knows_name(&policy, "debian.org"));
	assert_false(policy_knows_name(&policy, ""));
}

static void test_allow_is_refused(void **state)
{
	static const char *const bad[] = {"", ":", ":80", "/8", "10.0.0.0/", "10.0.0.0/33",
		"10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0", "10.0.0.256", "1", "a.1", "::/129", "::/",
		":::", "2001:db8::/32:22:", "[2001:db8::/32", "[2001:db8::/32]22",
		"[2001:db8::/32]:", "[2001:db8::/32]:0", "[]", "[name]", "[name]:80", "a..b", ".a",
		"a.", "a b", "a/8", "*.a", "a:0", "a:65536", "a:x", "a:80:80", "http://a",
		"0123456789012345678901234567890123456789012345678901234567890123.a"};
	char want[256];

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		if (policy_allow(&policy, bad[i]) != -EINVAL)
			fail_msg("allow %s", bad[i]);
		snprintf(want, sizeof(want), "allow %s: must be a host's name, an address", bad[i]);
		assert_memory_equal(last_error(), want, strlen(want));
	}
	assert_int_equal(policy_allow(&policy, "10.0.0.1/8"), -EINVAL);
	assert_string_equal(
		last_error(), "allow 10.0.0.1/8: the address has bits beyond its prefix");
	assert_int_equal(policy.rules, 0);
	for (unsigned i = 0; i < POLICY_RULES_MAX; i++)
		assert_int_equal(policy_allow(&policy, "a"), 0);
	assert_int_equal(policy_allow(&policy, "a"), -EINVAL);
	assert_string_equal(last_error(), "allow a: at most 64 are taken");
}

static void put_be16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* A frame of so many bytes behind the IP header, from the guest; its length. */
static size_t make(const char *dst, uint8_t protocol, uint16_t port, size_t l4)
{
	const struct in6_addr to = address(dst);
	bool v4 = IN6_IS_ADDR_V4MAPPED(&to);
	const struct in6_addr from = address(v4 ? SLIRP_IPV4_GUEST : SLIRP_IPV6_GUEST);
	uint8_t *ip = frame + FRAME_ETH, *at = ip + (v4 ? 20 : 40);

	memset(frame, 0, sizeof(frame));
	put_be16(frame + 12, v4 ? 0x0800 : 0x86dd);
	ip[0] = v4 ? 0x45 : 0x60;
	put_be16(ip + (v4 ? 2 : 4), v4 ? 20 + l4 : l4);
	ip[v4 ? 9 : 6] = protocol;
	memcpy(ip + (v4 ? 12 : 8), &from.s6_addr[v4 ? 12 : 0], v4 ? 4 : 16);
	memcpy(ip + (v4 ? 16 : 24), &to.s6_addr[v4 ? 12 : 0], v4 ? 4 : 16);
	put_be16(at, 1024);
	put_be16(at + 2, port);
	if (protocol == IPPROTO_UDP)
		put_be16(at + 4, l4);
	if (protocol == IPPROTO_TCP) {
		at[12] = 0x50;
		at[13] = TCP_SYN;
	}
	return (size_t)(at - frame) + l4;
}

static struct frame parsed(size_t len)
{
	struct frame f;

	assert_int_equal(frame_parse(&f, frame, len), FRAME_OK);
	return f;
}

static enum filter_verdict out(const char *dst, uint8_t protocol, uint16_t port, int64_t ms)
{
	struct frame f = parsed(make(dst, protocol, port, 20));

	return filter_out(&filter, &f, ms);
}

/* The other way: from `src`, for the guest's port 1024. */
static bool in(const char *src, uint8_t protocol, uint16_t port, int64_t ms)
{
	struct frame f = parsed(make(src, protocol, port, 20)), g = f;

	g.src = f.dst;
	g.dst = f.src;
	g.src_port = f.dst_port;
	g.dst_port = f.src_port;
	return filter_in(&filter, &g, ms);
}

static void test_parse(void **state)
{
	size_t len = make("192.0.2.1", IPPROTO_TCP, 80, 40);
	struct frame f = parsed(len);

	assert_int_equal(f.kind, FRAME_IPV4);
	assert_int_equal(f.l4, 34);
	assert_int_equal(f.end, len);
	assert_int_equal(f.dst_port, 80);
	assert_true(frame_is_tcp_open(&f));
	f = parsed(len + 100); /* padding */
	assert_int_equal(f.end, len);
	f = parsed(make("2001:db8::1", IPPROTO_UDP, 53, 8));
	assert_int_equal(f.kind, FRAME_IPV6);
	assert_int_equal(f.l4, 54);
	assert_int_equal(f.dst_port, 53);
	put_be16(frame + 12, 0x0806);
	assert_int_equal(parsed(FRAME_ETH + 28).kind, FRAME_ARP);
}

/* One byte of a good frame at a time, and what it is then. */
static void test_parse_refuses(void **state)
{
	static const struct {
		const char *dst;
		uint8_t protocol;
		unsigned at;
		uint8_t byte;
		enum frame_error is;
	} broken[] = {
		{"192.0.2.1", IPPROTO_TCP, 12, 0x09, FRAME_UNKNOWN},   /* the frame's type */
		{"192.0.2.1", IPPROTO_TCP, 14, 0x55, FRAME_MALFORMED}, /* version */
		{"192.0.2.1", IPPROTO_TCP, 14, 0x44, FRAME_MALFORMED}, /* header too short */
		{"192.0.2.1", IPPROTO_TCP, 14, 0x4f, FRAME_MALFORMED}, /* and too long */
		{"192.0.2.1", IPPROTO_TCP, 16, 1, FRAME_MALFORMED},    /* longer than the frame */
		{"192.0.2.1", IPPROTO_TCP, 17, 39, FRAME_MALFORMED},   /* no room for TCP */
		{"192.0.2.1", IPPROTO_TCP, 23, 47, FRAME_UNKNOWN},     /* protocol */
		{"192.0.2.1", IPPROTO_TCP, 23, 58, FRAME_UNKNOWN},     /* of the other IP */
		{"192.0.2.1", IPPROTO_TCP, 46, 0x40, FRAME_MALFORMED}, /* TCP's header too short */
		{"192.0.2.1", IPPROTO_TCP, 46, 0x60, FRAME_MALFORMED}, /* and too long */
		{"192.0.2.1", IPPROTO_UDP, 39, 7, FRAME_MALFORMED},    /* UDP's length too short */
		{"192.0.2.1", IPPROTO_UDP, 39, 21, FRAME_MALFORMED},   /* and too long */
		{"192.0.2.1", IPPROTO_ICMP, 17, 27, FRAME_MALFORMED},  /* no room for ICMP */
		{"2001:db8::1", IPPROTO_TCP, 14, 0x40, FRAME_MALFORMED},
		{"2001:db8::1", IPPROTO_TCP, 19, 21, FRAME_MALFORMED},
		{"2001:db8::1", IPPROTO_TCP, 20, 44, FRAME_UNKNOWN}, /* fragments of IPv6 */
		{"2001:db8::1", IPPROTO_TCP, 20, 1, FRAME_UNKNOWN},
		{"::fffe:127.0.0.1", IPPROTO_TCP, 49, 0xff, FRAME_MALFORMED}, /* IPv4 in IPv6 */
	};
	struct frame f;

	for (unsigned i = 0; i < ARRAY_SIZE(broken); i++) {
		size_t len = make(broken[i].dst, broken[i].protocol, 1, 20);

		assert_int_equal(frame_parse(&f, frame, len), FRAME_OK);
		frame[broken[i].at] = broken[i].byte;
		if (frame_parse(&f, frame, len) != broken[i].is)
			fail_msg("broken frame %u", i);
	}
	for (size_t len = 0; len < 54; len++) {
		make("192.0.2.1", IPPROTO_TCP, 1, 20);
		assert_int_equal(frame_parse(&f, frame, len), FRAME_MALFORMED);
	}
}

/* RFC 1071, 3, and one byte that is left over. */
static void test_sum(void **state)
{
	static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	uint8_t odd[4099];
	uint64_t want = 0;

	assert_int_equal(frame_fold(frame_sum(bytes, 8, 0)), (uint16_t)~htons(0xddf2));
	for (unsigned i = 0; i < sizeof(odd); i++) {
		odd[i] = (uint8_t)(i * 37 + 255);
		want += i & 1 ? odd[i] : (uint32_t)odd[i] << 8;
	}
	while (want >> 16)
		want = (want & 0xffff) + (want >> 16);
	assert_int_equal(
		frame_fold(frame_sum(odd, sizeof(odd), 0)), (uint16_t)~htons((uint16_t)want));
	memset(odd, 0xff, sizeof(odd));
	assert_int_equal(frame_fold(frame_sum(odd, 4096, UINT32_MAX)), 0);
}

static struct virtio_net_hdr_v1 header(uint8_t gso, uint16_t start, uint16_t offset)
{
	return (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = gso,
		.csum_start = start,
		.csum_offset = offset};
}

static void check_finished(const char *dst, uint8_t gso)
{
	bool v4 = !strchr(dst, ':');
	size_t len = make(dst, IPPROTO_TCP, 80, 1001), l4 = v4 ? 34 : 54;
	struct virtio_net_hdr_v1 h = header(gso, (uint16_t)l4, 16);
	struct frame f;
	uint16_t pseudo;

	memset(frame + l4 + 20, 0xa5, 981);
	f = parsed(len);
	/* The pseudo-header's sum alone, as drivers leave it: all the rest is zeroes to it. */
	pseudo = (uint16_t)~frame_fold(frame_sum(&f.src, 16, 0) + frame_sum(&f.dst, 16, 0) +
				       htons(IPPROTO_TCP) + htons(1001));
	memcpy(frame + l4 + 16, &pseudo, 2);
	if (gso && v4)
		put_be16(frame + 16, 552);
	assert_true(frame_finish(&h, frame, len));
	f = parsed(len);
	assert_int_equal(f.end, len);
	assert_int_equal(frame_l4_sum(&f), 0);
	if (gso && v4)
		assert_int_equal(frame_fold(frame_sum(frame + 14, 20, 0)), 0);
}

static void test_finish(void **state)
{
	check_finished("192.0.2.1", VIRTIO_NET_HDR_GSO_NONE);
	check_finished("2001:db8::1", VIRTIO_NET_HDR_GSO_NONE);
	check_finished("192.0.2.1", VIRTIO_NET_HDR_GSO_TCPV4);
	check_finished("192.0.2.1", VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN);
	check_finished("2001:db8::1", VIRTIO_NET_HDR_GSO_TCPV6);
}

static void test_finish_refuses(void **state)
{
	size_t len = make("192.0.2.1", IPPROTO_TCP, 80, 20);
	struct virtio_net_hdr_v1 h = header(0, 34, 19);

	assert_false(frame_finish(&h, frame, len));
	h = header(0, 55, 0);
	assert_false(frame_finish(&h, frame, len));
	h = header(0, 0xffff, 0xffff);
	assert_false(frame_finish(&h, frame, len));
	h = header(0, 34, 18);
	assert_true(frame_finish(&h, frame, len));
	h = header(VIRTIO_NET_HDR_GSO_UDP, 34, 6);
	assert_false(frame_finish(&h, frame, len));
	h = header(VIRTIO_NET_HDR_GSO_TCPV4, 34, 16);
	make("192.0.2.1", IPPROTO_UDP, 80, 20);
	assert_false(frame_finish(&h, frame, len));
	for (size_t cut = 0; cut < 54; cut++) {
		make("192.0.2.1", IPPROTO_TCP, 80, 20);
		assert_false(frame_finish(&h, frame, cut));
	}
	put_be16(frame + 12, 0x0806);
	assert_false(frame_finish(&h, frame, len));
}

static void test_open_guest(void **state)
{
	static const char *const local[] = {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1",
		"10.0.2.2", "10.0.2.77", "10.0.2.255", "169.254.169.254", "224.0.0.251",
		"239.255.255.250", "255.255.255.255", "::", "::1", "::127.0.0.1", "fec0::2",
		"fec0::1234", "fe80::2", "ff02::fb"};

	assert_int_equal(out("192.0.2.1", IPPROTO_TCP, 80, 0), FILTER_PASS);
	assert_int_equal(out("10.0.3.1", IPPROTO_UDP, 80, 0), FILTER_PASS);
	assert_int_equal(out("192.168.0.1", IPPROTO_ICMP, 8 << 8, 0), FILTER_DROP); /* no echo */
	assert_int_equal(out("2001:db8::1", IPPROTO_TCP, 80, 0), FILTER_PASS);
	assert_int_equal(out("10.0.2.3", IPPROTO_UDP, 53, 0), FILTER_PASS);
	assert_int_equal(out("10.0.2.3", IPPROTO_TCP, 53, 0), FILTER_PASS);
	assert_int_equal(out("fec0::3", IPPROTO_UDP, 53, 0), FILTER_PASS);
	assert_int_equal(out("10.0.2.3", IPPROTO_UDP, 54, 0), FILTER_DROP);
	assert_int_equal(out("10.0.2.3", IPPROTO_TCP, 54, 0), FILTER_REFUSE);
	assert_int_equal(out("255.255.255.255", IPPROTO_UDP, 67, 0), FILTER_PASS);
	assert_int_equal(out("10.0.2.2", IPPROTO_UDP, 67, 0), FILTER_PASS);
	assert_int_equal(out("10.0.2.2", IPPROTO_UDP, 69, 0), FILTER_DROP); /* TFTP */
	assert_int_equal(out("ff02::1:2", IPPROTO_UDP, 547, 0), FILTER_PASS);
	assert_int_equal(out("fec0::2", IPPROTO_UDP, 547, 0), FILTER_PASS);
	assert_int_equal(out("10.0.2.2", IPPROTO_UDP, 547, 0), FILTER_DROP); /* IPv6's alone */
	counts[SLIRP_LOCAL] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(local); i++) {
		assert_int_equal(out(local[i], IPPROTO_TCP, 80, 0), FILTER_REFUSE);
		assert_int_equal(out(local[i], IPPROTO_UDP, 80, 0), FILTER_DROP);
	}
	assert_int_equal(counts[SLIRP_LOCAL], 2 * ARRAY_SIZE(local));
	policy.host = true;
	assert_int_equal(out("10.0.2.2", IPPROTO_TCP, 80, 0), FILTER_PASS);
	assert_int_equal(out("fec0::2", IPPROTO_UDP, 80, 0), FILTER_PASS);
	assert_int_equal(out("127.0.0.1", IPPROTO_TCP, 80, 0), FILTER_REFUSE);
	assert_int_equal(out("fec0::77", IPPROTO_TCP, 80, 0), FILTER_REFUSE);
}

/* Of TCP only what opens a connection is looked at. */
static void test_segments(void **state)
{
	static const uint8_t flags[] = {TCP_ACK, TCP_SYN | TCP_ACK, TCP_RST, TCP_FIN | TCP_ACK,
		TCP_SYN | TCP_URG, TCP_SYN | TCP_FIN, 0};

	policy.restricted = true;
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		size_t len = make("192.0.2.1", IPPROTO_TCP, 80, 20);
		struct frame f;

		frame[34 + 13] = flags[i];
		f = parsed(len);
		assert_int_equal(filter_out(&filter, &f, 0), FILTER_PASS);
	}
	for (unsigned i = 0; i < 4; i++) { /* PSH, and bits that others ignore */
		size_t len = make("192.0.2.1", IPPROTO_TCP, 80, 20);
		struct frame f;

		frame[34 + 13] = (uint8_t)(TCP_SYN | (const uint8_t[]){8, 0x40, 0x80, 0xc8}[i]);
		f = parsed(len);
		assert_int_equal(filter_out(&filter, &f, 0), FILTER_REFUSE);
	}
}

static void test_fragments(void **state)
{
	size_t len = make("192.0.2.1", IPPROTO_UDP, 80, 20);
	struct frame f;

	frame[20] = 0x20;
	f = parsed(len);
	assert_true(f.fragment);
	assert_int_equal(filter_out(&filter, &f, 0), FILTER_PASS);
	policy.listed = true;
	assert_int_equal(policy_allow(&policy, "0.0.0.0/0"), 0);
	assert_int_equal(filter_out(&filter, &f, 0), FILTER_DROP);
	assert_false(filter_in(&filter, &f, 0));
	assert_int_equal(counts[SLIRP_FRAGMENT], 2);
	policy.listed = false;
	len = make("127.0.0.1", IPPROTO_TCP, 80, 20);
	frame[21] = 1;
	f = parsed(len);
	assert_int_equal(filter_out(&filter, &f, 0), FILTER_DROP);
	assert_int_equal(counts[SLIRP_LOCAL], 1);
}

static enum filter_verdict ping(const char *dst, uint8_t protocol, uint8_t type)
{
	size_t len = make(dst, protocol, 0, 20);
	struct frame f;

	frame[strchr(dst, ':') ? 54 : 34] = type;
	f = parsed(len);
	return filter_out(&filter, &f, 0);
}

static void test_icmp(void **state)
{
	assert_int_equal(ping("192.0.2.1", IPPROTO_ICMP, 8), FILTER_PASS);
	assert_int_equal(ping("127.0.0.1", IPPROTO_ICMP, 8), FILTER_DROP);
	assert_int_equal(ping("192.0.2.1", IPPROTO_ICMP, 3), FILTER_DROP);
	assert_int_equal(ping("fec0::2", IPPROTO_ICMPV6, 128), FILTER_PASS);
	assert_int_equal(ping("2001:db8::1", IPPROTO_ICMPV6, 128), FILTER_DROP);
	assert_int_equal(ping("ff02::2", IPPROTO_ICMPV6, 133), FILTER_PASS);
	assert_int_equal(ping("ff02::1", IPPROTO_ICMPV6, 134), FILTER_DROP);
	assert_int_equal(ping("ff02::1:ff00:2", IPPROTO_ICMPV6, 135), FILTER_PASS);
	assert_int_equal(ping("fec0::2", IPPROTO_ICMPV6, 137), FILTER_DROP);
	policy.listed = true;
	assert_int_equal(policy_allow(&policy, "192.0.2.1:80"), 0);
	assert_int_equal(policy_allow(&policy, "192.0.2.2"), 0);
	assert_int_equal(ping("192.0.2.1", IPPROTO_ICMP, 8), FILTER_DROP);
	assert_int_equal(ping("192.0.2.2", IPPROTO_ICMP, 8), FILTER_PASS);
	assert_int_equal(ping("10.0.2.2", IPPROTO_ICMP, 8), FILTER_PASS);
}

static void test_list(void **state)
{
	policy.listed = true;
	assert_int_equal(policy_allow(&policy, "192.0.2.0/25:443"), 0);
	assert_int_equal(policy_allow(&policy, "2001:db8::/33"), 0);
	assert_int_equal(policy_allow(&policy, "::/0:1"), -EINVAL);
	assert_int_equal(policy_allow(&policy, "[::/0]:1"), 0);
	assert_int_equal(out("192.0.2.127", IPPROTO_TCP, 443, 0), FILTER_PASS);
	assert_int_equal(out("192.0.2.127", IPPROTO_UDP, 443, 0), FILTER_PASS);
	assert_int_equal(out("192.0.2.128", IPPROTO_TCP, 443, 0), FILTER_REFUSE);
	assert_int_equal(out("192.0.2.1", IPPROTO_TCP, 80, 0), FILTER_REFUSE);
	assert_int_equal(out("2001:db8:7fff::1", IPPROTO_UDP, 80, 0), FILTER_PASS);
	assert_int_equal(out("2001:db8:8000::1", IPPROTO_UDP, 80, 0), FILTER_DROP);
	assert_int_equal(out("2001:db9::1", IPPROTO_TCP, 1, 0), FILTER_PASS);
	assert_int_equal(out("192.0.3.1", IPPROTO_TCP, 1, 0), FILTER_REFUSE); /* no IPv6 */
	assert_int_equal(out("10.0.2.3", IPPROTO_UDP, 53, 0), FILTER_DNS);
	assert_int_equal(out("10.0.2.3", IPPROTO_TCP, 53, 0), FILTER_REFUSE);
	assert_int_equal(out("10.0.2.2", IPPROTO_TCP, 443, 0), FILTER_REFUSE);
	policy.host = true;
	assert_int_equal(out("10.0.2.2", IPPROTO_TCP, 8080, 0), FILTER_PASS);
}

static void test_linklocal(void **state)
{
	policy.listed = true;
	assert_int_equal(policy_allow(&policy, "0.0.0.0/0"), 0);
	assert_int_equal(policy_allow(&policy, "169.0.0.0/8"), 0);
	assert_int_equal(out("169.254.169.254", IPPROTO_TCP, 80, 0), FILTER_REFUSE);
	assert_int_equal(out("169.253.1.1", IPPROTO_TCP, 80, 0), FILTER_PASS);
	assert_int_equal(policy_allow(&policy, "169.254.169.254:80"), 0);
	assert_int_equal(out("169.254.169.254", IPPROTO_TCP, 80, 0), FILTER_PASS);
	assert_int_equal(out("169.254.169.254", IPPROTO_TCP, 81, 0), FILTER_REFUSE);
	assert_int_equal(out("169.254.169.253", IPPROTO_TCP, 80, 0), FILTER_REFUSE);
}

static void test_flows(void **state)
{
	policy.restricted = true;
	assert_int_equal(policy_publish(&policy, "5000:1024/udp"), 0);
	assert_int_equal(out("10.0.2.2", IPPROTO_UDP, 9, 0), FILTER_DROP);
	assert_true(in("10.0.2.2", IPPROTO_UDP, 9, 0));
	assert_int_equal(out("10.0.2.2", IPPROTO_UDP, 9, 239000), FILTER_PASS);
	assert_int_equal(out("10.0.2.2", IPPROTO_UDP, 8, 239000), FILTER_DROP);
	assert_int_equal(out("10.0.2.1", IPPROTO_UDP, 9, 239000), FILTER_DROP);
	assert_int_equal(out("10.0.2.2", IPPROTO_UDP, 9, 478000), FILTER_PASS);
	assert_int_equal(out("10.0.2.2", IPPROTO_UDP, 9, 718000), FILTER_DROP);
	policy.published = 0;
	assert_false(in("192.0.2.1", IPPROTO_UDP, 9, 0));
	assert_true(in("10.0.2.2", IPPROTO_UDP, 67, 0));
	assert_false(in("192.0.2.1", IPPROTO_UDP, 67, 0));
	assert_true(in("192.0.2.1", IPPROTO_TCP, 9, 0));
	assert_int_equal(counts[SLIRP_UNASKED], 2);
}

/* Only from where a port is published comes who asks it; other sockets may have that port too. */
static void test_flows_of_publishers(void **state)
{
	policy.listed = true;
	assert_int_equal(policy_publish(&policy, "5000:1024/udp"), 0);
	assert_false(in("192.0.2.9", IPPROTO_UDP, 9, 0));
	assert_false(in("2001:db8::9", IPPROTO_UDP, 9, 0));
	assert_false(in("fec0::2", IPPROTO_UDP, 9, 0));
	assert_int_equal(counts[SLIRP_UNASKED], 3);
	assert_int_equal(out("192.0.2.9", IPPROTO_UDP, 9, 0), FILTER_DROP);
	assert_true(in("10.0.2.2", IPPROTO_UDP, 9, 0));
	assert_true(in("127.0.0.5", IPPROTO_UDP, 9, 0));
	assert_int_equal(out("127.0.0.5", IPPROTO_UDP, 9, 0), FILTER_PASS);
	assert_int_equal(policy_publish(&policy, "[::1]:5000:1024/udp"), 0);
	assert_true(in("fec0::2", IPPROTO_UDP, 9, 0));
	assert_false(in("2001:db8::9", IPPROTO_UDP, 9, 0));
	policy.published = 0;
	assert_int_equal(policy_publish(&policy, "0.0.0.0:5000:1024/udp"), 0);
	assert_true(in("192.0.2.9", IPPROTO_UDP, 9, 0));
	assert_false(in("2001:db8::9", IPPROTO_UDP, 9, 0));
	assert_int_equal(policy_publish(&policy, "[2001:db8::1]:5000:1024/udp"), 0);
	assert_true(in("2001:db8::9", IPPROTO_UDP, 9, 0));
}

/* More talk than there is room for: the last ones are known. */
static void test_many_flows(void **state)
{
	char text[32];

	policy.listed = true;
	assert_int_equal(policy_allow(&policy, "192.0.0.0/16:7"), 0);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(text, sizeof(text), "192.0.%u.%u", i >> 8, i & 255);
		assert_int_equal(out(text, IPPROTO_UDP, 7, i), FILTER_PASS);
		assert_true(in(text, IPPROTO_UDP, 7, i));
		assert_false(in(text, IPPROTO_UDP, 8, i));
	}
}

static void test_learning(void **state)
{
	const struct in6_addr one = address("192.0.2.1"), two = address("2001:db8::2");

	policy.listed = true;
	assert_int_equal(policy_allow(&policy, "a.example:80"), 0);
	assert_int_equal(policy_allow(&policy, "b.example"), 0);
	assert_int_equal(policy_allow(&policy, "a.example:443"), 0);
	assert_int_equal(out("192.0.2.1", IPPROTO_TCP, 80, 0), FILTER_REFUSE);
	filter_learn(&filter, "c.example", &one, 600, 0);
	assert_int_equal(out("192.0.2.1", IPPROTO_TCP, 80, 0), FILTER_REFUSE);
	filter_learn(&filter, "a.example", &one, 600, 0);
	assert_int_equal(out("192.0.2.1", IPPROTO_TCP, 80, 1), FILTER_PASS);
	assert_int_equal(out("192.0.2.1", IPPROTO_TCP, 443, 599999), FILTER_PASS);
	assert_int_equal(out("192.0.2.1", IPPROTO_TCP, 22, 1), FILTER_REFUSE);
	assert_int_equal(out("192.0.2.1", IPPROTO_TCP, 443, 600000), FILTER_REFUSE);
	filter_learn(&filter, "b.example", &two, 0, 0);
	assert_int_equal(out("2001:db8::2", IPPROTO_TCP, 22, 59999), FILTER_PASS);
	assert_int_equal(out("2001:db8::2", IPPROTO_TCP, 22, 60000), FILTER_REFUSE);
	filter_learn(&filter, "b.example", &two, UINT32_MAX, 0);
	assert_int_equal(out("2001:db8::2", IPPROTO_TCP, 22, 86399999), FILTER_PASS);
	assert_int_equal(out("2001:db8::2", IPPROTO_TCP, 22, 86400000), FILTER_REFUSE);
	for (unsigned i = 0; i < 3 * FILTER_LEARNED; i++) {
		struct in6_addr other = address("198.51.0.0");

		put_be16(&other.s6_addr[14], i);
		filter_learn(&filter, "b.example", &other, 100 + i, 0);
	}
	assert_int_equal(out("198.51.11.255", IPPROTO_TCP, 22, 1), FILTER_PASS);
	assert_int_equal(out("198.51.0.0", IPPROTO_TCP, 22, 1), FILTER_REFUSE);
}

static void test_replies(void **state)
{
	static const char *const peers[] = {"192.0.2.1", "2001:db8::1"};

	for (unsigned i = 0; i < ARRAY_SIZE(peers); i++) {
		struct frame f = parsed(make(peers[i], IPPROTO_TCP, 80, 20)), r;
		uint8_t reset[REPLY_HEADERS], datagram[REPLY_HEADERS + 7] = {0}, *at;
		size_t len = reply_reset(&f, reset);

		assert_int_equal(frame_parse(&r, reset, len), FRAME_OK);
		assert_int_equal(frame_l4_sum(&r), 0);
		assert_int_equal(r.flags, TCP_RST | TCP_ACK);
		assert_int_equal(r.src_port << 16 | r.dst_port, 80 << 16 | 1024);
		assert_memory_equal(&r.src, &f.dst, 16);
		assert_memory_equal(&r.dst, &f.src, 16);
		f = parsed(make(peers[i], IPPROTO_UDP, 53, 20));
		len = reply_datagram(&f, datagram, 7, &at);
		assert_ptr_equal(at + len, datagram + sizeof(datagram));
		assert_int_equal(frame_parse(&r, at, len), FRAME_OK);
		assert_int_equal(frame_l4_sum(&r), 0);
		assert_int_equal(r.end - r.l4, 15);
	}
}

/* A query for a.bc, and what may follow it. */
static const uint8_t query[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, /* a.bc */
	1, 'a', 2, 'B', 'c', 0, 0, 1, 0, 1};

static size_t answer(uint8_t *to, const uint8_t *records, size_t len, uint8_t count)
{
	memcpy(to, query, sizeof(query));
	to[2] |= 0x80;
	to[7] = count;
	memcpy(to + sizeof(query), records, len);
	return sizeof(query) + len;
}

#define CLASS_AND_TTL 0, 1, 0, 0, 0, 60

static void test_dns_answers(void **state)
{
	static const uint8_t records[] = {/* x: 9.9.9.9, somebody else's */
		1, 'x', 0, 0, 1, CLASS_AND_TTL, 0, 4, 9, 9, 9, 9,
		/* d: 1.2.3.4, of whom a.bc is an alias further down */
		1, 'd', 0, 0, 1, CLASS_AND_TTL, 0, 4, 1, 2, 3, 4,
		/* e is an alias of d, a.bc one of e */
		1, 'e', 0, 0, 5, CLASS_AND_TTL, 0, 3, 1, 'd', 0, 0xc0, 12, 0, 5, CLASS_AND_TTL, 0,
		3, 1, 'e', 0,
		/* d has an IPv6 address as well, and one that is none */
		1, 'd', 0, 0, 28, CLASS_AND_TTL, 0, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 1, 1, 'd', 0, 0, 1, CLASS_AND_TTL, 0, 3, 1, 2, 3};
	const struct in6_addr four = address("1.2.3.4"), six = address("2001:db8::1");
	struct dns_question q;
	struct dns_answer a;
	uint8_t m[512];
	size_t len = answer(m, records, sizeof(records), 6);

	assert_true(dns_parse_query(&q, query, sizeof(query)));
	assert_string_equal(q.name, "a.bc");
	assert_int_equal(q.id, 0x1234);
	assert_int_equal(q.end, sizeof(query));
	assert_true(dns_parse_answer(&a, &q, m, len));
	assert_int_equal(a.count, 2);
	assert_memory_equal(&a.address[0].address, &four, 16);
	assert_memory_equal(&a.address[1].address, &six, 16);
	assert_int_equal(a.address[0].ttl_s, 60);
	for (size_t cut = 0; cut < len; cut++)
		if (dns_parse_answer(&a, &q, m, cut))
			assert_true(cut >= sizeof(query) && a.count <= 2);
	assert_false(dns_parse_answer(&a, &q, query, sizeof(query)));
	m[0] ^= 1;
	assert_false(dns_parse_answer(&a, &q, m, len));
	m[0] ^= 1;
	m[13] = 'b';
	assert_false(dns_parse_answer(&a, &q, m, len));
}

static void test_dns_loops(void **state)
{
	/* The owner's name points to itself; then two aliases to each other. */
	static const uint8_t self[] = {0xc0, 22, 0, 1, CLASS_AND_TTL, 0, 4, 1, 2, 3, 4};
	static const uint8_t ring[] = {0xc0, 12, 0, 5, CLASS_AND_TTL, 0, 3, 1, 'e', 0, /* */
		1, 'e', 0, 0, 5, CLASS_AND_TTL, 0, 2, 0xc0, 12};
	struct dns_question q;
	struct dns_answer a;
	uint8_t m[512];

	assert_true(dns_parse_query(&q, query, sizeof(query)));
	assert_true(dns_parse_answer(&a, &q, m, answer(m, self, sizeof(self), 1)));
	assert_int_equal(a.count, 0);
	assert_true(dns_parse_answer(&a, &q, m, answer(m, ring, sizeof(ring), 2)));
	assert_int_equal(a.count, 0);
}

static void test_dns_queries(void **state)
{
	static const struct {
		unsigned at;
		uint8_t byte;
	} broken[] = {
		{2, 0x81},  /* an answer */
		{2, 0x29},  /* an update */
		{5, 0},     /* no question */
		{5, 2},     /* two */
		{12, 64},   /* a label of a kind that is not there */
		{12, 63},   /* longer than the message */
		{12, 0xc0}, /* elsewhere */
		{14, 0xc0}, /* the rest of it is in the header */
	};
	struct dns_question q;
	uint8_t m[sizeof(query)];

	for (unsigned i = 0; i < ARRAY_SIZE(broken); i++) {
		memcpy(m, query, sizeof(m));
		m[broken[i].at] = broken[i].byte;
		if (broken[i].at == 14)
			m[15] = 3;
		if (dns_parse_query(&q, m, sizeof(m)))
			fail_msg("broken query %u", i);
	}
	for (size_t len = 0; len < sizeof(query); len++)
		assert_false(dns_parse_query(&q, query, len));
	memcpy(m, query, sizeof(m));
	m[13] = '.';
	assert_true(dns_parse_query(&q, m, sizeof(m)));
	assert_string_equal(q.name, "?.bc");
	assert_int_equal(dns_refuse(&q, m), sizeof(m));
	assert_int_equal(m[2], 0x81);
	assert_int_equal(m[3], 5);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_publish),
		TEST(test_publish_is_refused),
		TEST(test_allow),
		TEST(test_allow_is_refused),
		TEST(test_parse),
		TEST(test_parse_refuses),
		TEST(test_sum),
		TEST(test_finish),
		TEST(test_finish_refuses),
		TEST(test_open_guest),
		TEST(test_segments),
		TEST(test_fragments),
		TEST(test_icmp),
		TEST(test_list),
		TEST(test_linklocal),
		TEST(test_flows),
		TEST(test_flows_of_publishers),
		TEST(test_many_flows),
		TEST(test_learning),
		TEST(test_replies),
		TEST(test_dns_answers),
		TEST(test_dns_loops),
		TEST(test_dns_queries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
