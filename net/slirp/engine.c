// SPDX-License-Identifier: MIT
// libslirp between the guest's wire and the host's sockets, and the loop that runs it.
//
// libslirp says before each wait which sockets it wants to hear of, and looks at all of them after
// it. A guest that does not read is waited for: while something is held for it, nothing is read
// from the host's sockets, whose senders then wait as TCP has them wait.
#include "net/slirp/engine.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "net/slirp/filter.h"
#include "net/slirp/frame.h"
#include "net/slirp/link.h"
#include "net/slirp/relay.h"
#include "net/slirp/reply.h"
#include "net/slirp/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <libslirp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define MS 1000000
#define BACKLOG_FULL KIB(512) /* nothing more is read from sockets in this turn */
#define ACCEPT_QUEUE 128
#define LIBSLIRP_IDLE_MS 1000 /* what it waits for nothing in particular */
#define OWN_DESCRIPTORS 64u   /* kept from libslirp's sockets */
#define SEGMENT_MAX 16416u    /* of TCP, with its headers; see start_slirp */

enum { POLL_CONTROL, POLL_PACKETS, POLL_RELAY };

struct engine {
	struct engine_config config;
	Slirp *slirp;
	struct link *link;
	struct filter filter;
	struct relay relay;
	struct guest_log mistakes;

	struct pollfd fds[SANDBOX_DESCRIPTORS + POLL_RELAY + RELAY_QUESTIONS];
	unsigned count;
	unsigned sockets, most;            /* of libslirp's: open, and as many as there may be */
	bool listens[SANDBOX_DESCRIPTORS]; /* by number: those that take connections */
	bool blocked;           /* something was held for the guest before this turn's wait */
	int resume, stopped_at; /* the socket at which the guest had enough; -1: not yet */
	int64_t timer_ms;       /* router advertisements; INT64_MAX: not armed */
};

static int64_t now_ms(void)
{
	return (int64_t)(now_ns() / MS);
}

/* What libslirp calls. */

static ssize_t send_packet(const void *frame, size_t len, void *arg)
{
	struct engine *e = arg;
	struct frame f;

	if (frame_parse(&f, frame, len) == FRAME_OK && !filter_in(&e->filter, &f, now_ms()))
		return (ssize_t)len;
	link_send(e->link, frame, len);
	return (ssize_t)len;
}

static void guest_mistake(const char *msg, void *arg)
{
	struct engine *e = arg;

	guest_error(&e->mistakes, "user-mode network", "%s", msg);
}

/* As libslirp says it through glib: on what the guest has sent, mostly. */
static void glib_message(const char *domain, GLogLevelFlags level, const char *text, void *arg)
{
	guest_mistake(text, arg);
}

static int64_t clock_get_ns(void *arg)
{
	return (int64_t)now_ns();
}

static void *timer_new(SlirpTimerId id, void *cb_arg, void *arg)
{
	struct engine *e = arg;

	e->timer_ms = INT64_MAX;
	return &e->timer_ms;
}

static void timer_free(void *timer, void *arg)
{
	*(int64_t *)timer = INT64_MAX;
}

static void timer_mod(void *timer, int64_t expire_ms, void *arg)
{
	*(int64_t *)timer = expire_ms;
}

/* Which sockets are to be watched is asked for before each wait; here they are but counted. */
static void socket_opened(int fd, void *arg)
{
	struct engine *e = arg;

	e->sockets += fd >= 0;
}

static void socket_closes(int fd, void *arg)
{
	struct engine *e = arg;

	e->sockets -= fd >= 0;
}

static void ignore(void *arg)
{
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_mistake,
	.clock_get_ns = clock_get_ns,
	.timer_new_opaque = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = socket_opened,
	.unregister_poll_fd = socket_closes,
	.notify = ignore,
};

/* What the guest sends. */

static void send_reply(void *arg, const uint8_t *frame, size_t len)
{
	struct engine *e = arg;

	link_send(e->link, frame, len);
}

static void say_denied(struct engine *e, const struct frame *f)
{
	char text[INET6_ADDRSTRLEN] = "?";
	bool v4 = f->kind == FRAME_IPV4;

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &f->dst.s6_addr[12] : f->dst.s6_addr, text,
		sizeof(text));
	guest_error(&e->mistakes, "user-mode network", "%s port %u is not for the guest to reach",
		text, f->dst_port);
}

static void refuse(struct engine *e, const struct frame *f)
{
	uint8_t reset[REPLY_HEADERS];

	say_denied(e, f);
	link_send(e->link, reset, reply_reset(f, reset));
}

/*
 * libslirp keeps the socket of a connection that the host has ended first for ten seconds more. A
 * guest that opens many in a row waits here, by way of TCP's own repetition, and is not refused.
 */
static void input(struct engine *e, const struct frame *f)
{
	bool another = f->kind != FRAME_ARP && f->protocol != IPPROTO_ICMPV6 &&
		       (f->protocol != IPPROTO_TCP || frame_is_tcp_open(f));

	if (another && e->sockets >= e->most)
		e->config.counters[SLIRP_BUSY]++;
	else
		slirp_input(e->slirp, f->bytes, (int)f->end);
}

static void act(struct engine *e, const struct frame *f)
{
	switch (filter_out(&e->filter, f, now_ms())) {
	case FILTER_PASS:
		input(e, f);
		break;
	case FILTER_REFUSE:
		refuse(e, f);
		break;
	case FILTER_DNS:
		relay_query(&e->relay, f, now_ms());
		break;
	case FILTER_DROP:
		break;
	}
}

static void got(void *arg, const void *vnet_header, uint8_t *bytes, size_t len)
{
	struct engine *e = arg;
	enum frame_error bad = FRAME_MALFORMED;
	struct frame f;

	if (len <= FRAME_MAX && frame_finish(vnet_header, bytes, len))
		bad = frame_parse(&f, bytes, len);
	if (bad == FRAME_OK)
		act(e, &f);
	else
		e->config.counters[bad == FRAME_UNKNOWN ? SLIRP_UNKNOWN : SLIRP_MALFORMED]++;
}

/* Its start. */

static const char *text_of(const struct policy_publish *p, char *to, size_t size)
{
	char address[INET6_ADDRSTRLEN] = "?";
	bool v4 = p->host.any.sa_family == AF_INET;

	if (v4)
		inet_ntop(AF_INET, &p->host.v4.sin_addr, address, sizeof(address));
	else
		inet_ntop(AF_INET6, &p->host.v6.sin6_addr, address, sizeof(address));
	snprintf(to, size, v4 ? "%s:%u%s" : "[%s]:%u%s", address,
		ntohs(v4 ? p->host.v4.sin_port : p->host.v6.sin6_port), p->udp ? "/udp" : "");
	return to;
}

static socklen_t host_size(const struct policy_publish *p)
{
	return p->host.any.sa_family == AF_INET ? sizeof(p->host.v4) : sizeof(p->host.v6);
}

static int publish(struct engine *e, const struct policy_publish *p)
{
	struct sockaddr_in guest4 = {.sin_family = AF_INET, .sin_port = htons(p->guest_port)};
	struct sockaddr_in6 guest6 = {.sin6_family = AF_INET6, .sin6_port = htons(p->guest_port)};
	bool v4 = p->host.any.sa_family == AF_INET;
	const struct sockaddr *guest = v4 ? (void *)&guest4 : (void *)&guest6;
	int flags = (p->udp ? SLIRP_HOSTFWD_UDP : 0) | (v4 ? 0 : SLIRP_HOSTFWD_V6ONLY);
	char text[INET6_ADDRSTRLEN + 16];

	inet_pton(AF_INET, SLIRP_IPV4_GUEST, &guest4.sin_addr);
	if (e->config.configured)
		inet_pton(AF_INET6, SLIRP_IPV6_GUEST, &guest6.sin6_addr);
	if (slirp_add_hostxfwd(e->slirp, &p->host.any, host_size(p), guest,
		    v4 ? sizeof(guest4) : sizeof(guest6), flags) < 0)
		return failno(errno, "publish %s", text_of(p, text, sizeof(text)));
	return 0;
}

static bool publishes_udp(const struct policy *p)
{
	for (unsigned i = 0; i < p->published; i++)
		if (p->publish[i].udp)
			return true;
	return false;
}

/*
 * libslirp tells of a window that opens again once it has grown by two segments. Its window is 64
 * KiB at most, a segment by itself 32: a guest that sends faster than the host takes would wait for
 * its own timers. Linux sends segments of half a window, and so hears of each such half; cut and
 * summed they are not, on their way here.
 *
 * The filter keeps the guest from the host's loopback. libslirp does so as well where it can, but
 * it would keep answers of a published port of datagrams from it too.
 */
static int start_slirp(struct engine *e)
{
	const struct policy *p = e->config.policy;
	SlirpConfig c = {.version = 4,
		.in_enabled = true,
		.in6_enabled = true,
		.vprefix_len = SLIRP_IPV6_BITS,
		.vhostname = "kvick",
		.if_mtu = e->config.mtu,
		.if_mru = MIN(e->config.mtu, SEGMENT_MAX),
		.disable_host_loopback = !p->host && !publishes_udp(p)};

	inet_pton(AF_INET, SLIRP_IPV4_NET, &c.vnetwork);
	c.vnetmask.s_addr = htonl(UINT32_MAX << (32 - SLIRP_IPV4_BITS));
	inet_pton(AF_INET, SLIRP_IPV4_HOST, &c.vhost);
	inet_pton(AF_INET, SLIRP_IPV4_DNS, &c.vnameserver);
	inet_pton(AF_INET, SLIRP_IPV4_GUEST, &c.vdhcp_start);
	inet_pton(AF_INET6, SLIRP_IPV6_NET, &c.vprefix_addr6);
	inet_pton(AF_INET6, SLIRP_IPV6_HOST, &c.vhost6);
	inet_pton(AF_INET6, SLIRP_IPV6_DNS, &c.vnameserver6);
	e->timer_ms = INT64_MAX;
	g_log_set_default_handler(glib_message, e);
	e->slirp = slirp_new(&c, &callbacks, e);
	return e->slirp ? 0 : fail(EINVAL, "libslirp %s does not start", slirp_version_string());
}

/* libslirp has room for one connection that it has not accepted; the next would wait a second. */
static int add_listener(int fd, int events, void *arg)
{
	struct engine *e = arg;
	int listens = 0;
	socklen_t size = sizeof(listens);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens)
		e->listens[fd] = listen(fd, ACCEPT_QUEUE) == 0;
	return 0;
}

/* What is published libslirp does not say that it opens. */
static int count_descriptors(struct engine *e)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return failno(errno, "limit of descriptors");
	if (r.rlim_cur < 2 * OWN_DESCRIPTORS)
		return fail(EMFILE, "ulimit -Hn %lu: must be %u at least",
			(unsigned long)r.rlim_cur, 2 * OWN_DESCRIPTORS);
	e->most = (unsigned)MIN(r.rlim_cur, SANDBOX_DESCRIPTORS) - OWN_DESCRIPTORS;
	e->sockets = e->config.policy->published;
	return 0;
}

int engine_create(struct engine **out, const struct engine_config *c)
{
	struct engine *e = calloc(1, sizeof(*e));
	uint32_t timeout = 0;
	int rc;

	*out = e;
	if (!e)
		return fail(ENOMEM, "out of memory");
	e->config = *c;
	filter_init(&e->filter, c->policy, c->counters);
	relay_init(&e->relay, &e->filter, send_reply, e);
	rc = link_create(&e->link, c->packets, &c->counters[SLIRP_FULL], got, e);
	rc = rc ? rc : count_descriptors(e);
	rc = rc ? rc : start_slirp(e);
	for (unsigned i = 0; i < c->policy->published && !rc; i++)
		rc = publish(e, &c->policy->publish[i]);
	if (!rc)
		slirp_pollfds_fill(e->slirp, &timeout, add_listener, e);
	return rc;
}

void engine_destroy(struct engine *e)
{
	if (!e)
		return;
	if (e->slirp)
		slirp_cleanup(e->slirp);
	link_destroy(e->link);
	free(e);
}

/* Its turns. */

/* Who connects when there is no descriptor for him waits, and the one he waits at is not told of
 * again and again. */
static int add_poll(int fd, int events, void *arg)
{
	struct engine *e = arg;
	struct pollfd *p = &e->fds[e->count];

	if (e->count == ARRAY_SIZE(e->fds) || (e->listens[fd] && e->sockets >= e->most))
		return -1;
	*p = (struct pollfd){.fd = fd};
	if (events & SLIRP_POLL_OUT)
		p->events |= POLLOUT;
	if (events & SLIRP_POLL_IN && !e->blocked)
		p->events |= POLLIN;
	if (events & SLIRP_POLL_PRI && !e->blocked)
		p->events |= POLLPRI;
	if (!p->events)
		p->fd = -1; /* or its hang-up would be told of again and again */
	return (int)e->count++;
}

/* Called for one socket after the other, each of which may have read by then. The next turn goes on
 * where the guest had enough, or those behind would wait for as long as those before are busy. */
static int get_revents(int i, void *arg)
{
	struct engine *e = arg;
	short got = e->fds[i].revents;
	int events = 0;

	if (link_backlog(e->link) > BACKLOG_FULL && e->stopped_at < 0)
		e->stopped_at = i;
	if (e->stopped_at >= 0 || i < e->resume)
		got &= POLLOUT;
	events |= got & POLLIN ? SLIRP_POLL_IN : 0;
	events |= got & POLLOUT ? SLIRP_POLL_OUT : 0;
	events |= got & POLLPRI ? SLIRP_POLL_PRI : 0;
	events |= got & POLLERR ? SLIRP_POLL_ERR : 0;
	events |= got & POLLHUP ? SLIRP_POLL_HUP : 0;
	return events;
}

static void run_timer(struct engine *e)
{
	if (e->timer_ms > now_ms())
		return;
	e->timer_ms = INT64_MAX;
	slirp_handle_timer(e->slirp, SLIRP_TIMER_RA, NULL);
}

/* What is to be waited for, and for how long. */
static void prepare(struct engine *e, struct timespec *wait, unsigned *relayed)
{
	int64_t left = e->timer_ms == INT64_MAX ? UINT32_MAX : e->timer_ms - now_ms();
	uint32_t idle = (uint32_t)MIN(MAX(left, 0), UINT32_MAX), timeout = idle;

	e->blocked = link_backlog(e->link) > 0;
	e->fds[POLL_CONTROL] = (struct pollfd){.fd = e->config.control, .events = POLLIN};
	e->fds[POLL_PACKETS] = (struct pollfd){
		.fd = e->config.packets, .events = POLLIN | (e->blocked ? POLLOUT : 0)};
	*relayed = relay_poll(&e->relay, &e->fds[POLL_RELAY]);
	e->count = POLL_RELAY + *relayed;
	slirp_pollfds_fill(e->slirp, &timeout, add_poll, e);
	if (timeout == LIBSLIRP_IDLE_MS && !*relayed)
		timeout = idle;
	*wait = (struct timespec){timeout / 1000, (long)(timeout % 1000) * MS};
}

/* 0 to go on, 1 at the end, -errno. */
static int turn(struct engine *e)
{
	struct timespec wait;
	unsigned relayed;
	int n;

	prepare(e, &wait, &relayed);
	n = ppoll(e->fds, e->count, &wait, NULL);
	if (n < 0 && errno != EINTR)
		return failno(errno, "waiting for packets");
	if (n > 0 && e->fds[POLL_CONTROL].revents)
		return 1;
	link_flush(e->link);
	relay_run(&e->relay, &e->fds[POLL_RELAY], n < 0 ? 0 : relayed, now_ms());
	/* Without a look at the sockets, for its clock alone, which is read for the guest's
	 * packets. */
	slirp_pollfds_poll(e->slirp, 1, get_revents, e);
	if (n > 0 && e->fds[POLL_PACKETS].revents & ~POLLOUT && !link_receive(e->link))
		return 1;
	/* And last, as what waited for the guest's hardware address is sent here. */
	e->stopped_at = -1;
	slirp_pollfds_poll(e->slirp, n < 0, get_revents, e);
	e->resume = MAX(e->stopped_at, 0);
	run_timer(e);
	link_flush(e->link);
	return 0;
}

int engine_run(struct engine *e)
{
	int rc;

	do
		rc = turn(e);
	while (!rc);
	return MIN(rc, 0);
}
