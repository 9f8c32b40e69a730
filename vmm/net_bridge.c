// SPDX-License-Identifier: MIT
// A NIC on a bridge, from the monitor's side: kvick-net makes it and stands guard over it.
#include "vmm/net_bridge.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/bridge/bridge.h"
#include "net/tap.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PROGRAM "kvick-net"

static int start(struct net_bridge *b, const struct net_host *host)
{
	char name[] = PROGRAM, guard[] = "guard", jail[8];
	char *argv[] = {name, guard, jail, NULL};
	const struct helper_fd messages = {host->messages, STDERR_FILENO};

	snprintf(jail, sizeof(jail), "%d", host->jail);
	return helper_start(
		&b->guardian, host->open_program(PROGRAM), argv, &messages, host->messages ? 1 : 0);
}

static void put_text(char *to, size_t size, const char *text)
{
	if (text)
		snprintf(to, size, "%s", text);
}

static int send_request(const struct net_bridge *b, const struct net_config *n, const char *vm)
{
	struct bridge_request r = {
		.pairs = n->pairs,
		.mtu = n->mtu,
		.nat = n->nat,
		.dhcp = n->dhcp,
		.isolate = n->isolate,
		.spoof_guard = n->spoof_guard,
	};

	put_text(r.bridge, sizeof(r.bridge), n->bridge);
	put_text(r.address, sizeof(r.address), n->address);
	put_text(r.ip, sizeof(r.ip), n->ip);
	put_text(r.vm, sizeof(r.vm), vm);
	put_text(r.nic, sizeof(r.nic), n->id);
	memcpy(r.mac, n->mac, sizeof(r.mac));
	if (send(b->guardian.socket, &r, sizeof(r), MSG_NOSIGNAL) < 0)
		return failno(errno, PROGRAM);
	return 0;
}

/* The reply and its files, of which there are *count. */
static int receive(
	const struct net_bridge *b, struct bridge_reply *reply, int *files, unsigned *count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(BRIDGE_FILES_MAX * sizeof(int))];
	} control;
	struct iovec iov = {reply, sizeof(*reply)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n = TEMP_FAILURE_RETRY(recvmsg(b->guardian.socket, &msg, MSG_CMSG_CLOEXEC));
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*count = c ? (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;
	if (c)
		memcpy(files, CMSG_DATA(c), *count * sizeof(int));
	if (n != sizeof(*reply) || (!reply->error && *count <= BRIDGE_TAP))
		return fail(EPIPE, PROGRAM " ended before it had answered");
	reply->text[sizeof(reply->text) - 1] = '\0';
	return reply->error ? fail(reply->error, "%s", reply->text) : 0;
}

static void tell_guest(struct net_guest *to, const struct bridge_guest *from,
	const struct net_config *n, uint32_t mtu)
{
	*to = (struct net_guest){
		.mtu = mtu,
		.address = from->address,
		.prefix = from->prefix,
		.gateway = from->gateway,
		.address6 = from->address6,
		.prefix6 = from->prefix6,
	};
	memcpy(to->mac, n->mac, sizeof(to->mac));
	memcpy(to->resolver, from->resolver, sizeof(from->resolver));
}

int net_bridge_open(struct net_bridge *b, const struct net_config *n, const struct net_host *host,
	struct net_end *end, struct net_guest *guest)
{
	int files[BRIDGE_FILES_MAX];
	struct bridge_reply reply = {0};
	unsigned count = 0;
	int rc;

	*b = (struct net_bridge){.guardian = {.socket = -1}, .lock = -1, .nic = n->id};
	rc = start(b, host);
	if (!rc)
		rc = send_request(b, n, host->vm);
	if (!rc)
		rc = receive(b, &reply, files, &count);
	if (count)
		b->lock = files[BRIDGE_LOCK];
	if (!rc)
		rc = tap_take(end, files + BRIDGE_TAP, count - BRIDGE_TAP);
	if (rc) {
		net_bridge_finish(b);
		return rc;
	}
	tap_learn_mtu(end);
	tell_guest(guest, &reply.guest, n, end->mtu);
	return 0;
}

/* ---- while the VM runs ---- */

static void stop_watching(struct net_bridge *b)
{
	if (b->loop)
		loop_del(b->loop, &b->watch);
	b->loop = NULL;
}

static void heard(void *arg, uint32_t events)
{
	struct net_bridge *b = arg;
	char line[BRIDGE_LINE_MAX + 1];
	ssize_t n = recv(b->guardian.socket, line, sizeof(line) - 1, MSG_DONTWAIT);

	line[MAX(n, 0)] = '\0';
	if (n > 0) {
		b->told(b->arg, b->nic, line);
	} else if (n == 0 || errno != EAGAIN) {
		stop_watching(b);
		b->told(b->arg, b->nic,
			PROGRAM
			" has ended; the NIC goes on, and the next VM on a bridge tidies up");
	}
}

int net_bridge_watch(struct net_bridge *b, struct loop *loop)
{
	int rc;

	if (!b->guardian.pid)
		return 0;
	b->watch = WATCH_INIT(heard, b);
	rc = loop_add(loop, &b->watch, b->guardian.socket, EPOLLIN);
	if (rc)
		return failno(-rc, PROGRAM);
	b->loop = loop;
	return 0;
}

void net_bridge_files(const struct net_bridge *b, int files[NET_BRIDGE_FILES])
{
	files[0] = b->guardian.socket;
	files[1] = b->lock;
}

void net_bridge_adopt(struct net_bridge *b, const struct net_config *n, int files[NET_BRIDGE_FILES])
{
	*b = (struct net_bridge){
		.guardian = {.pid = HELPER_ADOPTED, .socket = steal_fd(&files[0])},
		.lock = steal_fd(&files[1]),
		.nic = n->id,
	};
}

void net_bridge_leave(struct net_bridge *b)
{
	if (!b->guardian.pid)
		return;
	stop_watching(b);
	cleanup_fd_(&b->lock);
	cleanup_fd_(&b->guardian.socket);
	b->lock = b->guardian.socket = -1;
}

void net_bridge_hand_over(struct net_bridge *b)
{
	net_bridge_leave(b);
	b->guardian.pid = 0;
}

void net_bridge_finish(struct net_bridge *b)
{
	net_bridge_leave(b);
	helper_wait(&b->guardian);
}
