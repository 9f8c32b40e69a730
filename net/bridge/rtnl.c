// SPDX-License-Identifier: MIT
#include "net/bridge/rtnl.h"

#include "base/log.h"
#include "base/util.h"
#include "net/bridge/subnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

/* How many senders a bridge learns of: without an end a guest fills the host's memory with made up
 * ones. Since Linux 6.8; before, the attribute is passed over. */
#define BR_FDB_MAX_LEARNED (IFLA_BR_MCAST_QUERIER_STATE + 2)
#define LEARNED_MAX 4096u

struct rtnl {
	struct mnl_socket *nl;
	uint32_t seq;
	char out[1024];
	char in[32768]; /* the largest message that a dump is made of */
};

struct rtnl *rtnl_open(void)
{
	struct rtnl *r = calloc(1, sizeof(*r));

	if (r)
		r->nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!r || !r->nl || mnl_socket_bind(r->nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		failno(errno, "rtnetlink");
		rtnl_close(r);
		return NULL;
	}
	return r;
}

void rtnl_close(struct rtnl *r)
{
	if (r && r->nl)
		mnl_socket_close(r->nl);
	free(r);
}

/* A message with its header of `len` bytes, zeroed; *header is where that is. */
static struct nlmsghdr *begin(
	struct rtnl *r, uint16_t type, uint16_t flags, void *header, size_t len)
{
	struct nlmsghdr *n = mnl_nlmsg_put_header(r->out);

	n->nlmsg_type = type;
	n->nlmsg_flags = NLM_F_REQUEST | flags;
	n->nlmsg_seq = ++r->seq;
	memcpy(mnl_nlmsg_put_extra_header(n, len), header, len);
	return n;
}

/* Sends it and takes answers until the acknowledgement, or the end of the dump. */
static int talk(struct rtnl *r, const struct nlmsghdr *n, mnl_cb_t each, void *arg)
{
	unsigned port = mnl_socket_get_portid(r->nl);
	int rc = 1;

	if (mnl_socket_sendto(r->nl, n, n->nlmsg_len) < 0)
		return -errno;
	while (rc > 0) {
		ssize_t got = mnl_socket_recvfrom(r->nl, r->in, sizeof(r->in));

		if (got < 0 && errno == EINTR)
			continue;
		rc = got < 0 ? -1 : mnl_cb_run(r->in, (size_t)got, r->seq, port, each, arg);
	}
	return rc < 0 ? -errno : 0;
}

static int take_kind(const struct nlattr *a, void *arg)
{
	struct link *l = arg;

	if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
		snprintf(l->kind, sizeof(l->kind), "%s", mnl_attr_get_str(a));
	return MNL_CB_OK;
}

static int take_link_attr(const struct nlattr *a, void *arg)
{
	struct link *l = arg;

	switch (mnl_attr_get_type(a)) {
	case IFLA_MASTER:
		l->master = mnl_attr_get_u32(a);
		break;
	case IFLA_MTU:
		l->mtu = mnl_attr_get_u32(a);
		break;
	case IFLA_ADDRESS:
		if (mnl_attr_get_payload_len(a) == sizeof(l->mac))
			memcpy(l->mac, mnl_attr_get_payload(a), sizeof(l->mac));
		break;
	case IFLA_LINKINFO:
		return mnl_attr_parse_nested(a, take_kind, l);
	default:
		break;
	}
	return MNL_CB_OK;
}

static int take_link(const struct nlmsghdr *n, void *arg)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(n);
	struct link *l = arg;

	*l = (struct link){.index = (unsigned)i->ifi_index};
	return mnl_attr_parse(n, sizeof(*i), take_link_attr, l);
}

int link_find(struct rtnl *r, const char *name, struct link *out)
{
	struct ifinfomsg i = {0};
	struct nlmsghdr *n = begin(r, RTM_GETLINK, NLM_F_ACK, &i, sizeof(i));

	mnl_attr_put_strz(n, IFLA_IFNAME, name);
	return talk(r, n, take_link, out);
}

/* Without a MAC of its own a bridge has that of one of its ports, and changes it as they come and
 * go. */
int link_add_bridge(struct rtnl *r, const char *name, const uint8_t mac[6])
{
	struct ifinfomsg i = {0};
	struct nlmsghdr *n =
		begin(r, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &i, sizeof(i));
	struct nlattr *info, *data;

	mnl_attr_put_strz(n, IFLA_IFNAME, name);
	mnl_attr_put(n, IFLA_ADDRESS, 6, mac);
	info = mnl_attr_nest_start(n, IFLA_LINKINFO);
	mnl_attr_put_strz(n, IFLA_INFO_KIND, "bridge");
	data = mnl_attr_nest_start(n, IFLA_INFO_DATA);
	mnl_attr_put_u32(n, BR_FDB_MAX_LEARNED, LEARNED_MAX);
	mnl_attr_nest_end(n, data);
	mnl_attr_nest_end(n, info);
	return talk(r, n, NULL, NULL);
}

int link_delete(struct rtnl *r, unsigned index)
{
	struct ifinfomsg i = {.ifi_index = (int)index};

	return talk(r, begin(r, RTM_DELLINK, NLM_F_ACK, &i, sizeof(i)), NULL, NULL);
}

int link_set_up(struct rtnl *r, unsigned index)
{
	struct ifinfomsg i = {.ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	return talk(r, begin(r, RTM_NEWLINK, NLM_F_ACK, &i, sizeof(i)), NULL, NULL);
}

int link_set_mac(struct rtnl *r, unsigned index, const uint8_t mac[6])
{
	struct ifinfomsg i = {.ifi_index = (int)index};
	struct nlmsghdr *n = begin(r, RTM_NEWLINK, NLM_F_ACK, &i, sizeof(i));

	mnl_attr_put(n, IFLA_ADDRESS, 6, mac);
	return talk(r, n, NULL, NULL);
}

int link_set_mtu(struct rtnl *r, unsigned index, uint32_t mtu)
{
	struct ifinfomsg i = {.ifi_index = (int)index};
	struct nlmsghdr *n = begin(r, RTM_NEWLINK, NLM_F_ACK, &i, sizeof(i));

	mnl_attr_put_u32(n, IFLA_MTU, mtu);
	return talk(r, n, NULL, NULL);
}

int link_set_silent(struct rtnl *r, unsigned index)
{
	struct ifinfomsg i = {.ifi_index = (int)index};
	struct nlmsghdr *n = begin(r, RTM_NEWLINK, NLM_F_ACK, &i, sizeof(i));
	struct nlattr *families = mnl_attr_nest_start(n, IFLA_AF_SPEC);
	struct nlattr *inet6 = mnl_attr_nest_start(n, AF_INET6);

	mnl_attr_put_u8(n, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(n, inet6);
	mnl_attr_nest_end(n, families);
	return talk(r, n, NULL, NULL);
}

static int set_port(struct rtnl *r, unsigned index, uint16_t attribute, uint8_t value)
{
	struct ifinfomsg i = {.ifi_family = AF_BRIDGE, .ifi_index = (int)index};
	struct nlmsghdr *n = begin(r, RTM_SETLINK, NLM_F_ACK, &i, sizeof(i));
	struct nlattr *info = mnl_attr_nest_start(n, IFLA_PROTINFO);

	mnl_attr_put_u8(n, attribute, value);
	mnl_attr_nest_end(n, info);
	return talk(r, n, NULL, NULL);
}

/* It neither ages nor goes to another port, unless it may and is seen there. */
static int add_port_mac(struct rtnl *r, unsigned index, const uint8_t mac[6], bool sticky)
{
	struct ndmsg d = {.ndm_family = AF_BRIDGE,
		.ndm_ifindex = (int)index,
		.ndm_state = NUD_NOARP,
		.ndm_flags = (uint8_t)(NTF_MASTER | (sticky ? NTF_STICKY : 0))};
	struct nlmsghdr *n =
		begin(r, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &d, sizeof(d));

	mnl_attr_put(n, NDA_LLADDR, 6, mac);
	return talk(r, n, NULL, NULL);
}

int link_join(struct rtnl *r, unsigned index, unsigned bridge, unsigned how, const uint8_t mac[6])
{
	struct ifinfomsg i = {.ifi_index = (int)index};
	struct nlmsghdr *n = begin(r, RTM_NEWLINK, NLM_F_ACK, &i, sizeof(i));
	int rc;

	mnl_attr_put_u32(n, IFLA_MASTER, bridge);
	rc = talk(r, n, NULL, NULL);
	if (!rc && (how & LINK_ISOLATED))
		rc = set_port(r, index, IFLA_BRPORT_ISOLATED, 1);
	if (!rc && (how & LINK_GUARDED))
		rc = set_port(r, index, IFLA_BRPORT_LEARNING, 0);
	if (!rc && (how & LINK_GUARDED))
		rc = set_port(r, index, IFLA_BRPORT_GUARD, 1);
	return rc ? rc : add_port_mac(r, index, mac, how & LINK_GUARDED);
}

int link_add_address(struct rtnl *r, unsigned index, const struct subnet *s)
{
	struct ifaddrmsg a = {
		.ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)s->prefix, .ifa_index = index};
	struct nlmsghdr *n =
		begin(r, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &a, sizeof(a));
	uint32_t last = htonl(subnet_network(s) + subnet_hosts(s) + 1);

	mnl_attr_put_u32(n, IFA_LOCAL, s->address.s_addr);
	mnl_attr_put_u32(n, IFA_ADDRESS, s->address.s_addr);
	mnl_attr_put_u32(n, IFA_BROADCAST, last);
	return talk(r, n, NULL, NULL);
}

/* No one else can have it: it is in use at once, without asking the link first. */
int link_add_address6(struct rtnl *r, unsigned index, const struct in6_addr *addr, unsigned prefix)
{
	struct ifaddrmsg a = {.ifa_family = AF_INET6,
		.ifa_prefixlen = (uint8_t)prefix,
		.ifa_flags = IFA_F_NODAD,
		.ifa_index = index};
	struct nlmsghdr *n =
		begin(r, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &a, sizeof(a));

	mnl_attr_put(n, IFA_LOCAL, sizeof(*addr), addr);
	mnl_attr_put(n, IFA_ADDRESS, sizeof(*addr), addr);
	return talk(r, n, NULL, NULL);
}

struct route_search {
	const struct subnet *subnet;
	unsigned index; /* not this one */
	struct subnet found;
	unsigned found_index;
};

struct route {
	uint32_t to;
	unsigned index;
};

static int take_route_attr(const struct nlattr *a, void *arg)
{
	struct route *r = arg;

	if (mnl_attr_get_type(a) == RTA_DST)
		r->to = mnl_attr_get_u32(a);
	if (mnl_attr_get_type(a) == RTA_OIF)
		r->index = mnl_attr_get_u32(a);
	return MNL_CB_OK;
}

static int look_at_route(const struct nlmsghdr *n, void *arg)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(n);
	struct route_search *s = arg;
	struct route r = {0};
	struct subnet to = {.prefix = m->rtm_dst_len};

	if ((m->rtm_table != RT_TABLE_MAIN && m->rtm_table != RT_TABLE_LOCAL) || !m->rtm_dst_len ||
		s->found.prefix)
		return MNL_CB_OK;
	if (mnl_attr_parse(n, sizeof(*m), take_route_attr, &r) < 0)
		return MNL_CB_ERROR;
	to.address.s_addr = r.to;
	if (subnet_overlaps(s->subnet, &to) && (!s->index || r.index != s->index)) {
		s->found = to;
		s->found_index = r.index;
	}
	return MNL_CB_OK;
}

int route_find(struct rtnl *r, const struct subnet *subnet, unsigned index, char *text, size_t len)
{
	struct route_search s = {.subnet = subnet, .index = index};
	struct rtmsg m = {.rtm_family = AF_INET};
	int rc = talk(r, begin(r, RTM_GETROUTE, NLM_F_DUMP, &m, sizeof(m)), look_at_route, &s);
	char name[IFNAMSIZ], to[SUBNET_TEXT];
	bool one;

	if (rc || !s.found.prefix)
		return rc;
	one = s.found_index && if_indextoname(s.found_index, name);
	snprintf(text, len, "%s%s%s", subnet_format(&s.found, to), one ? " dev " : "",
		one ? name : "");
	return -EEXIST;
}

int link_watch(struct rtnl *r)
{
	int group = RTNLGRP_LINK;

	if (mnl_socket_setsockopt(r->nl, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return -errno;
	return mnl_socket_get_fd(r->nl);
}

struct watch {
	void (*event)(void *arg, const struct link *link);
	void *arg;
};

static int take_event(const struct nlmsghdr *n, void *arg)
{
	const struct watch *w = arg;
	struct link l;

	if (take_link(n, &l) >= 0)
		w->event(w->arg, &l);
	return MNL_CB_OK;
}

int link_events(struct rtnl *r, void (*event)(void *arg, const struct link *link), void *arg)
{
	struct watch w = {event, arg};
	ssize_t n = recv(mnl_socket_get_fd(r->nl), r->in, sizeof(r->in), MSG_DONTWAIT);

	if (n < 0 && errno == ENOBUFS)
		event(arg, NULL);
	if (n < 0)
		return errno == ENOBUFS || errno == EAGAIN || errno == EINTR ? 0 : -errno;
	mnl_cb_run(r->in, (size_t)n, 0, 0, take_event, &w);
	return 0;
}
