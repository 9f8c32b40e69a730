// SPDX-License-Identifier: MIT
// virtio-vsock: the host's sockets. Peers that connect and say which port they want, ports that the
// guest wants.
#include "virtio/vsock_priv.h"

#include "base/fd.h"
#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ACCEPT_BATCH 16
#define CONNECT_LINE 32u /* "CONNECT 4294967295\r\n" has 20 */

/* How long to leave peers waiting where the process is out of descriptors or memory. */
#define ACCEPT_PAUSE_NS (NSEC_PER_SEC / 10)

static void accept_again(void *arg)
{
	struct vsock *v = arg;

	if (v->live)
		vsock_listen(v);
}

/* False when no more can be accepted for now. */
static bool accept_one(struct vsock *v)
{
	int fd = accept4(v->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct stream *s;

	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return false;
		log_warn("%s: accepting a stream of the host: %s", v->dev.name, strerror(errno));
		vsock_unlisten(v);
		loop_arm(v->dev.io, &v->accept_again, ACCEPT_PAUSE_NS);
		return false;
	}
	s = stream_new(v, fd, HANDSHAKE);
	if (s)
		stream_attach(s);
	return s;
}

static void listener_ready(void *arg, uint32_t events)
{
	struct vsock *v = arg;
	int left = ACCEPT_BATCH;

	while (left-- > 0 && v->count < v->most && accept_one(v))
		;
	if (v->count >= v->most)
		vsock_unlisten(v); /* until a stream ends */
	vsock_pump(v);
}

void vsock_listen(struct vsock *v)
{
	if (v->listen_fd < 0 || v->listener.fd >= 0 || v->accept_again.at_ns || v->count >= v->most)
		return;
	v->listener = WATCH_INIT(listener_ready, v);
	v->accept_again = TIMER_INIT(accept_again, v);
	if (loop_add(v->dev.io, &v->listener, v->listen_fd, EPOLLIN) < 0)
		log_warn("%s: the host cannot reach the guest: %s", v->dev.name, last_error());
}

void vsock_unlisten(struct vsock *v)
{
	if (v->listener.fd >= 0)
		loop_del(v->dev.io, &v->listener);
	loop_disarm(v->dev.io, &v->accept_again);
}

int vsock_connect(const struct vsock *v, uint32_t port)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = -1;
	size_t n;

	if (v->dir < 0)
		return -ECONNREFUSED;
	/* Through the descriptor: the name stays short, and no path is needed. */
	n = (size_t)snprintf(
		a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s_%u", v->dir, v->socket, port);
	if (n >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* Non-blocking, and yet done at once or not at all: a full backlog is EAGAIN. */
	if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* The port of "CONNECT <port>\n" in `len` bytes of `line`; -1 where it is anything else. */
static int64_t parse_connect(const char *line, size_t len)
{
	static const char word[] = "CONNECT ";
	size_t i = sizeof(word) - 1;
	uint64_t port = 0;

	if (len <= i || memcmp(line, word, i) || !isdigit((unsigned char)line[i]))
		return -1;
	for (; i < len && isdigit((unsigned char)line[i]) && port <= UINT32_MAX; i++)
		port = port * 10 + (uint64_t)(line[i] - '0');
	if (i < len && line[i] == '\r')
		i++;
	if (i + 1 != len || line[i] != '\n' || port >= UINT32_MAX)
		return -1; /* 0xffffffff is VMADDR_PORT_ANY */
	return (int64_t)port;
}

/* The length of the first line, its end included; 0 where it is not all there; -1 where it never
 * will be. */
static int peek_line(struct stream *s, char *buf, size_t size)
{
	ssize_t n = TEMP_FAILURE_RETRY(recv(s->fd, buf, size, MSG_PEEK | MSG_DONTWAIT));
	const char *end;

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return -1;
	end = memchr(buf, '\n', (size_t)n);
	if (end)
		return (int)(end - buf) + 1;
	return (size_t)n == size || s->host_hup ? -1 : 0;
}

void vsock_handshake(struct stream *s)
{
	char line[CONNECT_LINE];
	int len = peek_line(s, line, sizeof(line));
	int64_t port;

	if (len == 0)
		return;
	port = len > 0 ? parse_connect(line, (size_t)len) : -1;
	/* Only the line is taken from the socket: what follows it is the stream's. */
	if (port < 0 || recv(s->fd, line, (size_t)len, MSG_DONTWAIT) != len) {
		stream_kill(s);
		return;
	}
	stream_insert(s, (uint32_t)port, stream_free_port(s->v, (uint32_t)port));
	s->state = REQUESTED;
	s->due = 1u << VIRTIO_VSOCK_OP_REQUEST;
}

bool vsock_greet(struct stream *s)
{
	char line[CONNECT_LINE];
	int len = snprintf(line, sizeof(line), "OK %u\n", s->host_port);

	return send(s->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) == len;
}
