// SPDX-License-Identifier: MIT
// kvick-slirp as a process, with a guest made of raw packets and hosts in a network namespace of
// the test's own: 192.0.2.1 and 2001:db8::1 are others, 127.0.0.1 is the host.
#include "tests/unit/slirp_guest.h"
#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define OTHER4 "192.0.2.1"
#define OTHER6 "2001:db8::1"
#define REFUSED (TCP_RST | TCP_ACK)
#define OPENED (TCP_SYN | TCP_ACK)
#define CROWD 100u /* fewer than wait to be accepted at a port */
#define BIG 65492u /* with headers of IPv4 and UDP, a packet of the MTU */

static const char *program;
static struct slirp_guest guest;

#define BOOT(...) guest_boot(&guest, program, (const char *const[]){__VA_ARGS__, NULL})

/* Until the next call. */
static const struct in6_addr *to(const char *text)
{
	static struct in6_addr a;

	a = address(text);
	return &a;
}

static union {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
} sa;

static socklen_t set_address(const char *text, uint16_t port)
{
	memset(&sa, 0, sizeof(sa));
	if (inet_pton(AF_INET, text, &sa.v4.sin_addr) == 1) {
		sa.v4.sin_family = AF_INET;
		sa.v4.sin_port = htons(port);
		return sizeof(sa.v4);
	}
	assert_int_equal(inet_pton(AF_INET6, text, &sa.v6.sin6_addr), 1);
	sa.v6.sin6_family = AF_INET6;
	sa.v6.sin6_port = htons(port);
	return sizeof(sa.v6);
}

/* A socket bound to it, listening if it is a stream. *port 0: any, and which it is. */
static int serve(const char *text, int type, uint16_t *port)
{
	socklen_t len = set_address(text, *port);
	int fd = socket(sa.any.sa_family, type | SOCK_CLOEXEC, 0), one = 1;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(fd, &sa.any, len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, &sa.any, &len), 0);
	*port = ntohs(sa.any.sa_family == AF_INET ? sa.v4.sin_port : sa.v6.sin6_port);
	return fd;
}

/* As who comes from outside. */
static int dial(const char *text, uint16_t port, int type)
{
	socklen_t len = set_address(text, port);
	int fd = socket(sa.any.sa_family, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &sa.any, len), 0);
	return fd;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1;
}

static uint8_t *pattern(size_t len)
{
	uint8_t *p = malloc(len);

	assert_non_null(p);
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i >> 8) ^ i * 7);
	return p;
}

static void read_all(int fd, uint8_t *to, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n;

		assert_true(readable(fd, GUEST_WAIT_MS));
		n = read(fd, to + got, len - got);
		assert_true(n > 0);
		got += (size_t)n;
	}
}

/* Takes in that much of a connection, which the sender then ends; the largest segment. */
static size_t receive_all(struct guest_tcp *t, const uint8_t *want, size_t len)
{
	size_t got = 0, largest = 0;

	while (got < len) {
		assert_true(guest_next(&guest, t, GUEST_WAIT_MS));
		assert_true(got + t->len <= len);
		assert_memory_equal(t->data, want + got, t->len);
		got += t->len;
		largest = MAX(largest, t->len);
	}
	while (!(t->flags & TCP_FIN))
		assert_true(guest_next(&guest, t, GUEST_WAIT_MS));
	return largest;
}

static void check_stream(const char *other)
{
	const struct in6_addr dst = address(other);
	uint16_t port = 0;
	int listener = serve(other, SOCK_STREAM, &port), fd;
	struct guest_tcp t;
	char text[6] = "";
	uint8_t *data = pattern(300000);

	assert_int_equal(guest_connect(&guest, &t, 40000, &dst, port), OPENED);
	fd = accept(listener, NULL, NULL);
	guest_segment(&guest, &t, TCP_ACK, "hello", 5);
	read_all(fd, (uint8_t *)text, 5);
	assert_string_equal(text, "hello");
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	if (fork() == 0)
		_exit(fd_write_full(fd, data, 300000) ? 1 : 0);
	close(fd);
	assert_true(receive_all(&t, data, 300000) > 10000);
	assert_int_equal(wait(NULL) > 0, 1);
	guest_segment(&guest, &t, TCP_ACK | TCP_FIN, NULL, 0);
	free(data);
	close(listener);
}

static void test_streams(void **state)
{
	BOOT("--configured");
	check_stream(OTHER4);
	check_stream(OTHER6);
	assert_int_equal(guest_end(&guest), 0);
}

/* The host resets, and the guest goes on sending: it is told, and nobody is hurt. */
static void test_reset_by_host(void **state)
{
	const struct in6_addr dst = address(OTHER4);
	const struct linger none = {.l_onoff = 1};
	uint16_t port = 0;
	int listener = serve(OTHER4, SOCK_STREAM, &port);
	struct guest_tcp t;

	BOOT("--configured");
	for (uint16_t i = 0; i < 20; i++) {
		int fd;

		assert_int_equal(
			guest_connect(&guest, &t, (uint16_t)(44000 + i), &dst, port), OPENED);
		fd = accept(listener, NULL, NULL);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
		close(fd);
		guest_segment(&guest, &t, TCP_ACK, "hello", 5);
		guest_segment(&guest, &t, TCP_ACK, "hello", 5);
		do
			assert_true(guest_next(&guest, &t, GUEST_WAIT_MS));
		while (!(t.flags & (TCP_RST | TCP_FIN)));
	}
	assert_int_equal(guest_end(&guest), 0);
	close(listener);
}

/* As of a guest that has had another process at its other end. */
static void test_unknown_connection(void **state)
{
	struct guest_tcp t = {
		.peer = address(OTHER4), .port = 44000, .peer_port = 80, .seq = 1000, .ack = 2000};

	BOOT("--configured");
	guest_segment(&guest, &t, TCP_ACK, "hello", 5);
	assert_true(guest_next(&guest, &t, GUEST_WAIT_MS));
	assert_true(t.flags & TCP_RST);
	assert_int_equal(guest_end(&guest), 0);
}

/* One segment that a driver has left to be cut, summed, and its length set. */
static void check_gso(const char *other)
{
	const struct in6_addr dst = address(other);
	uint16_t port = 0;
	int listener = serve(other, SOCK_STREAM, &port), fd;
	uint8_t *data = pattern(64000), *got = malloc(64000);
	struct guest_tcp t;

	assert_non_null(got);
	assert_int_equal(guest_connect(&guest, &t, 40001, &dst, port), OPENED);
	fd = accept(listener, NULL, NULL);
	guest_gso(&guest, &t, data, 64000);
	read_all(fd, got, 64000);
	assert_memory_equal(got, data, 64000);
	close(fd);
	close(listener);
	free(data);
	free(got);
}

static void test_large_segments(void **state)
{
	BOOT("--configured");
	check_gso(OTHER4);
	check_gso(OTHER6);
	assert_int_equal(guest.counters[SLIRP_MALFORMED], 0);
	assert_int_equal(guest_end(&guest), 0);
}

static void check_datagrams(const char *other, size_t len)
{
	const struct in6_addr dst = address(other);
	uint16_t port = 0, from_port;
	int fd = serve(other, SOCK_DGRAM, &port);
	uint8_t *data = pattern(len), *got = malloc(len + 1);
	const uint8_t *back;
	struct in6_addr from;
	socklen_t size = sizeof(sa);
	size_t n;

	guest_udp(&guest, 5000, &dst, port, data, len);
	assert_true(readable(fd, GUEST_WAIT_MS));
	assert_int_equal(recvfrom(fd, got, len + 1, 0, &sa.any, &size), len);
	assert_memory_equal(got, data, len);
	assert_int_equal(sendto(fd, data, len, 0, &sa.any, size), len);
	back = guest_udp_data(&guest, 5000, &n, GUEST_WAIT_MS, &from, &from_port);
	assert_non_null(back);
	assert_int_equal(n, len);
	assert_memory_equal(back, data, len);
	assert_memory_equal(&from, &dst, sizeof(dst));
	assert_int_equal(from_port, port);
	close(fd);
	free(data);
	free(got);
}

static void test_datagrams(void **state)
{
	BOOT("--configured");
	check_datagrams(OTHER4, 100);
	check_datagrams(OTHER4, BIG);
	check_datagrams(OTHER6, 100);
	check_datagrams(OTHER6, BIG - 20);
	assert_int_equal(guest_end(&guest), 0);
}

/* RFC 2131: a DISCOVER of a guest without an address. */
static void test_dhcp(void **state)
{
	uint8_t dhcp[260] = {1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, [28] = 2, [33] = 1};
	const struct in6_addr all = address("255.255.255.255");
	const struct in6_addr self = address(SLIRP_IPV4_GUEST);
	const uint8_t *offer;
	size_t len;

	memcpy(dhcp + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8);
	BOOT("--configured");
	guest_udp(&guest, 68, &all, 67, dhcp, sizeof(dhcp));
	offer = guest_udp_data(&guest, 68, &len, GUEST_WAIT_MS, NULL, NULL);
	assert_non_null(offer);
	assert_true(len > 240);
	assert_memory_equal(offer + 16, &self.s6_addr[12], 4);
	assert_int_equal(guest_end(&guest), 0);

	BOOT("--restrict");
	guest_udp(&guest, 68, &all, 67, dhcp, sizeof(dhcp));
	assert_non_null(guest_udp_data(&guest, 68, &len, GUEST_WAIT_MS, NULL, NULL));
	assert_int_equal(guest_end(&guest), 0);
}

static const char *const loopbacks[] = {
	"10.0.2.2", "127.0.0.1", "127.1.2.3", "0.0.0.0", "fec0::2", "fec0::99", "::1"};

static void test_host_is_not_reached(void **state)
{
	uint16_t port = 0;
	int listener = serve("0.0.0.0", SOCK_STREAM, &port);
	uint16_t port6 = port, udp = 0, udp6;
	int listener6 = serve("::1", SOCK_STREAM, &port6), fd = serve("0.0.0.0", SOCK_DGRAM, &udp);
	int fd6;
	struct guest_tcp t;

	udp6 = udp;
	fd6 = serve("::1", SOCK_DGRAM, &udp6);
	/* With a published port of datagrams the filter is alone. */
	BOOT("--configured", "--publish=9999:9999/udp");
	for (unsigned i = 0; i < ARRAY_SIZE(loopbacks); i++) {
		const struct in6_addr dst = address(loopbacks[i]);

		assert_int_equal(
			guest_connect(&guest, &t, (uint16_t)(41000 + i), &dst, port), REFUSED);
		guest_udp(&guest, 5001, &dst, udp, "x", 1);
		guest_await_count(&guest, SLIRP_LOCAL, 2 * i + 2);
	}
	assert_false(readable(listener, GUEST_QUIET_MS) || readable(listener6, 0));
	assert_false(readable(fd, 0) || readable(fd6, 0));
	assert_int_equal(guest_end(&guest), 0);

	BOOT("--configured", "--host");
	assert_int_equal(guest_connect(&guest, &t, 42000, to("10.0.2.2"), port), OPENED);
	assert_int_equal(guest_connect(&guest, &t, 42001, to("fec0::2"), port), OPENED);
	assert_int_equal(guest_connect(&guest, &t, 42002, to("127.0.0.1"), port), REFUSED);
	assert_int_equal(guest_end(&guest), 0);
	close(listener);
	close(listener6);
	close(fd);
	close(fd6);
}

static void check_published(const char *host, uint16_t port, uint16_t guest_port)
{
	int fd = dial(host, port, SOCK_STREAM);
	struct guest_tcp t;
	char text[6] = "";

	assert_true(guest_accept(&guest, &t, guest_port, GUEST_WAIT_MS));
	assert_int_equal(write(fd, "to it", 5), 5);
	do
		assert_true(guest_next(&guest, &t, GUEST_WAIT_MS));
	while (!t.len);
	assert_int_equal(t.len, 5);
	assert_memory_equal(t.data, "to it", 5);
	guest_segment(&guest, &t, TCP_ACK, "of it", 5);
	read_all(fd, (uint8_t *)text, 5);
	assert_string_equal(text, "of it");
	close(fd);
}

static void check_published_udp(const char *host, uint16_t port, uint16_t guest_port)
{
	int fd = dial(host, port, SOCK_DGRAM);
	struct in6_addr from;
	uint16_t from_port;
	char text[6] = "";
	size_t len;

	assert_int_equal(write(fd, "to it", 5), 5);
	assert_non_null(guest_udp_data(&guest, guest_port, &len, GUEST_WAIT_MS, &from, &from_port));
	assert_int_equal(len, 5);
	guest_udp(&guest, guest_port, &from, from_port, "of it", 5);
	read_all(fd, (uint8_t *)text, 5);
	assert_string_equal(text, "of it");
	/* Another port of the same host is still nobody's business. */
	guest_udp(&guest, guest_port, &from, (uint16_t)(from_port ^ 1), "of it", 5);
	close(fd);
}

static void check_all_published(void)
{
	check_published("127.0.0.1", 8001, 80);
	check_published(OTHER4, 8002, 81);
	check_published("::1", 8003, 82);
	check_published_udp("127.0.0.1", 8001, 53);
	check_published_udp(OTHER4, 8002, 54);
	check_published_udp("::1", 8003, 55);
}

#define PUBLISHED                                                                                  \
	"--publish=8001:80", "--publish=" OTHER4 ":8002:81", "--publish=[::1]:8003:82/tcp",        \
		"--publish=8001:53/udp", "--publish=" OTHER4 ":8002:54/udp",                       \
		"--publish=[::1]:8003:55/udp"

static void test_published(void **state)
{
	BOOT("--configured", PUBLISHED);
	check_all_published();
	guest_await_count(&guest, SLIRP_LOCAL, 2); /* of loopback, one each family */
	assert_int_equal(guest_end(&guest), 0);
}

/* Whose IPv6 address is not known is asked for by the name it first spoke with. */
static void test_published_unknown_address(void **state)
{
	uint8_t l4[24] = {135}, frame[128];
	const struct in6_addr host = address("fec0::2");
	size_t len;

	BOOT("--publish=[::1]:8003:82");
	memcpy(l4 + 8, &host, 16);
	len = guest_packet(frame, IPPROTO_ICMPV6, &host, l4, sizeof(l4));
	frame[FRAME_ETH + 7] = 255;
	guest_send(&guest, NULL, frame, len);
	assert_true(guest_receive(&guest, GUEST_WAIT_MS)); /* who it asked about */
	check_published("::1", 8003, 82);
	assert_int_equal(guest_end(&guest), 0);
}

static void test_port_in_use(void **state)
{
	uint16_t tcp = 8001, udp = 8002;
	int a = serve("127.0.0.1", SOCK_STREAM, &tcp), b = serve("127.0.0.1", SOCK_DGRAM, &udp);

	guest_start(&guest, program, (const char *const[]){"--publish=8001:80", NULL});
	assert_int_equal(guest.reply.error, EADDRINUSE);
	assert_string_equal(guest.reply.text, "publish 127.0.0.1:8001: Address already in use");
	assert_int_equal(guest_end(&guest), 1);
	guest_start(&guest, program, (const char *const[]){"--publish=8002:80/udp", NULL});
	assert_string_equal(guest.reply.text, "publish 127.0.0.1:8002/udp: Address already in use");
	assert_int_equal(guest_end(&guest), 1);
	guest_start(&guest, program, (const char *const[]){"--publish=198.51.100.1:1:1", NULL});
	assert_string_equal(
		guest.reply.text, "publish 198.51.100.1:1: Cannot assign requested address");
	assert_int_equal(guest_end(&guest), 1);
	close(a);
	close(b);
}

static void test_bad_options(void **state)
{
	static const char *const bad[][4] = {
		{"--publish=80", "publish 80: must be"},
		{"--allow=10.0.0.1/8", "allow 10.0.0.1/8: the address has bits beyond its prefix"},
		{"--seccomp=maybe", "seccomp maybe: must be kill, log or off"},
		{"--new", "kvick-slirp is of another version than kvick"},
		{"word", "kvick-slirp is of another version than kvick"},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		guest_start(&guest, program, (const char *const[]){bad[i][0], NULL});
		assert_int_equal(guest.reply.error, EINVAL);
		assert_memory_equal(guest.reply.text, bad[i][1], strlen(bad[i][1]));
		assert_int_equal(guest_end(&guest), 1);
	}
	guest_start(&guest, program, (const char *const[]){"--restrict", "--host", NULL});
	assert_string_equal(
		guest.reply.text, "restrict: leaves nothing to do for host=allow and allow");
	assert_int_equal(guest_end(&guest), 1);
}

static uint8_t try(const char *dst, uint16_t port)
{
	static uint16_t from = 43000;
	const struct in6_addr a = address(dst);
	struct guest_tcp t;

	return guest_connect(&guest, &t, from++, &a, port);
}

static void test_restrict(void **state)
{
	uint16_t port = 0, port6 = 0, dns = 53, udp = 0;
	int a = serve(OTHER4, SOCK_STREAM, &port), b = serve(OTHER6, SOCK_STREAM, &port6);
	int c = serve("127.0.0.1", SOCK_DGRAM, &dns), d = serve(OTHER4, SOCK_DGRAM, &udp);
	uint16_t dhcp6 = 547;
	int e = serve("127.0.0.1", SOCK_DGRAM, &dhcp6);

	BOOT("--configured", "--restrict", PUBLISHED);
	check_all_published();
	assert_int_equal(try(OTHER4, port), REFUSED);
	assert_int_equal(try(OTHER6, port6), REFUSED);
	guest_udp(&guest, 5002, to("10.0.2.3"), 53, "question", 8);
	guest_udp(&guest, 5002, to(OTHER4), udp, "x", 1);
	guest_udp(&guest, 5002, to("10.0.2.2"), dhcp6, "x", 1);
	/* Nor by the socket of a published port. */
	guest_udp(&guest, 53, to(OTHER4), udp, "x", 1);
	assert_false(readable(c, GUEST_QUIET_MS) || readable(d, 0) || readable(e, 0));
	assert_true(guest.counters[SLIRP_DENIED] >= 5);
	assert_int_equal(guest_end(&guest), 0);
	close(a);
	close(b);
	close(c);
	close(d);
	close(e);
}

/* A socket of the guest's own, with a port that is published, is no way to who is not allowed. */
static void test_published_and_allowed(void **state)
{
	uint16_t udp = 9001, other = 9002, asks;
	int a = serve(OTHER6, SOCK_DGRAM, &udp), b = serve(OTHER6, SOCK_DGRAM, &other);
	struct in6_addr from;
	socklen_t len = sizeof(sa);
	char byte;
	size_t got;

	BOOT("--allow=[" OTHER6 "]:9001", "--publish=[::1]:8003:55/udp");
	guest_udp(&guest, 55, to(OTHER6), udp, "x", 1);
	assert_true(readable(a, GUEST_WAIT_MS));
	assert_int_equal(recvfrom(a, &byte, 1, 0, &sa.any, &len), 1);
	assert_int_equal(sendto(b, "y", 1, 0, &sa.any, len), 1);
	assert_null(guest_udp_data(&guest, 55, &got, GUEST_QUIET_MS, NULL, NULL));
	guest_await_count(&guest, SLIRP_UNASKED, 1);
	guest_udp(&guest, 55, to(OTHER6), other, "z", 1);
	guest_await_count(&guest, SLIRP_DENIED, 1);
	assert_int_equal(sendto(a, "y", 1, 0, &sa.any, len), 1);
	assert_non_null(guest_udp_data(&guest, 55, &got, GUEST_WAIT_MS, &from, &asks));
	assert_int_equal(asks, udp);
	assert_int_equal(guest_end(&guest), 0);
	close(a);
	close(b);
}

static void test_allow_addresses(void **state)
{
	uint16_t one = 9001, two = 9002, one6 = 9001, udp = 9001;
	int a = serve(OTHER4, SOCK_STREAM, &one), b = serve(OTHER4, SOCK_STREAM, &two);
	int c = serve(OTHER6, SOCK_STREAM, &one6), d = serve(OTHER4, SOCK_DGRAM, &udp);

	BOOT("--configured", "--allow=192.0.2.0/24:9001", "--allow=[2001:db8::/32]:9001");
	assert_int_equal(try(OTHER4, 9001), OPENED);
	assert_int_equal(try(OTHER4, 9002), REFUSED);
	assert_int_equal(try(OTHER6, 9001), OPENED);
	assert_int_equal(try(OTHER6, 9002), REFUSED);
	assert_int_equal(try("10.0.2.2", 9001), REFUSED);
	guest_udp(&guest, 5003, to(OTHER4), 9001, "x", 1);
	assert_true(readable(d, GUEST_WAIT_MS));
	guest_udp(&guest, 5003, to(OTHER4), 9002, "x", 1);
	assert_int_equal(guest.counters[SLIRP_UNASKED], 0);
	assert_int_equal(guest_end(&guest), 0);
	BOOT("--configured", "--allow=0.0.0.0/0", "--allow=::/0");
	assert_int_equal(try(OTHER4, 9002), OPENED);
	assert_int_equal(try("127.0.0.1", 9002), REFUSED);
	assert_int_equal(try("10.0.2.2", 9002), REFUSED);
	assert_int_equal(try("169.254.169.254", 80), REFUSED);
	assert_int_equal(guest_end(&guest), 0);
	close(a);
	close(b);
	close(c);
	close(d);
}

/* The resolver's part, and the guest's. */

static size_t make_query(uint8_t *to, uint16_t id, const char *name, uint8_t type)
{
	static const uint8_t header[12] = {[2] = 1, [5] = 1};
	size_t n = sizeof(header);

	memcpy(to, header, sizeof(header));
	to[0] = (uint8_t)(id >> 8);
	to[1] = (uint8_t)id;
	while (*name) {
		size_t label = strcspn(name, ".");

		to[n++] = (uint8_t)label;
		memcpy(to + n, name, label);
		n += label;
		name += label + (name[label] == '.');
	}
	memcpy(to + n, "\0\0\0\0\1", 5);
	to[n + 2] = type;
	return n + 5;
}

/* The question's name is another's, and that has the address: as resolvers answer. */
static size_t make_answer(uint8_t *m, size_t question, const char *to)
{
	static const uint8_t records[] = {0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 2, 0, 5, 3, 'c', 'd', 'n',
		0, 3, 'c', 'd', 'n', 0, 0, 1, 0, 1, 0, 0, 0, 2, 0, 4};
	const struct in6_addr a = address(to);

	m[2] |= 0x80;
	m[7] = 2;
	memcpy(m + question, records, sizeof(records));
	memcpy(m + question + sizeof(records), &a.s6_addr[12], 4);
	return question + sizeof(records) + 4;
}

static size_t ask(const char *name, uint8_t *answer, int ms)
{
	const struct in6_addr resolver = address("10.0.2.3");
	uint8_t query[300];
	const uint8_t *data;
	size_t len = make_query(query, 0x4711, name, 1);

	guest_udp(&guest, 6000, &resolver, 53, query, len);
	data = guest_udp_data(&guest, 6000, &len, ms, NULL, NULL);
	if (!data)
		return 0;
	memcpy(answer, data, MIN(len, 512u));
	return len;
}

/* The resolver's turn: the question that has come, answered, first by someone else. */
static size_t resolve(int server, const char *name, const char *with)
{
	const struct in6_addr resolver = address("10.0.2.3");
	uint16_t port = 0;
	uint8_t query[300], m[512];
	int stranger = serve("127.0.0.2", SOCK_DGRAM, &port);
	socklen_t size = sizeof(sa);
	size_t len = make_query(query, 0x4711, name, 1), made;
	ssize_t n;

	guest_udp(&guest, 6000, &resolver, 53, query, len);
	assert_true(readable(server, GUEST_WAIT_MS));
	n = recvfrom(server, m, sizeof(m), 0, &sa.any, &size);
	assert_int_equal(n, len);
	assert_memory_equal(m + 2, query + 2, len - 2);
	made = make_answer(m, len, with);
	sendto(stranger, m, made, 0, &sa.any, size);
	assert_null(guest_udp_data(&guest, 6000, &len, GUEST_QUIET_MS, NULL, NULL));
	assert_int_equal(sendto(server, m, made, 0, &sa.any, size), made);
	close(stranger);
	assert_non_null(guest_udp_data(&guest, 6000, &len, GUEST_WAIT_MS, NULL, NULL));
	assert_int_equal(len, made);
	return len;
}

static void test_allow_names(void **state)
{
	uint16_t port = 9003, dns = 53;
	int listener = serve(OTHER4, SOCK_STREAM, &port), server;
	uint8_t answer[512];

	server = serve("127.0.0.1", SOCK_DGRAM, &dns);
	BOOT("--configured", "--allow=deb.example:9003");
	assert_int_equal(try(OTHER4, 9003), REFUSED);
	assert_true(ask("other.example", answer, GUEST_WAIT_MS) > 12);
	assert_int_equal(answer[0] << 8 | answer[1], 0x4711);
	assert_int_equal(answer[3] & 15, 5);
	assert_int_equal(guest.counters[SLIRP_NAME], 1);
	assert_false(readable(server, GUEST_QUIET_MS));
	resolve(server, "Deb.Example", OTHER4);
	assert_int_equal(try(OTHER4, 9003), OPENED);
	assert_int_equal(try(OTHER4, 9004), REFUSED);
	/* A name that turns to the host's own loopback opens nothing. */
	resolve(server, "deb.example", "127.0.0.1");
	assert_int_equal(try("127.0.0.1", 9003), REFUSED);
	assert_int_equal(guest_end(&guest), 0);
	close(server);
	close(listener);
}

static void test_resolver(void **state)
{
	uint16_t dns = 53;
	int server = serve("127.0.0.1", SOCK_DGRAM, &dns);
	uint8_t query[64], got[64];
	size_t len = make_query(query, 1, "any.example", 28);

	BOOT("--configured");
	guest_udp(&guest, 6001, to("10.0.2.3"), 53, query, len);
	assert_true(readable(server, GUEST_WAIT_MS));
	assert_int_equal(read(server, got, sizeof(got)), len);
	assert_memory_equal(got, query, len);
	assert_int_equal(guest_end(&guest), 0);
	close(server);
}

/* Its life. */

static void test_killed(void **state)
{
	char byte;
	int status;

	BOOT("--configured");
	kill(guest.pid, SIGKILL);
	assert_int_equal(recv(guest.control, &byte, 1, 0), 0);
	assert_int_equal(guest_end(&guest), -SIGKILL);

	BOOT("--configured");
	close(guest.packets);
	assert_int_equal(recv(guest.control, &byte, 1, 0), 0);
	assert_int_equal(waitpid(guest.pid, &status, 0), guest.pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	close(guest.control);
}

/* The number after `name` in its status, in the base that it is written in. */
static unsigned long status_of(const char *name, int base)
{
	char path[64], line[256];
	unsigned long value = ULONG_MAX;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/status", guest.pid);
	in = fopen(path, "re");
	assert_non_null(in);
	while (fgets(line, sizeof(line), in))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			value = strtoul(line + strlen(name) + 1, NULL, base);
	fclose(in);
	return value;
}

static void test_sandbox(void **state)
{
	static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapAmb"};
	char path[64], to[64];

	BOOT("--configured");
	assert_int_equal(status_of("NoNewPrivs", 10), 1);
	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
		assert_int_equal(status_of(sets[i], 16), 0);
#ifndef __SANITIZE_ADDRESS__
	assert_int_equal(status_of("Seccomp", 10), 2);
#endif
	for (int fd = SLIRP_PACKETS + 1; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", guest.pid, fd);
		assert_int_equal(readlink(path, to, sizeof(to)), -1);
	}
	assert_int_equal(guest_end(&guest), 0);
}

/* Frames of which bytes were changed, cut short, or behind a header that lies. */
static void test_broken_frames(void **state)
{
	uint8_t frame[256], l4[20] = {[12] = 0x50, [13] = TCP_SYN};
	struct virtio_net_hdr_v1 h;
	unsigned seed = 1;
	size_t len;

	BOOT("--configured");
	for (unsigned i = 0; i < 20000; i++) {
		const struct in6_addr dst = address(i & 1 ? OTHER4 : OTHER6);
		uint8_t *header = (uint8_t *)&h;

		l4[13] = (uint8_t)(i & 2 ? TCP_ACK : TCP_SYN | TCP_URG);
		len = guest_packet(frame, i & 4 ? IPPROTO_TCP : IPPROTO_ICMPV6, &dst, l4, 20);
		for (unsigned n = rand_r(&seed) % 4; n; n--)
			frame[(unsigned)rand_r(&seed) % len] = (uint8_t)rand_r(&seed);
		for (unsigned n = 0; n < sizeof(h); n++)
			header[n] = (uint8_t)(i & 8 ? rand_r(&seed) : 0);
		guest_send(&guest, &h, frame, (unsigned)rand_r(&seed) % (len + 1));
		while (guest_receive(&guest, 0))
			;
	}
	assert_true(guest.counters[SLIRP_MALFORMED] > 1000);
	check_stream(OTHER4);
	assert_int_equal(guest_end(&guest), 0);
}

/* A guest that sends and does not read, then one that is sent to and does not read. */
static void test_floods(void **state)
{
	static const char *const options[] = {"--configured", "--publish=8001:80/udp", NULL};
	const struct in6_addr gateway = address("10.0.2.2");
	uint8_t *data = pattern(60000), ping[64] = {8}, frame[128];
	size_t len = guest_packet(frame, IPPROTO_ICMP, &gateway, ping, sizeof(ping));
	int fd;

	guest_boot(&guest, program, options);
	for (unsigned i = 0; i < 20000; i++)
		guest_send(&guest, NULL, frame, len);
	fd = dial("127.0.0.1", 8001, SOCK_DGRAM);
	for (unsigned i = 0; i < 5000; i++)
		if (send(fd, data, 60000, MSG_DONTWAIT) < 0)
			assert_true(errno == EAGAIN || errno == ECONNREFUSED);
	usleep(100000);
	assert_true(status_of("VmRSS", 10) < 64 * 1024);
	while (guest_receive(&guest, GUEST_QUIET_MS))
		;
	guest_send(&guest, NULL, frame, len);
	assert_true(guest_receive(&guest, GUEST_WAIT_MS));
	assert_int_equal(guest_end(&guest), 0);
	close(fd);
	free(data);
}

/* Ticks of its processor time. */
static unsigned long ticks(void)
{
	unsigned long user = 0, system = 0;
	char path[32];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/stat", guest.pid);
	in = fopen(path, "re");
	assert_non_null(in);
	assert_int_equal(fscanf(in, "%*d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu",
				 &user, &system),
		2);
	fclose(in);
	return user + system;
}

/* Some who connect and stay, in a process that has descriptors of its own for it. */
static pid_t crowd(uint16_t port)
{
	int told[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(told), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (unsigned i = 0; i < CROWD; i++)
			dial("127.0.0.1", port, SOCK_STREAM);
		if (write(told[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(told[1]);
	while (!readable(told[0], 0))
		guest_receive(&guest, 1);
	assert_int_equal(read(told[0], &byte, 1), 1);
	close(told[0]);
	return pid;
}

/* More who connect than there are descriptors: they wait, and are not looked at all the time. The
 * limit is for good, so it comes last. */
static void test_crowd(void **state)
{
	const struct rlimit few = {2 * CROWD, 2 * CROWD};
	pid_t child[3];
	unsigned long before;

	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	BOOT("--configured", "--publish=8001:80", "--publish=8002:80", "--publish=8003:80");
	for (unsigned i = 0; i < ARRAY_SIZE(child); i++)
		child[i] = crowd((uint16_t)(8001 + i));
	before = ticks();
	for (uint64_t until = now_ns() + NSEC_PER_SEC; now_ns() < until;)
		guest_receive(&guest, 10);
	assert_true(ticks() - before < (unsigned long)sysconf(_SC_CLK_TCK) / 4);
	guest_udp(&guest, 5000, to(OTHER4), 9, "x", 1);
	guest_await_count(&guest, SLIRP_BUSY, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(child); i++) {
		kill(child[i], SIGKILL);
		waitpid(child[i], NULL, 0);
	}
	assert_int_equal(guest_end(&guest), 0);
}

/* A namespace where nothing is but what the test brings, its resolver 127.0.0.1. */

static void add_address(const char *text, const char *name)
{
	struct ifreq four = {0};
	struct {
		struct in6_addr address;
		uint32_t prefix;
		int index;
	} six = {.prefix = 128, .index = 1};
	int fd;

	set_address(text, 0);
	fd = socket(sa.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	six.address = sa.v6.sin6_addr;
	snprintf(four.ifr_name, sizeof(four.ifr_name), "%s", name);
	memcpy(&four.ifr_addr, &sa, sizeof(four.ifr_addr));
	assert_int_equal(
		ioctl(fd, SIOCSIFADDR, sa.any.sa_family == AF_INET ? (void *)&four : (void *)&six),
		0);
	four.ifr_flags = IFF_UP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &four), 0);
	close(fd);
}

static void set_resolver(void)
{
	char path[] = "/tmp/test_slirp.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_true(dprintf(fd, "# made by a test\nnameserver 127.0.0.1\n") > 0);
	assert_int_equal(fchmod(fd, 0644), 0);
	close(fd);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL), 0);
	unlink(path);
}

static int setup(void **state)
{
	add_address("127.0.0.1", "lo");
	add_address(OTHER4, "lo:1");
	add_address(OTHER6, "lo");
	set_resolver();
	return 0;
}

/* One that a test has left behind when it failed. */
static int clean_up(void **state)
{
	if (waitpid(guest.pid, NULL, WNOHANG) == 0) {
		kill(guest.pid, SIGKILL);
		waitpid(guest.pid, NULL, 0);
	}
	return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, clean_up)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_streams),
		TEST(test_reset_by_host),
		TEST(test_unknown_connection),
		TEST(test_large_segments),
		TEST(test_datagrams),
		TEST(test_dhcp),
		TEST(test_host_is_not_reached),
		TEST(test_published),
		TEST(test_published_unknown_address),
		TEST(test_port_in_use),
		TEST(test_bad_options),
		TEST(test_restrict),
		TEST(test_published_and_allowed),
		TEST(test_allow_addresses),
		TEST(test_allow_names),
		TEST(test_resolver),
		TEST(test_killed),
		TEST(test_sandbox),
		TEST(test_broken_frames),
		TEST(test_floods),
		TEST(test_crowd),
	};

	program = argv[argc - 1];
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) {
		print_message("no network namespace can be had here: %s\n", strerror(errno));
		return 77; /* meson's skip */
	}
	return cmocka_run_group_tests(tests, setup, NULL);
}
