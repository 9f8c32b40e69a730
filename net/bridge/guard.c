// SPDX-License-Identifier: MIT
// A NIC's guardian: makes it, tells what happens to it, and takes it away after its VM.
#include "net/bridge/guard.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/bridge/confine.h"
#include "net/bridge/nic.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#define SOCKET STDIN_FILENO

struct guard {
	struct nic nic;
	struct rtnl *watch;
	enum jail_mode jail;
	bool tap_gone, bridge_gone, off_bridge; /* has been told */
};

/* --- words with the monitor ----------------------------------------------------------------------
 */

/* Texts end where they must, whatever is in them. */
static int receive(struct bridge_request *r)
{
	ssize_t n = TEMP_FAILURE_RETRY(recv(SOCKET, r, sizeof(*r), MSG_TRUNC));

	if (n != sizeof(*r))
		return fail(EPROTO, "kvick-net: is run by kvick, which sends it one request");
	r->bridge[sizeof(r->bridge) - 1] = r->address[sizeof(r->address) - 1] = '\0';
	r->vm[sizeof(r->vm) - 1] = r->nic[sizeof(r->nic) - 1] = '\0';
	r->ip[sizeof(r->ip) - 1] = '\0';
	return 0;
}

/* What is asked for, in terms of what there is. */
static int parse(const struct bridge_request *r, struct nic_wish *w)
{
	int rc;

	*w = (struct nic_wish){
		.bridge = {.nat = r->nat, .dhcp = r->dhcp},
		.pairs = r->pairs,
		.mtu = r->mtu,
		.isolate = r->isolate,
		.spoof_guard = r->spoof_guard,
	};
	memcpy(w->mac, r->mac, sizeof(w->mac));
	memcpy(w->vm, r->vm, sizeof(w->vm));
	memcpy(w->nic, r->nic, sizeof(w->nic));
	rc = state_take_name(w->bridge.name, r->bridge);
	if (!rc && *r->address)
		rc = subnet_parse(&w->bridge.address, r->address);
	if (!rc && *r->ip)
		rc = subnet_parse(&w->ip, r->ip);
	return rc;
}

static int reply(struct bridge_reply *r, const int *files, unsigned count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(BRIDGE_FILES_MAX * sizeof(int))];
	} control = {.align = {.cmsg_len = CMSG_LEN(count * sizeof(int)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {r, sizeof(*r)};
	const struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = count ? &control : NULL,
		.msg_controllen = count ? CMSG_SPACE(count * sizeof(int)) : 0};

	memcpy(CMSG_DATA(&control.align), files, count * sizeof(int));
	if (TEMP_FAILURE_RETRY(sendmsg(SOCKET, &msg, MSG_NOSIGNAL)) < 0)
		return failno(errno, "kvick-net: its answer");
	return 0;
}

/* Once, until it is so no more. There may be no one to hear it. */
static void tell(bool *told, bool is_so, const char *fmt, ...) printf_like(3, 4);

static void tell(bool *told, bool is_so, const char *fmt, ...)
{
	char line[BRIDGE_LINE_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (is_so && !*told)
		send(SOCKET, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	*told = is_so;
}

/* --- what happens to the NIC ---------------------------------------------------------------------
 */

/* The bridge first: with it goes what is on it. */
static void look(struct guard *g)
{
	const char *tap = g->nic.state.tap, *bridge = g->nic.bridge.wish.name;
	struct rtnl *r = rtnl_open();
	struct link b, t;
	bool no_bridge, no_tap;

	if (!r)
		return;
	no_bridge = link_find(r, bridge, &b) != 0;
	no_tap = link_find(r, tap, &t) || t.index != g->nic.state.index;
	tell(&g->bridge_gone, no_bridge, "bridge %s was deleted", bridge);
	tell(&g->tap_gone, no_tap, "tap %s was deleted", tap);
	tell(&g->off_bridge, !no_bridge && !no_tap && t.master != b.index,
		"tap %s was taken off %s", tap, bridge);
	rtnl_close(r);
}

static void on_event(void *arg, const struct link *l)
{
	struct guard *g = arg;

	if (!l || l->index == g->nic.state.index || l->index == g->nic.bridge.index)
		look(g);
}

/* Until the socket's other end is closed, by whoever closes it. */
static void watch(struct guard *g)
{
	struct pollfd p[] = {{.fd = SOCKET, .events = POLLIN},
		{.fd = g->watch ? link_watch(g->watch) : -1, .events = POLLIN}};
	char word;
	ssize_t n;

	look(g);
	for (;;) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return;
		if (p[1].revents && link_events(g->watch, on_event, g))
			p[1].fd = -1;
		n = p[0].revents ? recv(SOCKET, &word, 1, MSG_DONTWAIT) : 1;
		if (!n || (n < 0 && errno != EAGAIN))
			return;
	}
}

/* --- all of it -----------------------------------------------------------------------------------
 */

static int serve(struct guard *g)
{
	struct bridge_request request;
	struct bridge_reply r = {0};
	struct nic_wish w;
	int rc = receive(&request);

	if (rc)
		return rc;
	rc = parse(&request, &w);
	if (!rc)
		rc = confine_for_setup();
	if (!rc)
		rc = nic_make(&g->nic, &w, &r.guest);
	if (!rc)
		rc = confine_for_guard(g->nic.bridge.wish.dhcp, g->jail);
	memcpy(r.tap, g->nic.state.tap, sizeof(r.tap));
	r.error = -rc;
	snprintf(r.text, sizeof(r.text), "%s", rc ? last_error() : "");
	if (reply(&r, g->nic.files, rc ? 0 : g->nic.count) && !rc)
		rc = -EPIPE;
	nic_let_go(&g->nic);
	return rc;
}

/*
 * What the terminal sends is for the VM, and what is sent to its group: who ends with it must not
 * leave before it has tidied up.
 */
static void stand_apart(void)
{
	setsid();
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
}

int guard_run(enum jail_mode jail)
{
	struct guard g = {.jail = jail};
	int rc;

	stand_apart();
	g.watch = rtnl_open();
	rc = serve(&g);
	if (!rc)
		watch(&g);
	if (g.nic.state.index)
		nic_remove(&g.nic);
	rtnl_close(g.watch);
	return rc;
}
