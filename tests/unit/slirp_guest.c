// SPDX-License-Identifier: MIT
// A guest made of raw packets at one end of kvick-slirp's socket.
#include "tests/unit/slirp_guest.h"

#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/loop.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define OPTIONS_MAX 32u

static const uint8_t guest_mac[6] = {0x02, 0, 0, 0, 0, 1};
static const uint8_t gateway_mac[6] = {0x52, 0x55, 10, 0, 2, 2};

struct in6_addr address(const char *text)
{
	struct in6_addr a;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return frame_ipv4(&v4);
	assert_int_equal(inet_pton(AF_INET6, text, &a), 1);
	return a;
}

/* A sanitizer makes calls of its own, which no filter of ours allows. */
static const char *mode(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return "--seccomp=off";
#else
	return "--seccomp=kill";
#endif
}

static void spawn(struct slirp_guest *g, const char *program, char **argv, const int fd[3])
{
	static const int as[3] = {SLIRP_CONTROL, SLIRP_PACKETS, SLIRP_COUNTERS};
	static char path[] = "PATH=/nowhere";
	/* A process that has dropped its rights cannot look for leaks: that takes a debugger's. */
	static char no_leaks[] = "ASAN_OPTIONS=detect_leaks=0";
	static char *env[] = {path, no_leaks, NULL};
	posix_spawn_file_actions_t actions;

	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(posix_spawn_file_actions_adddup2(&actions, fd[i], as[i]), 0);
	assert_int_equal(posix_spawn(&g->pid, program, &actions, NULL, argv, env), 0);
	posix_spawn_file_actions_destroy(&actions);
}

/* Beyond the numbers that the child is to have them under. */
static int high(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, 10);

	assert_true(moved >= 10);
	close(fd);
	return moved;
}

void guest_start(struct slirp_guest *g, const char *program, const char *const *options)
{
	char name[] = "kvick-slirp", *argv[OPTIONS_MAX + 3] = {name, strdup(mode())};
	int control[2], packets[2], counters;
	unsigned n = 0;

	while (options && options[n] && n < OPTIONS_MAX) {
		argv[2 + n] = strdup(options[n]);
		n++;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packets), 0);
	counters = high(memfd_create("counters", MFD_CLOEXEC));
	assert_int_equal(ftruncate(counters, 4096), 0);
	g->counters = mmap(NULL, 4096, PROT_READ, MAP_SHARED, counters, 0);
	assert_ptr_not_equal(g->counters, MAP_FAILED);
	control[1] = high(control[1]);
	packets[1] = high(packets[1]);
	g->control = control[0];
	g->packets = packets[0];
	spawn(g, program, argv, (int[]){control[1], packets[1], counters});
	close(control[1]);
	close(packets[1]);
	close(counters);
	while (n + 1)
		free(argv[1 + n--]);
	assert_int_equal(recv(g->control, &g->reply, sizeof(g->reply), 0), sizeof(g->reply));
}

/* The guest says who it is, as each does when its interface comes up. */
static void greet(struct slirp_guest *g)
{
	uint8_t arp[42] = {0};
	const struct in6_addr self = address(SLIRP_IPV4_GUEST);

	memset(arp, 0xff, 6);
	memcpy(arp + 6, guest_mac, 6);
	memcpy(arp + 12, "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01", 10);
	memcpy(arp + 22, guest_mac, 6);
	memcpy(arp + 28, &self.s6_addr[12], 4);
	memcpy(arp + 38, &self.s6_addr[12], 4);
	guest_send(g, NULL, arp, sizeof(arp));
}

void guest_boot(struct slirp_guest *g, const char *program, const char *const *options)
{
	guest_start(g, program, options);
	if (g->reply.error)
		fail_msg("%s", g->reply.text);
	greet(g);
}

void guest_await_count(struct slirp_guest *g, enum slirp_count what, uint64_t count)
{
	uint64_t until = now_ns() + GUEST_WAIT_MS * 1000000ull;

	while (g->counters[what] < count && now_ns() < until)
		sched_yield();
	assert_int_equal(g->counters[what], count);
}

int guest_end(struct slirp_guest *g)
{
	int status;

	close(g->control);
	assert_int_equal(TEMP_FAILURE_RETRY(waitpid(g->pid, &status, 0)), g->pid);
	close(g->packets);
	munmap((void *)(uintptr_t)g->counters, 4096);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void guest_send(
	struct slirp_guest *g, const struct virtio_net_hdr_v1 *h, const void *frame, size_t len)
{
	struct virtio_net_hdr_v1 header = h ? *h : (struct virtio_net_hdr_v1){0};
	struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)frame, len}};

	assert_int_equal(writev(g->packets, iov, 2), sizeof(header) + len);
}

static void answer_arp(struct slirp_guest *g)
{
	uint8_t arp[42];

	memcpy(arp, g->frame + 6, 6);
	memcpy(arp + 6, guest_mac, 6);
	memcpy(arp + 12, g->frame + 12, 8);
	arp[20] = 0;
	arp[21] = 2;
	memcpy(arp + 22, guest_mac, 6);
	memcpy(arp + 28, g->frame + 38, 4);
	memcpy(arp + 32, g->frame + 22, 10);
	guest_send(g, NULL, arp, sizeof(arp));
}

/* A neighbour solicitation, told that the target is the guest (RFC 4861, 4.4). */
static void answer_solicitation(struct slirp_guest *g, const struct frame *f)
{
	uint8_t l4[32] = {136, [4] = 0x60, [24] = 2, 1}, frame[128];
	size_t len;

	memcpy(l4 + 8, g->frame + f->l4 + 8, 16);
	memcpy(l4 + 26, guest_mac, 6);
	len = guest_packet(frame, IPPROTO_ICMPV6, &f->src, l4, sizeof(l4));
	frame[FRAME_ETH + 7] = 255;
	guest_send(g, NULL, frame, len);
}

static bool is_solicitation(const struct frame *f)
{
	return f->kind == FRAME_IPV6 && f->protocol == IPPROTO_ICMPV6 && f->type == 135;
}

static bool receive_one(struct slirp_guest *g, int ms)
{
	struct virtio_net_hdr_v1 h;
	struct iovec iov[2] = {{&h, sizeof(h)}, {g->frame, sizeof(g->frame)}};
	struct pollfd p = {.fd = g->packets, .events = POLLIN};
	ssize_t n;

	if (poll(&p, 1, ms) <= 0)
		return false;
	n = readv(g->packets, iov, 2);
	if (n <= 0)
		return false;
	assert_true((size_t)n >= sizeof(h) + FRAME_ETH);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_DATA_VALID);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	g->len = (size_t)n - sizeof(h);
	return true;
}

bool guest_receive(struct slirp_guest *g, int ms)
{
	uint64_t until = now_ns() + (uint64_t)ms * 1000000;
	struct frame f;

	for (;;) {
		int64_t left = (int64_t)(until - now_ns()) / 1000000;

		if (left < 0 || !receive_one(g, (int)left))
			return false;
		assert_int_equal(frame_parse(&f, g->frame, g->len), FRAME_OK);
		if (f.kind == FRAME_ARP && g->frame[21] == 1)
			answer_arp(g);
		else if (is_solicitation(&f))
			answer_solicitation(g, &f);
		else if (f.kind == FRAME_ARP || f.protocol != IPPROTO_ICMPV6 || f.type != 134)
			return true;
	}
}

static void put_be16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* One's complement of the sum of big-endian words, computed as RFC 1071 says it and no quicker. */
static uint16_t sum_words(const uint8_t *p, size_t len, uint64_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static size_t sum_field(uint8_t protocol)
{
	return protocol == IPPROTO_TCP ? 16 : protocol == IPPROTO_UDP ? 6 : 2;
}

size_t guest_packet(
	uint8_t *to, uint8_t protocol, const struct in6_addr *dst, const void *l4, size_t len)
{
	bool v4 = IN6_IS_ADDR_V4MAPPED(dst);
	const struct in6_addr src = address(v4 ? SLIRP_IPV4_GUEST : SLIRP_IPV6_GUEST);
	uint8_t *ip = to + FRAME_ETH, *at = ip + (v4 ? 20 : 40);
	uint64_t sum = protocol == IPPROTO_ICMP ? 0 : protocol + len;

	memcpy(to, gateway_mac, 6);
	memcpy(to + 6, guest_mac, 6);
	put_be16(to + 12, v4 ? 0x0800 : 0x86dd);
	memset(ip, 0, v4 ? 20 : 40);
	if (v4) {
		memcpy(ip, "\x45\x00\x00\x00\x00\x01\x40\x00\x40", 9);
		put_be16(ip + 2, 20 + len);
		ip[9] = protocol;
		memcpy(ip + 12, &src.s6_addr[12], 4);
		memcpy(ip + 16, &dst->s6_addr[12], 4);
		put_be16(ip + 10, (uint16_t)~sum_words(ip, 20, 0));
	} else {
		ip[0] = 0x60;
		put_be16(ip + 4, len);
		ip[6] = protocol;
		ip[7] = 64;
		memcpy(ip + 8, &src, 16);
		memcpy(ip + 24, dst, 16);
	}
	memcpy(at, l4, len);
	if (protocol != IPPROTO_ICMP)
		sum += sum_words(src.s6_addr, 16, 0) + sum_words(dst->s6_addr, 16, 0);
	put_be16(at + sum_field(protocol), 0);
	put_be16(at + sum_field(protocol), (uint16_t)~sum_words(at, len, sum));
	return (size_t)(at - to) + len;
}

void guest_udp(struct slirp_guest *g, uint16_t port, const struct in6_addr *dst, uint16_t dst_port,
	const void *data, size_t len)
{
	static uint8_t l4[FRAME_MAX], frame[FRAME_MAX];

	put_be16(l4, port);
	put_be16(l4 + 2, dst_port);
	put_be16(l4 + 4, 8 + len);
	memcpy(l4 + 8, data, len);
	guest_send(g, NULL, frame, guest_packet(frame, IPPROTO_UDP, dst, l4, 8 + len));
}

const uint8_t *guest_udp_data(struct slirp_guest *g, uint16_t port, size_t *len, int ms,
	struct in6_addr *from, uint16_t *from_port)
{
	struct frame f;

	while (guest_receive(g, ms)) {
		frame_parse(&f, g->frame, g->len);
		if (f.kind == FRAME_ARP || f.protocol != IPPROTO_UDP || f.dst_port != port)
			continue;
		assert_int_equal(frame_l4_sum(&f), 0);
		*len = f.end - f.l4 - 8;
		if (from) {
			*from = f.src;
			*from_port = f.src_port;
		}
		return g->frame + f.l4 + 8;
	}
	return NULL;
}

static size_t make_segment(
	uint8_t *frame, const struct guest_tcp *t, uint8_t flags, const void *data, size_t len)
{
	static uint8_t l4[FRAME_MAX];
	size_t header = flags & TCP_SYN ? 24 : 20;
	uint32_t seq = htonl(t->seq), ack = htonl(t->ack);

	memset(l4, 0, header);
	put_be16(l4, t->port);
	put_be16(l4 + 2, t->peer_port);
	memcpy(l4 + 4, &seq, 4);
	memcpy(l4 + 8, &ack, 4);
	l4[12] = (uint8_t)(header << 2);
	l4[13] = flags;
	put_be16(l4 + 14, 65535);
	if (flags & TCP_SYN) {
		memcpy(l4 + 20, "\x02\x04", 2);
		put_be16(l4 + 22, SLIRP_MTU - 40);
	}
	memcpy(l4 + header, data, len);
	return guest_packet(frame, IPPROTO_TCP, &t->peer, l4, header + len);
}

static void went(struct guest_tcp *t, uint8_t flags, size_t len)
{
	t->seq += (uint32_t)len + !!(flags & TCP_SYN) + !!(flags & TCP_FIN);
}

void guest_segment(
	struct slirp_guest *g, struct guest_tcp *t, uint8_t flags, const void *data, size_t len)
{
	static uint8_t frame[FRAME_MAX];

	guest_send(g, NULL, frame, make_segment(frame, t, flags, data ? data : "", len));
	went(t, flags, len);
}

void guest_gso(struct slirp_guest *g, struct guest_tcp *t, const void *data, size_t len)
{
	static uint8_t frame[FRAME_MAX];
	bool v4 = IN6_IS_ADDR_V4MAPPED(&t->peer);
	size_t l4 = FRAME_ETH + (v4 ? 20u : 40u), all = make_segment(frame, t, TCP_ACK, data, len);
	struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = v4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
		.hdr_len = (uint16_t)(l4 + 20),
		.gso_size = 1460,
		.csum_start = (uint16_t)l4,
		.csum_offset = 16};

	put_be16(frame + l4 + 16, 0x1234);
	if (v4)
		put_be16(frame + FRAME_ETH + 2, 1500);
	guest_send(g, &h, frame, all);
	went(t, TCP_ACK, len);
}

/* Whether the frame received is of it: then its flags and data are known. */
static bool is_ours(struct slirp_guest *g, struct guest_tcp *t, struct frame *f, uint32_t *seq)
{
	size_t header;

	frame_parse(f, g->frame, g->len);
	if (f->kind == FRAME_ARP || f->protocol != IPPROTO_TCP || f->dst_port != t->port)
		return false;
	if (t->peer_port && (f->src_port != t->peer_port || memcmp(&f->src, &t->peer, 16) != 0))
		return false;
	assert_int_equal(frame_l4_sum(f), 0);
	memcpy(seq, g->frame + f->l4 + 4, 4);
	*seq = ntohl(*seq);
	header = (size_t)(g->frame[f->l4 + 12] >> 4) * 4;
	t->flags = f->flags;
	t->data = g->frame + f->l4 + header;
	t->len = f->end - f->l4 - header;
	return true;
}

uint8_t guest_connect(struct slirp_guest *g, struct guest_tcp *t, uint16_t port,
	const struct in6_addr *dst, uint16_t dst_port)
{
	struct frame f;
	uint32_t seq;

	*t = (struct guest_tcp){.peer = *dst, .port = port, .peer_port = dst_port, .seq = 1000};
	guest_segment(g, t, TCP_SYN, NULL, 0);
	while (guest_receive(g, GUEST_WAIT_MS)) {
		if (!is_ours(g, t, &f, &seq))
			continue;
		t->ack = seq + 1;
		if (t->flags == (TCP_SYN | TCP_ACK))
			guest_segment(g, t, TCP_ACK, NULL, 0);
		return t->flags;
	}
	return 0;
}

bool guest_next(struct slirp_guest *g, struct guest_tcp *t, int ms)
{
	struct frame f;
	uint32_t seq;

	while (guest_receive(g, ms)) {
		if (!is_ours(g, t, &f, &seq))
			continue;
		if (t->flags & TCP_RST)
			return true;
		if (seq != t->ack)
			continue;
		t->ack += (uint32_t)t->len + !!(t->flags & TCP_FIN);
		if (t->len || t->flags & TCP_FIN)
			guest_segment(g, t, TCP_ACK, NULL, 0);
		return true;
	}
	return false;
}

bool guest_accept(struct slirp_guest *g, struct guest_tcp *t, uint16_t port, int ms)
{
	struct frame f;
	uint32_t seq;

	*t = (struct guest_tcp){.port = port, .seq = 5000};
	while (guest_receive(g, ms)) {
		if (!is_ours(g, t, &f, &seq) || t->flags != TCP_SYN)
			continue;
		t->peer = f.src;
		t->peer_port = f.src_port;
		t->ack = seq + 1;
		guest_segment(g, t, TCP_SYN | TCP_ACK, NULL, 0);
		return true;
	}
	return false;
}
