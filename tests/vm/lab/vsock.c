// SPDX-License-Identifier: MIT
// Streams between guest and host: an echo in the guest for the host's, and many at once to an echo
// of the host's.
#include "tests/vm/lab/guest.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define PIECE 4096u

static struct sockaddr_vm address(unsigned int cid, const char *port)
{
	return (struct sockaddr_vm){.svm_family = AF_VSOCK,
		.svm_cid = cid,
		.svm_port = (unsigned int)strtoul(port, NULL, 0)};
}

static int send_full(int fd, const uint8_t *bytes, size_t length)
{
	while (length) {
		ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);

		if (n < 0)
			return -1;
		bytes += n;
		length -= (size_t)n;
	}
	return 0;
}

/* Until the peer has shut its half; then ours is. */
static _Noreturn void echo(int fd)
{
	uint8_t bytes[PIECE];
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		if (send_full(fd, bytes, (size_t)n))
			_exit(1);
	shutdown(fd, SHUT_WR);
	_exit(n < 0);
}

int tool_serve(char **argv)
{
	struct sockaddr_vm a = address(VMADDR_CID_ANY, argv[0]);
	int fd, listener = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) ||
		listen(listener, 64))
		return report("vsock");
	puts("serving");
	fflush(stdout);
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		if (!fork())
			echo(fd);
		close(fd);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	return report("accept");
}

/* One of the guest's streams: sends and compares what comes back, both as far as it goes. */
struct client {
	pattern out, in;
	uint64_t to_send, to_come;
};

static int pump_out(struct client *c, int fd)
{
	_Alignas(8) uint8_t bytes[PIECE];

	pattern_fill(&c->out, bytes, PIECE);
	if (send_full(fd, bytes, PIECE))
		return report("send");
	c->to_send -= PIECE;
	return c->to_send || !shutdown(fd, SHUT_WR) ? 0 : report("shutdown");
}

static int pump_in(struct client *c, int fd)
{
	_Alignas(8) uint8_t want[PIECE], got[PIECE];

	if (recv(fd, got, PIECE, MSG_WAITALL) != PIECE)
		return report("recv");
	pattern_fill(&c->in, want, PIECE);
	if (memcmp(want, got, PIECE)) {
		fprintf(stderr, "lab-guest: a stream's bytes differ\n");
		return 1;
	}
	c->to_come -= PIECE;
	return 0;
}

/* At most one piece is under way, so that neither end waits for the other for ever. */
static int client(const struct sockaddr_vm *a, pattern seed, uint64_t bytes)
{
	struct client c = {.out = seed, .in = seed, .to_send = bytes, .to_come = bytes};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0), rc = 0;
	uint8_t last;

	if (fd < 0 || connect(fd, (const struct sockaddr *)a, sizeof(*a)))
		return report("connect");
	while (!rc && c.to_come) {
		rc = pump_out(&c, fd);
		if (!rc)
			rc = pump_in(&c, fd);
	}
	if (!rc && recv(fd, &last, 1, 0))
		rc = report("the stream's end");
	return rc;
}

int tool_connect(char **argv)
{
	struct sockaddr_vm a = address(VMADDR_CID_HOST, argv[0]);
	int n = atoi(argv[1]), failed = 0, status;
	uint64_t bytes = strtoull(argv[2], NULL, 0);

	for (int i = 0; i < n; i++)
		if (!fork())
			_exit(client(&a, (pattern)i + 1, bytes));
	while (wait(&status) > 0)
		failed += status != 0;
	printf("%d streams, %d failed\n", n, failed);
	return failed != 0;
}
