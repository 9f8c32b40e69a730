// SPDX-License-Identifier: MIT
#include "net/bridge/dhcp.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "net/bridge/subnet.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TRIES 64u /* anyone's process may look like it, and another one come after it */
#define CONF "dnsmasq.conf"
#define PID "dnsmasq.pid"
#define HOSTS "dnsmasq.hosts"   /* who has which address by DHCP */
#define NAMES "dnsmasq.names"   /* the same for DNS, as of hosts(5) */
#define LEASES "dnsmasq.leases" /* its own notes */

#define PATH_SIZE 128
#define ENDS_NS (2 * NSEC_PER_SEC) /* more than it takes to end in order */

/* --- its process --------------------------------------------------------------------------------
 */

/* How it is given its file, into `len` bytes. */
static void conf_option(const struct state *s, const char *bridge, char *buf, size_t len)
{
	static const char option[] = "--conf-file=";

	memcpy(buf, option, sizeof(option));
	state_path(s, bridge, CONF, buf + sizeof(option) - 1, len - (sizeof(option) - 1));
}

/* Whether that process is the dnsmasq that was started with it. */
static bool has_argument(int pid, const char *option)
{
	char proc[32], line[512];
	CLEANUP_FD int fd = -1;
	ssize_t n;

	snprintf(proc, sizeof(proc), "/proc/%d/cmdline", pid);
	fd = open(proc, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, line, sizeof(line));
	return n > 0 && memmem(line, (size_t)n, option, strlen(option) + 1);
}

/* A descriptor of that process, so that a number that is used again does no harm; or -1. */
static int open_if_it(int pid, const char *option)
{
	CLEANUP_FD int fd = pid > 1 ? pidfd_open(pid, 0) : -1;

	return fd >= 0 && has_argument(pid, option) ? steal_fd(&fd) : -1;
}

static int open_process(const struct state *s, const char *bridge, int *pid)
{
	CLEANUP_FD int file = state_file(s, bridge, PID, O_RDONLY);
	char text[16] = "", option[PATH_SIZE];

	if (file < 0 || read(file, text, sizeof(text) - 1) <= 0)
		return -1;
	*pid = atoi(text);
	conf_option(s, bridge, option, sizeof(option));
	return open_if_it(*pid, option);
}

int dhcp_pid(const struct state *s, const char *bridge)
{
	int pid = 0;
	CLEANUP_FD int fd = open_process(s, bridge, &pid);

	return fd < 0 ? 0 : pid;
}

/*
 * One that was not waited for, as who started it was killed, is yet to write its number: where it
 * cannot, it ends. A number that is there stays.
 */
static void forbid_number(const struct state *s, const char *bridge)
{
	char path[PATH_SIZE];

	state_path(s, bridge, PID, path, sizeof(path));
	mkdir(path, 0755);
}

static void allow_number(const struct state *s, const char *bridge)
{
	char path[PATH_SIZE];

	state_path(s, bridge, PID, path, sizeof(path));
	if (unlink(path) < 0)
		rmdir(path);
}

/* The same of such a one, which is not to be waited for; on its way into the background it is one
 * process after the other. */
static int search_process(const struct state *s, const char *bridge)
{
	DIR *proc = opendir("/proc");
	char option[PATH_SIZE];
	const struct dirent *e;
	int fd = -1;

	conf_option(s, bridge, option, sizeof(option));
	while (proc && fd < 0 && (e = readdir(proc))) {
		if (has_argument(atoi(e->d_name), option))
			fd = open_if_it(atoi(e->d_name), option);
	}
	if (proc)
		closedir(proc);
	return fd;
}

static int end(int fd)
{
	if (pidfd_send_signal(fd, SIGTERM, NULL, 0) < 0)
		return errno == ESRCH ? 0 : -errno;
	if (!fd_await(fd, POLLIN, now_ns() + ENDS_NS))
		return 0;
	pidfd_send_signal(fd, SIGKILL, NULL, 0);
	return fd_await(fd, POLLIN, now_ns() + ENDS_NS);
}

int dhcp_stop(const struct state *s, const char *bridge)
{
	int pid, rc = 0;

	forbid_number(s, bridge);
	for (unsigned i = 0; !rc && i < TRIES; i++) {
		CLEANUP_FD int fd = open_process(s, bridge, &pid);

		if (fd < 0)
			fd = search_process(s, bridge);
		if (fd < 0)
			return 0;
		rc = end(fd);
	}
	rc = rc ? rc : -ELOOP;
	if (rc != -EPERM)
		log_warn("%s: its dnsmasq cannot be ended: %s", bridge, strerror(-rc));
	return rc;
}

/* The first line that it wrote, without its own name. */
static int failed(const char *bridge, int from)
{
	char said[256] = "";
	const char *text = said;
	ssize_t n;

	for (size_t at = 0; at < sizeof(said) - 1; at += (size_t)n) {
		n = read(from, said + at, sizeof(said) - 1 - at);
		if (n <= 0)
			break;
	}
	while (*text == '\n')
		text++;
	if (!strncmp(text, "dnsmasq: ", 9))
		text += 9;
	return fail(EIO, "%s: dnsmasq: %.*s", bridge, (int)strcspn(text, "\n"),
		*text ? text : "it does not start, and does not say why");
}

/* The signals that we and the monitor do not hear are what it is to be told by. */
static void hear_signals(posix_spawnattr_t *attributes)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(attributes);
	posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(attributes, &none);
	posix_spawnattr_setsigdefault(attributes, &all);
}

/* Returns when dnsmasq has gone into the background: then it answers. */
static int start(const struct state *s, const char *bridge)
{
	char option[PATH_SIZE], name[] = "dnsmasq";
	char *argv[] = {name, option, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int pipe_fd[2], rc, status = 0;
	pid_t pid;

	conf_option(s, bridge, option, sizeof(option));
	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return failno(errno, "dnsmasq");
	allow_number(s, bridge);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], STDERR_FILENO);
	hear_signals(&attributes);
	rc = posix_spawnp(&pid, name, &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	close(pipe_fd[1]);
	if (rc == ENOENT)
		rc = fail(ENOENT,
			"%s: dhcp needs dnsmasq, which is not there: "
			"apt-get install dnsmasq-base",
			bridge);
	else if (rc)
		rc = failno(rc, "%s: dnsmasq", bridge);
	else if (TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) < 0 || status)
		rc = failed(bridge, pipe_fd[0]);
	close(pipe_fd[0]);
	return rc;
}

/* --- its files ----------------------------------------------------------------------------------
 */

/* Opens one of them anew for writing; NULL, with a message. */
static FILE *rewrite(const struct state *s, const char *bridge, const char *file)
{
	CLEANUP_FD int fd = state_file(s, bridge, file, O_WRONLY | O_CREAT | O_TRUNC);
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");

	if (!out)
		failno(errno, "%s: %s", bridge, file);
	else
		steal_fd(&fd);
	return out;
}

static int close_written(FILE *out, const char *bridge)
{
	return fclose(out) ? failno(errno, "%s: " STATE_DIR, bridge) : 0;
}

static int write_conf(const struct state *s, const struct bridge_state *b)
{
	const struct subnet *a = &b->wish.address;
	struct in_addr net = {htonl(subnet_network(a))}, mask = {htonl(~0u << (32 - a->prefix))};
	char text[3][INET_ADDRSTRLEN], path[PATH_SIZE];
	static const struct {
		const char *option, *file;
	} files[] = {{"pid-file", PID}, {"dhcp-hostsfile", HOSTS}, {"addn-hosts", NAMES},
		{"dhcp-leasefile", LEASES}};
	FILE *out = rewrite(s, b->wish.name, CONF);

	if (!out)
		return -EIO;
	inet_ntop(AF_INET, &a->address, text[0], sizeof(text[0]));
	inet_ntop(AF_INET, &net, text[1], sizeof(text[1]));
	inet_ntop(AF_INET, &mask, text[2], sizeof(text[2]));
	fprintf(out, "interface=%s\nexcept-interface=lo\nbind-dynamic\nlisten-address=%s\n",
		b->wish.name, text[0]);
	fprintf(out, "no-hosts\ndhcp-range=%s,static,%s\ndhcp-authoritative\nno-ping\n", text[1],
		text[2]);
	fprintf(out, "dhcp-ignore-names\nquiet-dhcp\nquiet-dhcp6\n");
	for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
		state_path(s, b->wish.name, files[i].file, path, sizeof(path));
		fprintf(out, "%s=%s\n", files[i].option, path);
	}
	return close_written(out, b->wish.name);
}

static void format_mac(const uint8_t m[6], char buf[18])
{
	snprintf(buf, 18, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

/*
 * The first name in a domain of its own: dnsmasq would keep another in the lease, and answer to it
 * after the VM has gone.
 */
static void write_name(FILE *names, const struct bridge_state *b, const struct nic_state *n)
{
	struct in6_addr address6 = state_address6(b, n->address);
	char text[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET, &n->address, text, sizeof(text));
	fprintf(names, "%s %s.%s %s\n", text, n->vm, b->wish.name, n->vm);
	inet_ntop(AF_INET6, &address6, text, sizeof(text));
	if (b->ipv6)
		fprintf(names, "%s %s.%s %s\n", text, n->vm, b->wish.name, n->vm);
}

static int write_hosts(
	const struct state *s, const struct bridge_state *b, const struct nic_list *l)
{
	const char *bridge = b->wish.name;
	FILE *hosts = rewrite(s, bridge, HOSTS), *names = hosts ? rewrite(s, bridge, NAMES) : NULL;
	char mac[18], address[INET_ADDRSTRLEN];
	int rc;

	for (unsigned i = 0; names && i < l->count; i++) {
		const struct nic_state *n = &l->nics[i];

		if (!n->alive || !n->address.s_addr)
			continue;
		format_mac(n->mac, mac);
		inet_ntop(AF_INET, &n->address, address, sizeof(address));
		fprintf(hosts, "%s,%s\n", mac, address);
		write_name(names, b, n);
	}
	if (!hosts)
		return -EIO;
	rc = close_written(hosts, bridge);
	if (!names)
		return -EIO;
	return close_written(names, bridge) ? -EIO : rc;
}

/* Whether an address is leased to another than who has it now: dnsmasq would not give it. */
static bool leased_to_another(const struct state *s, const char *bridge, const struct nic_list *l)
{
	int fd = state_file(s, bridge, LEASES, O_RDONLY);
	FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
	char line[512], mac[18], address[INET_ADDRSTRLEN], want[18];
	bool found = false;

	while (in && !found && fgets(line, sizeof(line), in)) {
		struct in_addr a;

		if (sscanf(line, "%*s %17s %15s", mac, address) != 2 ||
			inet_pton(AF_INET, address, &a) != 1)
			continue;
		for (unsigned i = 0; i < l->count && !found; i++) {
			format_mac(l->nics[i].mac, want);
			found = l->nics[i].alive && l->nics[i].address.s_addr == a.s_addr &&
				strcmp(want, mac) != 0;
		}
	}
	if (in)
		fclose(in);
	return found;
}

/* The one that runs reads the files again, where its notes are of use. */
static bool tell(const struct state *s, const char *bridge, const struct nic_list *l)
{
	int pid;
	CLEANUP_FD int fd = open_process(s, bridge, &pid);

	if (fd < 0)
		return false;
	return !leased_to_another(s, bridge, l) && !pidfd_send_signal(fd, SIGHUP, NULL, 0);
}

int dhcp_update(const struct state *s, const struct bridge_state *b)
{
	const char *bridge = b->wish.name;
	struct nic_list l;
	int rc = state_nics(s, bridge, &l);
	int leases;

	if (!rc)
		rc = write_hosts(s, b, &l);
	if (!rc && !tell(s, bridge, &l)) {
		dhcp_stop(s, bridge); /* one that has not written its number */
		leases = state_file(s, bridge, LEASES, O_WRONLY | O_CREAT | O_TRUNC);
		if (leases >= 0)
			close(leases);
		rc = write_conf(s, b);
		if (!rc)
			rc = start(s, bridge);
	}
	nics_free(&l);
	return rc;
}

void dhcp_tell(const struct state *s, const struct bridge_state *b)
{
	const char *bridge = b->wish.name;
	struct nic_list l;
	int pid;
	CLEANUP_FD int fd = open_process(s, bridge, &pid);
	int rc = fd < 0 ? 0 : state_nics(s, bridge, &l);

	if (fd < 0)
		return;
	if (!rc) {
		rc = write_hosts(s, b, &l);
		nics_free(&l);
	}
	if (rc || pidfd_send_signal(fd, SIGHUP, NULL, 0) < 0)
		log_warn("%s: dnsmasq %d is not told who has left", bridge, pid);
}

/* --- the host's resolvers ------------------------------------------------------------------------
 */

static unsigned read_resolvers(const char *path, struct in_addr out[BRIDGE_RESOLVERS_MAX])
{
	FILE *in = fopen(path, "re");
	char line[256], text[64];
	unsigned n = 0;

	while (in && n < BRIDGE_RESOLVERS_MAX && fgets(line, sizeof(line), in)) {
		struct in_addr a;

		if (sscanf(line, " nameserver %63s", text) != 1 ||
			inet_pton(AF_INET, text, &a) != 1 || ntohl(a.s_addr) >> 24 == 127)
			continue;
		out[n++] = a;
	}
	if (in)
		fclose(in);
	return n;
}

/* What systemd-resolved asks is in a file of its own: /etc/resolv.conf names itself alone. */
void dhcp_host_resolvers(struct in_addr out[BRIDGE_RESOLVERS_MAX])
{
	memset(out, 0, BRIDGE_RESOLVERS_MAX * sizeof(*out));
	if (!read_resolvers("/etc/resolv.conf", out))
		read_resolvers("/run/systemd/resolve/resolv.conf", out);
}
