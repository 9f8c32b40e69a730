// SPDX-License-Identifier: MIT
// Inits that break the session's protocol, each in its own way. The monitor has to say which.
#include "tests/vm/lab/guest.h"

#include "guest/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int host;

static void put(const void *bytes, size_t length)
{
	const uint8_t *p = bytes;

	while (length) {
		ssize_t n = send(host, p, length, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		p += n;
		length -= (size_t)n;
	}
}

static void put_frame(uint16_t type, uint8_t stream, const void *payload, uint32_t length)
{
	const struct {
		uint32_t length;
		uint16_t type;
		uint8_t stream, flags;
	} header = {length, type, stream, 0};

	put(&header, sizeof(header));
	put(payload, length);
}

static void greet(void)
{
	struct proto_hello h = {.version = PROTO_VERSION};
	uint8_t payload[PROTO_HELLO_SIZE];

	put_frame(PROTO_HELLO, 0, payload, (uint32_t)proto_put_hello(payload, &h));
}

static void start(void)
{
	struct proto_started s = {.pid = 2};
	uint8_t payload[PROTO_STARTED_SIZE];

	greet();
	put_frame(PROTO_STARTED, 0, payload, (uint32_t)proto_put_started(payload, &s));
}

static void silent(void)
{
}

static void garbage(void)
{
	uint8_t bytes[4096];

	memset(bytes, 0xa5, sizeof(bytes));
	put(bytes, sizeof(bytes));
}

static void unknown(void)
{
	greet();
	put_frame(77, 0, NULL, 0);
}

static void version(void)
{
	struct proto_hello h = {.version = PROTO_VERSION + 1};
	uint8_t payload[PROTO_HELLO_SIZE];

	put_frame(PROTO_HELLO, 0, payload, (uint32_t)proto_put_hello(payload, &h));
}

/* More than it was given credit for, for ever. */
static void flood(void)
{
	static uint8_t bytes[PROTO_PAYLOAD_MAX];

	start();
	for (int i = 0; i < 1000; i++)
		put_frame(PROTO_DATA, PROTO_STDOUT, bytes, sizeof(bytes));
}

/* Says no more, and neither closes. */
static void half(void)
{
	start();
	shutdown(host, SHUT_WR);
}

static void cut(void)
{
	start();
	put("\1\0\0", 3);
	close(host);
}

static void early(void)
{
	struct proto_exit e = {0};
	uint8_t payload[PROTO_EXIT_SIZE];

	greet();
	put_frame(PROTO_EXIT, 0, payload, (uint32_t)proto_put_exit(payload, &e));
}

static const struct {
	const char *name;
	void (*act)(void);
} ways[] = {
	{"silent", silent},
	{"garbage", garbage},
	{"unknown", unknown},
	{"version", version},
	{"flood", flood},
	{"half", half},
	{"cut", cut},
	{"early", early},
};

/* "absent" does not even connect; "dies" ends, which a kernel takes for a panic. */
int tool_evil(char **argv)
{
	struct sockaddr_vm a = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = PROTO_PORT};

	if (!strcmp(argv[0], "dies"))
		return 3;
	if (strcmp(argv[0], "absent")) {
		host = socket(AF_VSOCK, SOCK_STREAM, 0);
		if (host < 0 || connect(host, (struct sockaddr *)&a, sizeof(a)))
			return report("vsock");
	}
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(argv[0], ways[i].name))
			ways[i].act();
	for (;;)
		pause();
}
