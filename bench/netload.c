// SPDX-License-Identifier: MIT
// Both ends of the network bench. The guest's end is its /init (bench/load.h), where a line is
//
//   LOAD PEER STREAMS MILLISECONDS      as in "tx 10.77.1.1 1 1500"
//
// and whose address is in its environment, as kernels hand on what they do not know of their
// command line: netload=10.77.1.2/24. The other end, "netload serve", answers on its ports, a
// process a stream. Counted are bytes that have arrived (tx: from the guest, rx: to it), round
// trips (rr by TCP, ur by UDP) and connections made and closed (cc).
#include "bench/load.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PORT_SINK 7001
#define PORT_SOURCE 7002
#define PORT_ECHO 7003
#define PORT_CLOSE 7004
#define CHUNK 131072u
#define STREAMS_MAX 16u

static char chunk[CHUNK];

/* ---- Sockets ---- */

static struct sockaddr_in address(const char *host, uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		errno = EINVAL;
		die("address", host);
	}
	return a;
}

static int dial(const char *host, uint16_t port, int type)
{
	struct sockaddr_in a = address(host, port);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connecting to", host);
	if (type == SOCK_STREAM)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static int hear(uint16_t port, int type)
{
	struct sockaddr_in a = address("0.0.0.0", port);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		(type == SOCK_STREAM && listen(fd, 64) < 0))
		die("listening", "");
	return fd;
}

static void get(int fd, void *buf, size_t len)
{
	if (recv(fd, buf, len, MSG_WAITALL) != (ssize_t)len)
		die("receiving", "");
}

static void put(int fd, const void *buf, size_t len)
{
	if (send(fd, buf, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("sending", "");
}

/* ---- The other end ---- */

/* All there is, then how much that was. */
static void sink(int fd)
{
	uint64_t total = 0;
	ssize_t n;

	while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0)
		total += (uint64_t)n;
	put(fd, &total, sizeof(total));
}

static void source(int fd)
{
	while (send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL) > 0)
		;
}

static void echo(int fd)
{
	char c;

	while (recv(fd, &c, 1, 0) == 1)
		put(fd, &c, 1);
}

static void shut(int fd)
{
}

static void serve_port(uint16_t port, void (*serve)(int fd))
{
	int listener = hear(port, SOCK_STREAM), one = 1;

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (serve == shut || fork() == 0) {
			serve(fd);
			if (serve != shut)
				exit(0);
		}
		close(fd);
	}
}

static void serve_datagrams(uint16_t port)
{
	int fd = hear(port, SOCK_DGRAM);

	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, chunk, sizeof(chunk), 0, (struct sockaddr *)&from, &len);

		if (n >= 0)
			sendto(fd, chunk, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

static void be_peer(void)
{
	static void (*const serve[])(int) = {
		[PORT_SINK - PORT_SINK] = sink,
		[PORT_SOURCE - PORT_SINK] = source,
		[PORT_ECHO - PORT_SINK] = echo,
		[PORT_CLOSE - PORT_SINK] = shut,
	};

	signal(SIGCHLD, SIG_IGN);
	for (unsigned i = 0; i < sizeof(serve) / sizeof(*serve); i++)
		if (fork() == 0)
			serve_port((uint16_t)(PORT_SINK + i), serve[i]);
	serve_datagrams(PORT_ECHO);
}

/* ---- The guest's end: each counts until `end`, and one in any case ---- */

static uint64_t send_much(const char *peer, uint64_t end)
{
	int fd = dial(peer, PORT_SINK, SOCK_STREAM);
	uint64_t total;

	do
		if (send(fd, chunk, sizeof(chunk), 0) < 0)
			die("sending to", peer);
	while (now() < end);
	shutdown(fd, SHUT_WR);
	get(fd, &total, sizeof(total));
	close(fd);
	return total;
}

static uint64_t receive_much(const char *peer, uint64_t end)
{
	int fd = dial(peer, PORT_SOURCE, SOCK_STREAM);
	uint64_t total = 0;

	do {
		ssize_t n = recv(fd, chunk, sizeof(chunk), 0);

		if (n <= 0)
			die("receiving from", peer);
		total += (uint64_t)n;
	} while (now() < end);
	close(fd);
	return total;
}

static uint64_t go_round(const char *peer, uint64_t end, int type)
{
	int fd = dial(peer, PORT_ECHO, type);
	uint64_t trips = 0;
	char c = 0;

	do {
		put(fd, &c, 1);
		get(fd, &c, 1);
		trips++;
	} while (now() < end);
	close(fd);
	return trips;
}

static uint64_t round_trips(const char *peer, uint64_t end)
{
	return go_round(peer, end, SOCK_STREAM);
}

static uint64_t datagrams(const char *peer, uint64_t end)
{
	return go_round(peer, end, SOCK_DGRAM);
}

/* Until the other end has closed it, so that both are done with it. */
static uint64_t connections(const char *peer, uint64_t end)
{
	uint64_t count = 0;
	char c;

	do {
		int fd = dial(peer, PORT_CLOSE, SOCK_STREAM);

		if (recv(fd, &c, 1, 0) != 0)
			die("a connection to", peer);
		close(fd);
		count++;
	} while (now() < end);
	return count;
}

static const struct load {
	const char *name;
	uint64_t (*run)(const char *peer, uint64_t end);
} loads[] = {
	{"tx", send_much},
	{"rx", receive_much},
	{"rr", round_trips},
	{"ur", datagrams},
	{"cc", connections},
};

/* A process a stream. What all have counted, and *took of them. */
static uint64_t run(
	const struct load *l, const char *peer, unsigned streams, uint64_t ns, uint64_t *took)
{
	static uint64_t *counts;
	uint64_t total = 0, start = now();

	if (!counts)
		counts = mmap(NULL, STREAMS_MAX * sizeof(*counts), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(counts, 0, STREAMS_MAX * sizeof(*counts));
	for (unsigned i = 0; i < streams; i++)
		if (fork() == 0) {
			counts[i] = l->run(peer, start + ns);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	*took = now() - start;
	for (unsigned i = 0; i < streams; i++) {
		if (!counts[i]) {
			errno = EPIPE;
			die("nothing counted by", l->name);
		}
		total += counts[i];
	}
	return total;
}

static void run_load(const struct load *l, const char *peer, unsigned streams, uint64_t ns)
{
	uint64_t took, count;

	run(l, peer, streams, WARM_NS, &took);
	begin_load();
	count = run(l, peer, streams, ns, &took);
	end_load(count, took);
}

static int serve(const char *line)
{
	char name[16], peer[64];
	unsigned long long ms;
	unsigned streams;

	if (sscanf(line, "%15s %63s %u %llu", name, peer, &streams, &ms) != 4 ||
		streams > STREAMS_MAX)
		return 0;
	for (size_t i = 0; i < sizeof(loads) / sizeof(*loads); i++)
		if (!strcmp(loads[i].name, name))
			run_load(&loads[i], peer, streams, ms * 1000000);
	return 1;
}

/* ADDRESS/PREFIX for eth0. */
static void set_up(const char *text)
{
	char host[64];
	unsigned prefix;
	struct sockaddr_in a;
	struct ifreq r = {.ifr_name = "eth0"};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (!text || sscanf(text, "%63[^/]/%u", host, &prefix) != 2 || !prefix || prefix > 32)
		die("netload=", text ? text : "");
	a = address(host, 0);
	memcpy(&r.ifr_addr, &a, sizeof(a));
	if (ioctl(fd, SIOCSIFADDR, &r) < 0)
		die("eth0 at", text);
	a.sin_addr.s_addr = htonl(UINT32_MAX << (32 - prefix));
	memcpy(&r.ifr_netmask, &a, sizeof(a));
	if (ioctl(fd, SIOCSIFNETMASK, &r) < 0 || ioctl(fd, SIOCGIFFLAGS, &r) < 0)
		die("eth0 at", text);
	r.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		die("eth0 at", text);
	close(fd);
}

int main(int argc, char **argv)
{
	if (getpid() != 1 && argc == 2 && !strcmp(argv[1], "serve")) {
		be_peer();
		return 1;
	}
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	open_console();
	set_up(getenv("netload"));
	be_init(serve);
}
