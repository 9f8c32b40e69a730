// SPDX-License-Identifier: MIT
// The control socket's server.
//
// A connection reads while it has nothing to send, and sends while it has: so what is held for a
// client is bounded by one request's worth of input and little more than OUT_HIGH of answers, and
// one that asks without listening stops itself. It is dropped when it takes nothing for SLOW_NS.
//
// Descriptors belong to the request that has the last byte they came with: the kernel ends a read
// with the message that has descriptors, but may put earlier ones without before it (unix(7)).
#include "api/server.h"
#include "api/verbs.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"

#include <errno.h>
#include <jansson.h>
#include <sys/random.h>
#include <sys/socket.h>

#define CLIENTS_MAX 64
#define OUT_HIGH KIB(64)
#define SLOW_NS (10 * NSEC_PER_SEC)

/* What one read can bring, beside as many that still wait for the rest of their request. */
#define PASSED_MAX (2 * API_FDS_MAX)

struct passed {
	int fd;
	size_t end; /* in `in`, of the bytes that it came with */
};

struct client {
	struct api_server *server;
	struct client *next;
	struct watch watch;
	struct timer slow;
	char *in;
	size_t in_len, in_cap;
	struct passed passed[PASSED_MAX]; /* in the order of their ends */
	unsigned passed_count;
	struct api_out out;
	size_t sent;
	bool closing; /* once the answers are out */
};

struct api_server {
	struct loop *loop;
	struct api *api;
	const struct api_dialect *dialect;
	struct watch listen;
	int fd;
	struct client *clients;
	unsigned count;
};

void api_out_put(struct api_out *o, const void *data, size_t len)
{
	if (!o->err && len > o->cap - o->len) {
		size_t cap = MAX(2 * o->cap, o->len + len + 256);
		char *buf = realloc(o->buf, cap);

		if (buf) {
			o->buf = buf;
			o->cap = cap;
		} else {
			o->err = -ENOMEM;
		}
	}
	if (o->err)
		return;
	memcpy(o->buf + o->len, data, len);
	o->len += len;
}

static void client_free(struct client *c)
{
	int fd = c->watch.fd;

	loop_disarm(c->server->loop, &c->slow);
	loop_del(c->server->loop, &c->watch);
	close(fd);
	for (unsigned i = 0; i < c->passed_count; i++)
		close(c->passed[i].fd);
	free(c->in);
	free(c->out.buf);
	free(c);
}

static void client_destroy(struct client *c)
{
	struct client **at = &c->server->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->server->count--;
	client_free(c);
}

/* The connection ends with last_error() as its last answer. */
static void refuse(struct client *c)
{
	c->server->dialect->refuse(&c->out);
	c->in_len = 0;
	c->closing = true;
}

/* Takes out the descriptors of what ends at `end`. False: they are too many. */
static bool take_passed(struct client *c, size_t end, struct api_fds *fds)
{
	unsigned n = 0;

	while (n < c->passed_count && c->passed[n].end <= end)
		n++;
	if (n > API_FDS_MAX)
		return false;
	for (fds->count = 0; fds->count < n; fds->count++)
		fds->fd[fds->count] = c->passed[fds->count].fd;
	c->passed_count -= n;
	memmove(c->passed, c->passed + n, c->passed_count * sizeof(*c->passed));
	return true;
}

static void consume(struct client *c, size_t len)
{
	c->in_len -= len;
	memmove(c->in, c->in + len, c->in_len);
	for (unsigned i = 0; i < c->passed_count; i++)
		c->passed[i].end -= len;
}

/* Answers what has been read, while the answers do not pile up. */
static void answer(struct client *c)
{
	const struct api_dialect *d = c->server->dialect;
	struct api_fds fds;
	size_t at = 0;

	while (at < c->in_len && c->out.len < OUT_HIGH) {
		size_t n = d->find(c->in + at, c->in_len - at);

		if (!n || n > d->max)
			break;
		if (!take_passed(c, at + n, &fds)) {
			fail(EINVAL, "a request has at most %u descriptors", API_FDS_MAX);
			refuse(c);
			return;
		}
		d->answer(c->server->api, c->in + at, n, &fds, &c->out);
		at += n;
	}
	consume(c, at);
	if (c->in_len > d->max) {
		fail(EMSGSIZE, "a request has at most %zu bytes", d->max);
		refuse(c);
	}
}

/* Sends what there is. 1 when all is out, 0 when the client is to be waited for, -errno. */
static int flush(struct client *c)
{
	while (c->sent < c->out.len) {
		ssize_t n =
			send(c->watch.fd, c->out.buf + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return -errno;
		c->sent += (size_t)n;
		loop_disarm(c->server->loop, &c->slow);
	}
	c->out.len = c->sent = 0;
	return 1;
}

/* Answers and sends by turns until one of them has to wait. False: the connection is over. */
static bool progress(struct client *c)
{
	struct loop *l = c->server->loop;
	size_t before;
	int rc;

	do {
		before = c->in_len;
		answer(c);
		rc = c->out.err ? c->out.err : flush(c);
	} while (rc == 1 && c->in_len && c->in_len < before);
	if (rc < 0 || (rc == 1 && c->closing))
		return false;
	if (rc == 0 && !c->slow.at_ns)
		loop_arm(l, &c->slow, SLOW_NS);
	loop_mod(l, &c->watch, rc ? EPOLLIN : EPOLLOUT);
	return true;
}

static bool grow(struct client *c)
{
	size_t cap = MAX(2 * c->in_cap, KIB(1));
	char *in;

	if (c->in_len < c->in_cap)
		return true;
	in = realloc(c->in, cap);
	if (!in)
		return false;
	c->in = in;
	c->in_cap = cap;
	return true;
}

/* Whether all that came are kept; what the kernel had no room for it has closed. */
static bool keep_passed(struct client *c, struct msghdr *m)
{
	struct cmsghdr *h = CMSG_FIRSTHDR(m);
	bool kept = !(m->msg_flags & MSG_CTRUNC);
	unsigned n = 0;

	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
		n = (unsigned)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	for (unsigned i = 0; i < n; i++) {
		struct passed p = {.end = c->in_len};

		memcpy(&p.fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
		if (c->passed_count == PASSED_MAX) {
			close(p.fd);
			kept = false;
		} else {
			c->passed[c->passed_count++] = p;
		}
	}
	return kept;
}

/* False: the connection is over. */
static bool fill(struct client *c)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(API_FDS_MAX * sizeof(int))];
	struct iovec room;
	struct msghdr m = {.msg_iov = &room,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	ssize_t n;

	if (!grow(c))
		return false;
	room = (struct iovec){c->in + c->in_len, c->in_cap - c->in_len};
	n = recvmsg(c->watch.fd, &m, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	c->in_len += (size_t)n;
	if (!keep_passed(c, &m)) {
		fail(EINVAL, "the descriptors could not be taken; a request has at most %u",
			API_FDS_MAX);
		refuse(c);
	}
	return true;
}

static void client_ready(void *arg, uint32_t events)
{
	struct client *c = arg;
	bool alive = true;

	if (events & EPOLLIN)
		alive = fill(c);
	else if (events & (EPOLLERR | EPOLLHUP))
		alive = false;
	if (!alive || !progress(c))
		client_destroy(c);
}

static void client_slow(void *arg)
{
	struct client *c = arg;

	log_info("control socket: a client that does not read its answers is dropped");
	client_destroy(c);
}

static bool peer_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

static void listen_ready(void *arg, uint32_t events)
{
	struct api_server *s = arg;
	CLEANUP_FD int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;

	if (fd < 0 || s->count == CLIENTS_MAX || !peer_allowed(fd))
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->server = s;
	c->watch = WATCH_INIT(client_ready, c);
	c->slow = TIMER_INIT(client_slow, c);
	if (loop_add(s->loop, &c->watch, fd, EPOLLIN) < 0) {
		free(c);
		return;
	}
	steal_fd(&fd);
	c->next = s->clients;
	s->clients = c;
	s->count++;
}

/*
 * jansson would seed its hash from /dev/urandom at its first object, which is too late: the jail
 * opens nothing.
 */
static void seed_json(void)
{
	unsigned seed = 0;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0 || !seed)
		seed = (unsigned)now_ns() | 1;
	json_object_seed(seed);
}

int api_server_create(struct api_server **out, struct loop *loop, int fd, struct api *api,
	const struct api_dialect *dialect)
{
	struct api_server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s) {
		close(fd);
		return fail(ENOMEM, "out of memory");
	}
	*s = (struct api_server){.loop = loop, .api = api, .dialect = dialect, .fd = fd};
	s->listen = WATCH_INIT(listen_ready, s);
	seed_json();
	rc = loop_add(loop, &s->listen, fd, EPOLLIN);
	if (rc < 0) {
		close(fd);
		free(s);
		return failno(-rc, "control socket");
	}
	*out = s;
	return 0;
}

void api_server_destroy(struct api_server *s)
{
	struct client *next;

	if (!s)
		return;
	for (struct client *c = s->clients; c; c = next) {
		next = c->next;
		client_free(c);
	}
	loop_del(s->loop, &s->listen);
	close(s->fd);
	free(s);
}
