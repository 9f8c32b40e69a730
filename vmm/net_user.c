// SPDX-License-Identifier: MIT
// A NIC in user mode.
//
// What may be reached and what is published is given to kvick-slirp in the user's words, and judged
// there: the monitor has neither the parsers nor the sockets.
#include "vmm/net_user.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/slirp/slirp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PROGRAM "kvick-slirp"
#define ANSWER_NS (10 * NSEC_PER_SEC)
#define BIT(f) (1ull << (f))
#define COUNTERS_SIZE (SLIRP_COUNTS * sizeof(uint64_t))
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* It finishes what drivers leave to be summed or cut, and sends nothing that is to be looked at. */
#define OFFERS                                                                                     \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |     \
		BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN))

/* ---- the start ---- */

static int put(char **argv, unsigned *n, const char *option, const char *value)
{
	if (asprintf(&argv[*n], "--%s%s%s", option, value ? "=" : "", value ? value : "") < 0)
		return fail(ENOMEM, "out of memory");
	++*n;
	return 0;
}

static int put_list(char **argv, unsigned *n, const char *option, const struct field_list *list)
{
	int rc = 0;

	for (unsigned i = 0; i < list->count && !rc; i++)
		rc = put(argv, n, option, list->items[i]);
	return rc;
}

static int put_options(
	char **argv, unsigned *n, const struct net_config *c, const struct net_host *host)
{
	static const char *const modes[] = {
		[JAIL_KILL] = "kill", [JAIL_LOG] = "log", [JAIL_OFF] = "off"};
	char mtu[16];
	int rc = put(argv, n, "seccomp", modes[host->jail]);

	snprintf(mtu, sizeof(mtu), "%u", c->mtu);
	if (!rc && c->mtu)
		rc = put(argv, n, "mtu", mtu);
	if (!rc && c->restricted)
		rc = put(argv, n, "restrict", NULL);
	if (!rc && c->host == NET_HOST_ALLOW)
		rc = put(argv, n, "host", NULL);
	if (!rc && host->configured)
		rc = put(argv, n, "configured", NULL);
	if (!rc)
		rc = put_list(argv, n, "publish", &c->publish);
	return rc ? rc : put_list(argv, n, "allow", &c->allow);
}

static int spawn(struct net_user *u, const struct net_host *host, int packets, int counters)
{
	const struct helper_fd fds[] = {{packets, SLIRP_PACKETS}, {counters, SLIRP_COUNTERS},
		{host->messages, STDERR_FILENO}};
	unsigned n = 0, most = 8 + u->cfg->publish.count + u->cfg->allow.count;
	char **argv = calloc(most, sizeof(*argv));
	int rc;

	if (!argv)
		return fail(ENOMEM, "out of memory");
	argv[0] = strdup(PROGRAM);
	n = argv[0] != NULL;
	rc = n ? put_options(argv, &n, u->cfg, host) : fail(ENOMEM, "out of memory");
	if (!rc)
		rc = helper_start(&u->process, host->open_program(PROGRAM), argv, fds,
			host->messages ? 3 : 2);
	while (n)
		free(argv[--n]);
	free(argv);
	return rc;
}

static int map_counters(struct net_user *u, int fd)
{
	void *p = mmap(NULL, COUNTERS_SIZE, PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return failno(errno, "counters");
	u->counters = p;
	return 0;
}

/* Of a size that stays: where the file ends is not for the other side to say. */
static int make_counters(struct net_user *u)
{
	int fd = memfd_create("net", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return failno(errno, "counters");
	u->counters_fd = fd;
	if (ftruncate(fd, COUNTERS_SIZE) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return failno(errno, "counters");
	return map_counters(u, fd);
}

/* As far as the host lets an ordinary user: some packets of 64 KiB are to be on their way. */
static void enlarge(int fd)
{
	int size = (int)MIB(4);

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void set_end(struct net_end *end, const struct net_user *u, int packets)
{
	*end = (struct net_end){
		.fd[0] = packets,
		.pairs = 1,
		.offers = OFFERS,
		.mtu = u->cfg->mtu ? u->cfg->mtu : SLIRP_MTU,
		.counts = u->counters,
	};
}

static int start(struct net_user *u, const struct net_host *host, struct net_end *end)
{
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return failno(errno, "socketpair");
	rc = make_counters(u);
	rc = rc ? rc : spawn(u, host, pair[1], u->counters_fd);
	close(pair[1]);
	if (rc) {
		close(pair[0]);
		return rc;
	}
	enlarge(pair[0]);
	set_end(end, u, pair[0]);
	return 0;
}

static void describe(struct net_guest *g, const struct net_config *n, uint32_t mtu)
{
	*g = (struct net_guest){.mtu = mtu, .prefix = SLIRP_IPV4_BITS, .prefix6 = SLIRP_IPV6_BITS};
	memcpy(g->mac, n->mac, sizeof(g->mac));
	inet_pton(AF_INET, SLIRP_IPV4_GUEST, &g->address);
	inet_pton(AF_INET, SLIRP_IPV4_HOST, &g->gateway);
	inet_pton(AF_INET, SLIRP_IPV4_DNS, &g->resolver[0]);
	inet_pton(AF_INET6, SLIRP_IPV6_GUEST, &g->address6);
	inet_pton(AF_INET6, SLIRP_IPV6_HOST, &g->gateway6);
	inet_pton(AF_INET6, SLIRP_IPV6_DNS, &g->resolver6[0]);
}

int net_user_open(struct net_user *u, const struct net_config *n, const struct net_host *host,
	struct net_end *end, struct net_guest *guest)
{
	int rc;

	*u = (struct net_user){.cfg = n, .process = {.socket = -1}};
	*end = (struct net_end){0};
	rc = start(u, host, end);
	if (!rc)
		describe(guest, n, end->mtu);
	return rc;
}

/* ---- its life ---- */

/* How it ended, in words for after "ended"; of one that is not our child nothing is known. */
static const char *ending(struct net_user *u, char *text, size_t size)
{
	bool adopted = u->process.pid == HELPER_ADOPTED;
	int status = helper_wait(&u->process);

	if (adopted)
		*text = '\0';
	else if (WIFSIGNALED(status))
		snprintf(text, size, " by signal %d", WTERMSIG(status));
	else
		snprintf(text, size, " with status %d", WEXITSTATUS(status));
	return text;
}

static void ended(void *arg, uint32_t events)
{
	struct net_user *u = arg;
	char how[32], why[64];

	loop_del(u->loop, &u->watch);
	snprintf(why, sizeof(why), PROGRAM " ended%s", ending(u, how, sizeof(how)));
	u->lost(u->arg, u->cfg->id, why);
}

static int take_answer(struct net_user *u)
{
	struct slirp_reply r = {0};
	char how[32];
	ssize_t n;
	int rc = fd_await(u->process.socket, POLLIN, now_ns() + ANSWER_NS);

	if (rc)
		return failno(-rc, PROGRAM " does not answer");
	n = TEMP_FAILURE_RETRY(recv(u->process.socket, &r, sizeof(r), 0));
	r.text[sizeof(r.text) - 1] = '\0';
	if (n != sizeof(r))
		return fail(
			EPIPE, PROGRAM " ended%s before it served", ending(u, how, sizeof(how)));
	return r.error ? fail(r.error > 0 ? r.error : EPROTO, "%s", r.text) : 0;
}

int net_user_await(struct net_user *u)
{
	int rc = u->cfg ? take_answer(u) : 0;

	return rc ? fail_context(rc, "--net user: %s", u->cfg->id) : 0;
}

static void close_counters(struct net_user *u)
{
	if (u->counters_fd)
		close(u->counters_fd);
	u->counters_fd = 0;
}

int net_user_watch(struct net_user *u, struct loop *loop)
{
	int rc;

	if (!u->cfg)
		return 0;
	close_counters(u);
	u->watch = WATCH_INIT(ended, u);
	rc = loop_add(loop, &u->watch, u->process.socket, EPOLLIN);
	if (rc)
		return failno(-rc, PROGRAM);
	u->loop = loop;
	return 0;
}

/* ---- from one process to another ---- */

void net_user_files(const struct net_user *u, int files[NET_USER_FILES])
{
	files[0] = u->process.socket;
	files[1] = u->counters_fd;
}

static int check_files(int packets, const int files[NET_USER_FILES])
{
	const int sockets[] = {packets, files[0]};
	struct stat st;
	int type;

	for (unsigned i = 0; i < ARRAY_SIZE(sockets); i++) {
		socklen_t len = sizeof(type);

		if (getsockopt(sockets[i], SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
			type != SOCK_SEQPACKET)
			return fail(EINVAL, "a descriptor is no socket of " PROGRAM);
	}
	if (fcntl(files[1], F_GET_SEALS) != SEALS || fstat(files[1], &st) < 0 ||
		st.st_size != COUNTERS_SIZE)
		return fail(EINVAL, "a descriptor has not the counters of " PROGRAM);
	return fcntl(packets, F_SETFL, O_NONBLOCK) < 0 ? failno(errno, PROGRAM) : 0;
}

int net_user_adopt(struct net_user *u, const struct net_config *n, int *packets,
	int files[NET_USER_FILES], struct net_end *end)
{
	int rc = check_files(*packets, files);

	*u = (struct net_user){.process = {.socket = -1}};
	if (rc)
		return rc;
	rc = map_counters(u, files[1]);
	if (rc)
		return rc;
	u->cfg = n;
	u->process = (struct helper){.pid = HELPER_ADOPTED, .socket = steal_fd(&files[0])};
	set_end(end, u, steal_fd(packets));
	return 0;
}

void net_user_hand_over(struct net_user *u)
{
	u->process.pid = 0;
	net_user_finish(u);
}

void net_user_finish(struct net_user *u)
{
	if (!u->cfg)
		return;
	if (u->loop)
		loop_del(u->loop, &u->watch);
	helper_finish(&u->process);
	close_counters(u);
	if (u->counters)
		munmap((void *)(uintptr_t)u->counters, COUNTERS_SIZE);
	*u = (struct net_user){0};
}
