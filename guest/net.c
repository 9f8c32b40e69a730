// SPDX-License-Identifier: MIT
// The guest's network interfaces, set up by rtnetlink.
//
// Nothing is asked of the network: no DHCP, and no wait for a duplicate of the IPv6 address, which
// the host has given to no one else. What is waited for, by the kernel's own announcements, is an
// interface whose driver has not come to it yet.
#include "guest/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/rtnetlink.h>

#define MAC 6u

/* The interfaces of a request, of which `missing` have not been seen. */
struct search {
	const struct proto_request *request;
	int fd;       /* links are announced there */
	bool listing; /* the kernel is listing those that are there */
	unsigned int missing;
	struct {
		int index; /* 0: missing */
		char name[IFNAMSIZ];
	} found[PROTO_NETS];
};

struct message {
	struct nlmsghdr header;
	uint8_t rest[240]; /* more than any of ours has */
};

static int open_netlink(unsigned int groups)
{
	struct sockaddr_nl us = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int error;

	if (fd < 0)
		return -errno;
	if (!bind(fd, (struct sockaddr *)&us, sizeof(us)))
		return fd;
	error = errno;
	close(fd);
	return -error;
}

static struct message begin(uint16_t type, uint16_t flags, const void *fixed, size_t size)
{
	struct message m = {.header = {.nlmsg_type = type,
				    .nlmsg_flags = NLM_F_REQUEST | flags,
				    .nlmsg_len = (uint32_t)NLMSG_LENGTH(size)}};

	memcpy(m.rest, fixed, size);
	return m;
}

static void add(struct message *m, uint16_t type, const void *value, size_t size)
{
	struct rtattr a = {.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(size)};
	uint8_t *to = (uint8_t *)m + NLMSG_ALIGN(m->header.nlmsg_len);

	memcpy(to, &a, sizeof(a));
	memcpy(to + RTA_LENGTH(0), value, size);
	m->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(m->header.nlmsg_len) + RTA_ALIGN(a.rta_len));
}

/* Has the kernel do it. 0 or errno. */
static int ask(int fd, struct message *m)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr answer;
	} reply;
	ssize_t n;

	m->header.nlmsg_flags |= NLM_F_ACK;
	if (send(fd, m, m->header.nlmsg_len, 0) < 0)
		return errno;
	n = recv(fd, &reply, sizeof(reply), 0);
	if (n < 0)
		return errno;
	if ((size_t)n < NLMSG_LENGTH(sizeof(int)) || reply.header.nlmsg_type != NLMSG_ERROR)
		return EPROTO;
	return -reply.answer.error;
}

/* ---- finding the interfaces ---- */

static void match(struct search *s, int index, const uint8_t *mac, const char *name)
{
	for (unsigned int i = 0; i < s->request->n_nets; i++) {
		if (s->found[i].index == index)
			return;
		if (s->found[i].index || memcmp(s->request->nets[i].mac, mac, MAC) != 0)
			continue;
		s->found[i].index = index;
		strncpy(s->found[i].name, name, IFNAMSIZ - 1);
		s->missing--;
		return;
	}
}

static void take_link(struct search *s, const struct nlmsghdr *h)
{
	const struct ifinfomsg *link = NLMSG_DATA(h);
	const uint8_t *mac = NULL;
	const char *name = "";
	const struct rtattr *a;
	size_t left;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*link)) || link->ifi_type != ARPHRD_ETHER)
		return;
	left = IFLA_PAYLOAD(h);
	for (a = IFLA_RTA(link); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == MAC)
			mac = RTA_DATA(a);
		else if (a->rta_type == IFLA_IFNAME)
			name = RTA_DATA(a);
	}
	if (mac)
		match(s, link->ifi_index, mac, name);
}

static int list_links(struct search *s)
{
	struct ifinfomsg all = {.ifi_family = AF_UNSPEC};
	struct message m = begin(RTM_GETLINK, NLM_F_DUMP, &all, sizeof(all));

	s->listing = true;
	return send(s->fd, &m, m.header.nlmsg_len, 0) < 0 ? errno : 0;
}

/* 0 or errno. */
static int take_links(struct search *s)
{
	static uint8_t buffer[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
	ssize_t n = recv(s->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	const struct nlmsghdr *h = (const struct nlmsghdr *)buffer;

	if (n < 0 && errno == ENOBUFS)
		return list_links(s); /* announcements were lost */
	if (n < 0)
		return errno == EAGAIN ? 0 : errno;
	for (size_t left = (size_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
		if (h->nlmsg_type == RTM_NEWLINK)
			take_link(s, h);
		else if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			s->listing = false;
	}
	return 0;
}

static int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What is announced from the start, what is there, and what comes within the time. 0 or errno. */
static int find(struct search *s, int wait_ms)
{
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	int64_t end = clock_ms() + wait_ms, left;
	int error = list_links(s);

	while (!error && s->missing) {
		left = end - clock_ms();
		if (s->listing)
			left = -1;
		else if (left <= 0)
			break;
		if (poll(&p, 1, (int)left) < 0)
			error = errno;
		else if (p.revents)
			error = take_links(s);
	}
	return error;
}

/* ---- setting one up ---- */

/* One interface; `order` is its place in the request. */
struct nic {
	struct boot *boot;
	int fd;
	const struct proto_net *net;
	int index;
	const char *name;
	unsigned int order;
};

static bool is_zero(const uint8_t *p, size_t size)
{
	while (size && !*p) {
		p++;
		size--;
	}
	return !size;
}

static void set_link(const struct nic *n)
{
	struct ifinfomsg up = {.ifi_index = n->index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	struct ifinfomsg link = {.ifi_index = n->index};
	struct message m;
	uint32_t mtu = n->net->mtu;
	int error = 0;

	if (mtu) {
		m = begin(RTM_NEWLINK, 0, &link, sizeof(link));
		add(&m, IFLA_MTU, &mtu, sizeof(mtu));
		error = ask(n->fd, &m);
	}
	if (error)
		boot_trouble(n->boot, "MTU of network interface", n->name, error);
	m = begin(RTM_NEWLINK, 0, &up, sizeof(up));
	error = ask(n->fd, &m);
	if (error)
		boot_trouble(n->boot, "bringing up network interface", n->name, error);
}

/* So that the interface has this address and this route, and none that a router announces. */
static void refuse_routers(const struct nic *n)
{
	char path[64 + IFNAMSIZ];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", n->name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "0", 1) != 1)
		boot_trouble(n->boot, "router announcements of network interface", n->name, errno);
	close(fd);
}

static int add_address4(const struct nic *n)
{
	const struct proto_net *net = n->net;
	struct ifaddrmsg address = {.ifa_family = AF_INET,
		.ifa_prefixlen = net->prefix4,
		.ifa_index = (uint32_t)n->index};
	struct message m =
		begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &address, sizeof(address));
	uint32_t broadcast;

	add(&m, IFA_LOCAL, net->address4, sizeof(net->address4));
	add(&m, IFA_ADDRESS, net->address4, sizeof(net->address4));
	if (net->prefix4 < 31) {
		memcpy(&broadcast, net->address4, sizeof(broadcast));
		broadcast |= htonl(UINT32_MAX >> net->prefix4);
		add(&m, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	}
	return ask(n->fd, &m);
}

static int add_address6(const struct nic *n)
{
	const struct proto_net *net = n->net;
	struct ifaddrmsg address = {.ifa_family = AF_INET6,
		.ifa_prefixlen = net->prefix6,
		.ifa_flags = IFA_F_NODAD,
		.ifa_index = (uint32_t)n->index};
	struct message m =
		begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &address, sizeof(address));

	add(&m, IFA_ADDRESS, net->address6, sizeof(net->address6));
	return ask(n->fd, &m);
}

/* The first interface's route comes before the others'. */
static int add_default_route(
	const struct nic *n, uint8_t family, const uint8_t *gateway, size_t size)
{
	struct rtmsg route = {.rtm_family = family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST};
	struct message m = begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route, sizeof(route));
	uint32_t metric = n->order + (family == AF_INET6 ? 1024 : 0);

	add(&m, RTA_GATEWAY, gateway, size);
	add(&m, RTA_OIF, &n->index, sizeof(n->index));
	add(&m, RTA_PRIORITY, &metric, sizeof(metric));
	return ask(n->fd, &m);
}

static void set_ipv4(const struct nic *n)
{
	const struct proto_net *net = n->net;
	int error = add_address4(n);

	if (error) {
		boot_trouble(n->boot, "IPv4 address of network interface", n->name, error);
		return;
	}
	if (is_zero(net->gateway4, sizeof(net->gateway4)))
		return;
	error = add_default_route(n, AF_INET, net->gateway4, sizeof(net->gateway4));
	if (error)
		boot_trouble(n->boot, "IPv4 route through network interface", n->name, error);
}

/* What a kernel says that has no IPv6, or on whose command line it is switched off. */
static bool lacks_ipv6(int error)
{
	return error == EOPNOTSUPP || error == EAFNOSUPPORT || error == EACCES;
}

static void set_ipv6(const struct nic *n)
{
	const struct proto_net *net = n->net;
	int error = add_address6(n);

	if (lacks_ipv6(error) && net->prefix4)
		return;
	if (error) {
		boot_trouble(n->boot, "IPv6 address of network interface", n->name, error);
		return;
	}
	if (is_zero(net->gateway6, sizeof(net->gateway6)))
		return;
	error = add_default_route(n, AF_INET6, net->gateway6, sizeof(net->gateway6));
	if (error)
		boot_trouble(n->boot, "IPv6 route through network interface", n->name, error);
}

static void set_up(const struct nic *n)
{
	if (n->net->prefix6)
		refuse_routers(n);
	set_link(n);
	if (n->net->prefix4)
		set_ipv4(n);
	if (n->net->prefix6)
		set_ipv6(n);
}

static void report_missing(struct boot *b, const uint8_t *mac)
{
	char text[24];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		mac[3], mac[4], mac[5]);
	boot_trouble(b, "network interface", text, ENODEV);
}

static void set_up_all(struct boot *b, const struct search *s, int fd)
{
	for (unsigned int i = 0; i < s->request->n_nets; i++) {
		const struct proto_net *net = &s->request->nets[i];
		struct nic n = {.boot = b,
			.fd = fd,
			.net = net,
			.index = s->found[i].index,
			.name = s->found[i].name,
			.order = i};

		if (n.index)
			set_up(&n);
		else
			report_missing(b, net->mac);
	}
}

void net_configure(struct boot *b, const struct proto_request *q, int wait_ms)
{
	static struct search s;
	int error, fd;

	if (!q->n_nets)
		return;
	s = (struct search){.request = q, .missing = q->n_nets};
	s.fd = open_netlink(RTMGRP_LINK);
	fd = s.fd < 0 ? s.fd : open_netlink(0);
	error = fd < 0 ? -fd : find(&s, wait_ms);
	if (error)
		boot_trouble(b, "network interfaces", "by netlink", error);
	else
		set_up_all(b, &s, fd);
	if (fd >= 0)
		close(fd);
	if (s.fd >= 0)
		close(s.fd);
}
