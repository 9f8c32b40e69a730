// SPDX-License-Identifier: MIT
#include "net/bridge/nic.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/bridge/dhcp.h"
#include "net/bridge/forward.h"
#include "net/bridge/rules.h"
#include "net/bridge/subnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define TAP_NAME "kvt%d"
#define HEADER 12 /* bytes of struct virtio_net_hdr_v1 before each frame */

/* --- the tap ------------------------------------------------------------------------------------
 */

static int open_queue(struct nic *n, bool many)
{
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
						 (many ? IFF_MULTI_QUEUE : 0))};
	CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	const int header = HEADER;

	if (fd < 0)
		return failno(errno, "/dev/net/tun%s", errno == ENOENT ? " (modprobe tun)" : "");
	snprintf(ifr.ifr_name, IFNAMSIZ, "%s", *n->state.tap ? n->state.tap : TAP_NAME);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		return failno(errno, "cannot make a tap");
	memcpy(n->state.tap, ifr.ifr_name, IFNAMSIZ);
	n->files[n->count++] = steal_fd(&fd);
	return 0;
}

/* The kernel finds it a name that is free. */
static int make_tap(struct host *h, struct nic *n, unsigned pairs)
{
	struct link l = {0};
	int rc = 0;

	if (!pairs || pairs > BRIDGE_PAIRS_MAX)
		return fail(EINVAL, "queues %u: must be 1 to %u", pairs, BRIDGE_PAIRS_MAX);
	n->count = BRIDGE_TAP;
	for (unsigned i = 0; i < pairs && !rc; i++)
		rc = open_queue(n, pairs > 1);
	if (!rc && link_find(h->rtnl, n->state.tap, &l))
		rc = fail(EIO, "%s: is gone as soon as it was made", n->state.tap);
	n->state.index = l.index;
	return rc;
}

/* The rules come first: not one frame gets past them. */
static int join(struct host *h, struct nic *n, const struct nic_wish *w)
{
	/* The highest there is: a bridge without a MAC of its own has the lowest of its ports'. */
	const uint8_t mac[6] = {0xfe, w->mac[1], w->mac[2], w->mac[3], w->mac[4], w->mac[5]};
	unsigned tap = n->state.index;
	struct link bridge;
	int rc = link_find(h->rtnl, n->bridge.wish.name, &bridge);

	if (!rc && !memcmp(bridge.mac, w->mac, sizeof(bridge.mac)))
		return fail(EEXIST,
			"%s: its own mac is this: choose another by mac=", n->bridge.wish.name);
	link_set_silent(h->rtnl, tap); /* fails where there is no IPv6, as is wanted */
	forward_harden_tap(n->state.tap);
	if (!rc)
		rc = link_set_mac(h->rtnl, tap, mac);
	if (!rc)
		rc = link_set_mtu(h->rtnl, tap, w->mtu ? w->mtu : bridge.mtu);
	if (!rc)
		rc = host_join(h, &n->state, bridge.index);
	if (!rc)
		rc = link_set_up(h->rtnl, tap);
	return rc ? failno(-rc, "%s: cannot put %s on it", n->bridge.wish.name, n->state.tap) : 0;
}

/* --- its addresses ------------------------------------------------------------------------------
 */

static const struct nic_state *who_has(const struct nic_list *l, struct in_addr a)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (l->nics[i].alive && l->nics[i].address.s_addr == a.s_addr)
			return &l->nics[i];
	}
	return NULL;
}

static int check_mac(const struct nic *n, const struct nic_list *l)
{
	const uint8_t *m = n->state.mac;

	for (unsigned i = 0; i < l->count; i++) {
		if (l->nics[i].alive && !memcmp(l->nics[i].mac, m, 6))
			return fail(EEXIST,
				"%s: %s of VM %s has mac %02x:%02x:%02x:%02x:%02x:%02x already",
				n->bridge.wish.name, l->nics[i].nic, l->nics[i].vm, m[0], m[1],
				m[2], m[3], m[4], m[5]);
	}
	return 0;
}

/* The one that its MAC makes, or the next that is free. */
static int choose_address(struct nic *n, const struct nic_list *l)
{
	const struct subnet *s = &n->bridge.wish.address;
	uint32_t hosts = subnet_hosts(s), first = (uint32_t)(stable_hash(n->state.mac, 6) % hosts);
	char text[SUBNET_TEXT];

	for (uint32_t i = 0; i < hosts; i++) {
		struct in_addr a = {htonl(subnet_network(s) + 1 + (first + i) % hosts)};

		if (a.s_addr == s->address.s_addr || who_has(l, a))
			continue;
		n->state.address = a;
		return 0;
	}
	return fail(ENOSPC, "%s: every address of %s is taken", n->bridge.wish.name,
		subnet_format(s, text));
}

static int check_address(const struct nic *n, const struct subnet *want, const struct nic_list *l)
{
	const struct subnet *s = &n->bridge.wish.address;
	const struct nic_state *other = who_has(l, want->address);
	char text[2][SUBNET_TEXT];

	subnet_format(want, text[0]);
	subnet_format(s, text[1]);
	if (s->prefix && (want->prefix != s->prefix || !subnet_has(s, want->address)))
		return fail(EINVAL, "ip %s: is not in the network of %s, %s", text[0],
			n->bridge.wish.name, text[1]);
	if (s->prefix && want->address.s_addr == s->address.s_addr)
		return fail(
			EINVAL, "ip %s: is the address of %s itself", text[0], n->bridge.wish.name);
	if (other)
		return fail(EEXIST, "ip %s: %s of VM %s has it", text[0], other->nic, other->vm);
	return 0;
}

static int take_address(struct host *h, struct nic *n, const struct subnet *want)
{
	struct nic_list l;
	int rc = state_nics(&h->state, n->bridge.wish.name, &l);

	if (!rc)
		rc = check_mac(n, &l);
	if (!rc && want->prefix) {
		rc = subnet_check(want);
		if (!rc)
			rc = check_address(n, want, &l);
		n->state.address = want->address;
	} else if (!rc && n->bridge.wish.address.prefix) {
		rc = choose_address(n, &l);
	}
	nics_free(&l);
	if (!rc && n->state.spoof_guard && !n->state.address.s_addr)
		rc = fail(EINVAL,
			"spoof-guard: what address the guest has on %s is not known: "
			"give it by ip=",
			n->bridge.wish.name);
	return rc;
}

static void tell_guest(const struct nic *n, const struct nic_wish *w, struct bridge_guest *guest)
{
	const struct bridge_state *b = &n->bridge;

	*guest = (struct bridge_guest){.address = n->state.address};
	if (!n->state.address.s_addr)
		return;
	guest->prefix = *b->maker ? b->wish.address.prefix : w->ip.prefix;
	guest->gateway = b->wish.address.address;
	if (b->wish.dhcp)
		guest->resolver[0] = b->wish.address.address;
	else if (b->wish.nat)
		dhcp_host_resolvers(guest->resolver);
	if (b->ipv6) {
		guest->address6 = state_address6(b, n->state.address);
		guest->prefix6 = 64;
	}
}

/* --- all of it ----------------------------------------------------------------------------------
 */

/* The steps behind the bridge; what they make is taken away by nic_remove_locked. */
static int make(struct host *h, struct nic *n, const struct nic_wish *w)
{
	int rc = take_address(h, n, &w->ip);

	if (!rc)
		rc = make_tap(h, n, w->pairs);
	if (!rc) {
		rc = state_add_nic(&h->state, n->bridge.wish.name, &n->state);
		n->files[BRIDGE_LOCK] = rc < 0 ? -1 : rc;
		rc = MIN(rc, 0);
	}
	if (!rc && n->state.isolate && *n->bridge.maker)
		rc = host_add_rules(h, &n->bridge);
	if (!rc && n->state.spoof_guard)
		rc = host_add_guard(h, &n->bridge, &n->state);
	if (!rc && n->bridge.wish.dhcp)
		rc = dhcp_update(&h->state, &n->bridge);
	return rc ? rc : join(h, n, w);
}

static void remove_locked(struct host *h, const struct nic *n)
{
	const char *bridge = n->bridge.wish.name;
	struct bridge_state b;

	if (state_load(&h->state, bridge, &b))
		return; /* another has taken all of it away */
	if (n->state.spoof_guard && n->state.index && b.rules)
		rules_remove_guard(bridge, n->state.index);
	if (n->state.index)
		state_remove_nic(&h->state, bridge, n->state.index);
	if (b.wish.dhcp)
		dhcp_tell(&h->state, &b);
	host_release_bridge(h, bridge);
}

int nic_make(struct nic *n, const struct nic_wish *w, struct bridge_guest *guest)
{
	char maker[BRIDGE_LABEL + 8], why[256];
	struct host h;
	int rc = host_open(&h);

	*n = (struct nic){.files[0 ... BRIDGE_FILES_MAX - 1] = -1};
	if (rc)
		return rc;
	snprintf(maker, sizeof(maker), "VM %s", w->vm);
	rc = host_add_bridge(&h, &w->bridge, maker, &n->bridge);
	if (!rc) {
		memcpy(n->state.mac, w->mac, sizeof(w->mac));
		snprintf(n->state.vm, sizeof(n->state.vm), "%s", w->vm);
		snprintf(n->state.nic, sizeof(n->state.nic), "%s", w->nic);
		n->state.isolate = w->isolate || n->bridge.wish.isolate;
		n->state.spoof_guard = w->spoof_guard;
		rc = make(&h, n, w);
		snprintf(why, sizeof(why), "%s", rc ? last_error() : "");
		tell_guest(n, w, guest);
		if (rc) {
			nic_let_go(n);
			remove_locked(&h, n);
			n->state.index = 0;
			rc = fail(-rc, "%s", why);
		}
	}
	host_close(&h);
	return rc;
}

void nic_let_go(struct nic *n)
{
	for (unsigned i = 0; i < BRIDGE_FILES_MAX; i++) {
		cleanup_fd_(&n->files[i]);
		n->files[i] = -1;
	}
}

void nic_remove(struct nic *n)
{
	struct host h;

	if (host_open(&h)) {
		log_error("%s: %s", n->state.tap, last_error());
		return;
	}
	remove_locked(&h, n);
	host_close(&h);
}
