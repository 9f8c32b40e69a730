// SPDX-License-Identifier: MIT
// A NIC from its other end up to what the guest has.
#include "vmm/nic.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/pcap.h"
#include "net/tap.h"
#include "virtio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What would be said to nobody is not taken. */
static int check_told(const struct net_config *n, bool configured)
{
	if (!configured && (n->told.prefix || n->told.prefix6))
		return fail(EINVAL,
			"ip: only a guest that kvick run starts is told it; others ask by DHCP, or "
			"are set up from within");
	return 0;
}

static int open_tap(const struct net_config *n, const struct net_host *host, struct net_end *end,
	struct net_guest *guest)
{
	int rc = check_told(n, host->configured);

	if (!rc)
		rc = n->fd.count ? tap_adopt(end, &n->fd)
				 : tap_open(end, n->name, n->pairs, n->mtu);
	if (rc)
		return rc;
	if (n->mtu)
		end->mtu = n->mtu;
	*guest = n->told;
	guest->mtu = end->mtu;
	memcpy(guest->mac, n->mac, sizeof(guest->mac));
	log_info("%s: tap %s", n->id, end->name);
	return 0;
}

static int open_record(const struct net_config *n, struct net_end *end)
{
	int fd = n->pcap ? pcap_open(n->pcap) : 0;

	end->pcap = MAX(fd, 0);
	return MIN(fd, 0);
}

int nic_open(struct nic_helper *h, const struct net_config *n, const struct net_host *host,
	struct net_end *end, struct net_guest *guest)
{
	int rc;

	if (n->kind == NET_USER)
		rc = net_user_open(&h->user, n, host, end, guest);
	else if (n->kind == NET_BRIDGE)
		rc = net_bridge_open(&h->bridge, n, host, end, guest);
	else
		rc = open_tap(n, host, end, guest);
	if (!rc) {
		rc = open_record(n, end);
		rc = rc ? rc : nic_open_vhost(n, end, host->pci);
		if (rc)
			port_close(end);
	}
	return rc ? fail_context(rc, "--net %s: %s", net_kind_name(n->kind), n->id) : 0;
}

int nic_await(struct nic_helper *h)
{
	return net_user_await(&h->user);
}

int nic_watch(struct nic_helper *h, const struct nic_listener *listener)
{
	int rc;

	h->user.lost = listener->lost;
	h->bridge.told = listener->told;
	h->user.arg = h->bridge.arg = listener->arg;
	rc = net_user_watch(&h->user, listener->loop);
	return rc ? rc : net_bridge_watch(&h->bridge, listener->loop);
}

void nic_leave(struct nic_helper *h)
{
	net_bridge_leave(&h->bridge);
}

void nic_finish(struct nic_helper *h)
{
	net_bridge_finish(&h->bridge);
	net_user_finish(&h->user);
}

void nic_hand_over(struct nic_helper *h)
{
	net_bridge_hand_over(&h->bridge);
	net_user_hand_over(&h->user);
}

void nic_helper_free(struct nic_helper *h)
{
	if (h)
		nic_finish(h);
	free(h);
}

unsigned nic_files_list(
	const struct net_end *end, const struct nic_helper *h, int fds[NIC_FILES_MAX])
{
	unsigned n = end->pairs;

	memcpy(fds, end->fd, n * sizeof(*fds));
	if (end->pcap)
		fds[n++] = end->pcap;
	for (unsigned i = 0; i < end->vhosts; i++)
		fds[n++] = end->vhost[i].fd;
	if (h->user.cfg) {
		net_user_files(&h->user, fds + n);
		n += NET_USER_FILES;
	} else if (h->bridge.nic) {
		net_bridge_files(&h->bridge, fds + n);
		n += NET_BRIDGE_FILES;
	}
	return n;
}

static void take_vhosts(struct net_end *end, int *fds)
{
	for (; end->vhosts < end->pairs; end->vhosts++) {
		end->vhost[end->vhosts] = VHOST_NONE;
		end->vhost[end->vhosts].fd = steal_fd(&fds[end->vhosts]);
	}
}

/* How many there are for its process. */
static unsigned helper_files(const struct net_config *n)
{
	static const unsigned counts[] = {
		[NET_USER] = NET_USER_FILES, [NET_BRIDGE] = NET_BRIDGE_FILES, [NET_TAP] = 0};

	return counts[n->kind];
}

/* The end itself; what is at it is known by who has made it, a tap of whom we ask. */
static int take_end(const struct net_config *n, int *fds, int *of_helper, struct net_end *end,
	struct nic_helper *h)
{
	int rc;

	if (n->kind == NET_USER)
		return net_user_adopt(&h->user, n, fds, of_helper, end);
	rc = tap_take(end, fds, n->pairs);
	memset(fds, 0xff, n->pairs * sizeof(*fds));
	if (rc)
		return rc;
	end->mtu = n->mtu;
	if (n->kind == NET_BRIDGE)
		net_bridge_adopt(&h->bridge, n, of_helper);
	return 0;
}

int nic_files_take(const struct net_config *n, int *fds, unsigned count, struct net_end *end,
	struct nic_helper *h)
{
	unsigned helper = helper_files(n), more = n->pairs + helper;
	bool vhost = !n->pcap && n->kind != NET_USER && count == more + n->pairs;
	int rc;

	*h = (struct nic_helper){0};
	if (!vhost && count != more + (n->pcap != NULL))
		return fail(EINVAL, "NIC %s: %u descriptors for %u pairs of queues%s%s", n->id,
			count, n->pairs, n->pcap ? ", a pcap file" : "",
			helper ? " and two of its process" : "");
	rc = check_told(n, false);
	if (!rc)
		rc = take_end(n, fds, fds + count - helper, end, h);
	if (rc)
		return fail_context(rc, "NIC %s", n->id);
	if (n->pcap)
		end->pcap = steal_fd(&fds[n->pairs]);
	if (vhost)
		take_vhosts(end, fds + n->pairs);
	return 0;
}

int nic_create(struct virtio_device **out, const struct net_config *n, const struct net_end *end,
	const struct nic_host *host)
{
	struct virtio_net_args args = {
		.name = n->id,
		.end = *end,
		.mtu = end->mtu,
		.link_up = n->link == NET_LINK_UP,
		.limits = n->limits,
		.event = host->event,
		.arg = host->arg,
	};

	int rc = nic_own_vhost(n, &args.end);

	if (rc) {
		port_close(&args.end);
		return fail_context(rc, "NIC %s", n->id);
	}
	memcpy(args.mac, n->mac, sizeof(args.mac));
	return virtio_net_create(out, &args);
}
