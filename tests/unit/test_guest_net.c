// SPDX-License-Identifier: MIT
// What init does about the network, in a network namespace of its own with taps for NICs, and with
// roots made for it; and what it is told to do.
#include "example_net.h"
#include "test.h"

#include "cli/guest_net.h"
#include "guest/net.h"
#include "vmm/net_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/if_tun.h>

static struct boot boot;
static bool isolated;

static const struct proto_net second = {.mac = {2, 0, 0, 0, 0, 2},
	.prefix4 = 30,
	.address4 = {192, 168, 7, 2},
	.gateway4 = {192, 168, 7, 1},
	.resolvers = {{0}, {[10] = 0xff, 0xff, 1, 2, 3, 4}, {[10] = 0xff, 0xff, 5, 6, 7, 8}}};

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail_msg("%s: %s", path, strerror(errno));
	close(fd);
}

static const char *read_text(const char *path)
{
	static char text[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = 0;
	return text;
}

/* Namespaces of our own; an ordinary user needs one of users around them. */
static int isolate(void **state)
{
	char uids[32], gids[32];

	snprintf(uids, sizeof(uids), "0 %u 1", getuid());
	snprintf(gids, sizeof(gids), "0 %u 1", getgid());
	if (unshare(CLONE_NEWNET | CLONE_NEWNS)) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS))
			return 0;
		write_text("/proc/self/uid_map", uids);
		write_text("/proc/self/setgroups", "deny");
		write_text("/proc/self/gid_map", gids);
	}
	isolated = !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	return 0;
}

static void need_isolation(void)
{
	if (!isolated)
		skip();
	boot = (struct boot){0};
}

static struct ifreq interface(const char *name)
{
	struct ifreq r = {0};

	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	return r;
}

/* Of the kernel about one interface, which must not fail. */
static struct ifreq ask_about(const char *name, unsigned long request)
{
	struct ifreq r = interface(name);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (ioctl(fd, request, &r))
		fail_msg("request 0x%lx about %s: %s", request, name, strerror(errno));
	close(fd);
	return r;
}

/* A tap with that MAC, which is gone when the descriptor is closed. */
static int make_tap(const char *name, const uint8_t mac[6])
{
	struct ifreq r = interface(name);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	r.ifr_flags = IFF_TAP | IFF_NO_PI;
	if (fd < 0 || ioctl(fd, TUNSETIFF, &r))
		return -1;
	r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(r.ifr_hwaddr.sa_data, mac, 6);
	return ioctl(fd, SIOCSIFHWADDR, &r) ? -1 : fd;
}

static int need_tap(const char *name, const uint8_t mac[6])
{
	int fd = make_tap(name, mac);

	if (fd < 0 && (errno == ENOENT || errno == EPERM || errno == EACCES))
		skip();
	assert_true(fd >= 0);
	return fd;
}

static struct proto_request request_of(
	unsigned int n, const struct proto_net *a, const struct proto_net *b)
{
	struct proto_request q = {.n_nets = n, .nets = {*a}};

	if (b)
		q.nets[1] = *b;
	return q;
}

static void expect_ipv4(const char *name, const char *address, const char *broadcast)
{
	struct sockaddr_in a;
	struct ifreq r = ask_about(name, SIOCGIFADDR);

	memcpy(&a, &r.ifr_addr, sizeof(a));
	assert_string_equal(inet_ntoa(a.sin_addr), address);
	r = ask_about(name, SIOCGIFBRDADDR);
	memcpy(&a, &r.ifr_broadaddr, sizeof(a));
	assert_string_equal(inet_ntoa(a.sin_addr), broadcast);
	assert_true(ask_about(name, SIOCGIFFLAGS).ifr_flags & IFF_UP);
}

/* The metric of the default route by that interface and gateway; -1: there is none. */
static int route_metric(const char *name, const char *gateway)
{
	char device[IFNAMSIZ], *rest, *line;
	struct in_addr via;
	unsigned int target;
	int metric;

	rest = (char *)(uintptr_t)read_text("/proc/net/route");
	while (rest && (line = strsep(&rest, "\n")))
		if (sscanf(line, "%15s %x %x %*x %*d %*d %d", device, &target, &via.s_addr,
			    &metric) == 4 &&
			!target && !strcmp(device, name) && !strcmp(inet_ntoa(via), gateway))
			return metric;
	return -1;
}

static bool have_ipv6(void)
{
	return !access("/proc/net/if_inet6", F_OK);
}

/* fec0::15/64 is permanent and was never tentative. */
static void expect_ipv6(const char *name)
{
	char line[128];
	const char *text = read_text("/proc/net/if_inet6");

	snprintf(line, sizeof(line), "fec00000000000000000000000000015 %02x 40 40 82 %8s\n",
		if_nametoindex(name), name);
	if (!text || !strstr(text, line))
		fail_msg("no \"%s\" in \"%s\"", line, text);
	text = read_text("/proc/net/ipv6_route");
	if (!text || !strstr(text, "00000000000000000000000000000000 00 "
				   "00000000000000000000000000000000 00 "
				   "fec00000000000000000000000000002 00000400"))
		fail_msg("no default route in \"%s\"", text);
	snprintf(line, sizeof(line), "/proc/sys/net/ipv6/conf/%s/accept_ra", name);
	assert_string_equal(read_text(line), "0\n");
}

static void two_interfaces_are_set_up(void **state)
{
	struct proto_request q = request_of(2, &example_net, &second);
	int a, b;

	need_isolation();
	b = need_tap("b", second.mac);
	a = need_tap("a", example_net.mac);
	net_configure(&boot, &q, 0);
	if (boot.n_troubles)
		fail_msg("%s %s: %s", boot.troubles[0].what, boot.troubles[0].name,
			strerror(boot.troubles[0].error));
	expect_ipv4("a", "10.0.2.15", "10.0.2.255");
	expect_ipv4("b", "192.168.7.2", "192.168.7.3");
	assert_int_equal(ask_about("a", SIOCGIFMTU).ifr_mtu, 65520);
	assert_int_equal(ask_about("b", SIOCGIFMTU).ifr_mtu, 1500);
	assert_int_equal(route_metric("a", "10.0.2.2"), 0);
	assert_int_equal(route_metric("b", "192.168.7.1"), 1);
	if (have_ipv6())
		expect_ipv6("a");
	/* Once more changes nothing and is no trouble. */
	net_configure(&boot, &q, 0);
	assert_int_equal(boot.n_troubles, 0);
	close(a);
	close(b);
}

static int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void missing_interface_is_given_up(void **state)
{
	struct proto_request q = request_of(2, &example_net, &second);
	int64_t start;
	int b;

	need_isolation();
	b = need_tap("b", second.mac);
	start = clock_ms();
	net_configure(&boot, &q, 300);
	assert_in_range(clock_ms() - start, 300, 3000);
	assert_int_equal(boot.n_troubles, 1);
	assert_string_equal(boot.troubles[0].what, "network interface");
	assert_string_equal(boot.troubles[0].name, "02:01:02:03:04:05");
	assert_int_equal(boot.troubles[0].error, ENODEV);
	expect_ipv4("b", "192.168.7.2", "192.168.7.3"); /* the other is set up all the same */
	start = clock_ms();
	net_configure(&boot, &q, 0);
	assert_in_range(clock_ms() - start, 0, 250);
	close(b);
}

static void *make_late(void *arg)
{
	static const struct timespec wait = {.tv_nsec = 200000000};
	int *fd = arg;

	nanosleep(&wait, NULL); /* until net_configure waits */
	*fd = make_tap("late", example_net.mac);
	return NULL;
}

/* It is announced, first with a MAC that is not yet its own. */
static void late_interface_is_waited_for(void **state)
{
	struct proto_request q = request_of(1, &example_net, NULL);
	int fd = -1, probe;
	int64_t start = clock_ms();
	pthread_t thread;

	need_isolation();
	probe = need_tap("other", second.mac);
	assert_int_equal(pthread_create(&thread, NULL, make_late, &fd), 0);
	net_configure(&boot, &q, 60000);
	pthread_join(thread, NULL);
	assert_true(fd >= 0);
	assert_in_range(clock_ms() - start, 200, 30000);
	assert_int_equal(boot.n_troubles, 0);
	expect_ipv4("late", "10.0.2.15", "10.0.2.255");
	assert_false(ask_about("other", SIOCGIFFLAGS).ifr_flags & IFF_UP);
	close(fd);
	close(probe);
}

static void kernel_without_ipv6_will_do(void **state)
{
	static const char off[] = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
	struct proto_request q = request_of(1, &example_net, NULL);
	int a;

	need_isolation();
	if (have_ipv6())
		write_text(off, "1");
	a = need_tap("a", example_net.mac);
	net_configure(&boot, &q, 0);
	assert_int_equal(boot.n_troubles, 0);
	expect_ipv4("a", "10.0.2.15", "10.0.2.255");
	/* Where there is nothing else, that is a trouble. */
	q.nets[0].prefix4 = 0;
	net_configure(&boot, &q, 0);
	assert_int_equal(boot.n_troubles, 1);
	assert_string_equal(boot.troubles[0].what, "IPv6 address of network interface");
	assert_string_equal(boot.troubles[0].name, "a");
	if (have_ipv6())
		write_text(off, "0");
	close(a);
}

static void troubles_are_told(void **state)
{
	struct proto_request q = request_of(1, &example_net, NULL);
	int a;

	need_isolation();
	a = need_tap("a", example_net.mac);
	q.nets[0].prefix6 = 0;
	q.nets[0].mtu = 5; /* the kernel wants more */
	q.nets[0].gateway4[0] = 11;
	net_configure(&boot, &q, 0);
	assert_int_equal(boot.n_troubles, 2);
	assert_string_equal(boot.troubles[0].what, "MTU of network interface");
	assert_int_equal(boot.troubles[0].error, EINVAL);
	assert_string_equal(boot.troubles[1].what, "IPv4 route through network interface");
	assert_int_equal(boot.troubles[1].error, ENETUNREACH);
	expect_ipv4("a", "10.0.2.15", "10.0.2.255");
	close(a);
}

/* ---- what init is told ---- */

static void other_end_is_put_into_words(void **state)
{
	struct net_guest g = {.mac = {2, 1, 2, 3, 4, 5}, .mtu = 65520, .prefix = 24, .prefix6 = 64};
	struct proto_net n;

	inet_pton(AF_INET, "10.0.2.15", &g.address);
	inet_pton(AF_INET, "10.0.2.2", &g.gateway);
	inet_pton(AF_INET, "10.0.2.3", &g.resolver[1]); /* gaps are no end */
	inet_pton(AF_INET6, "fec0::15", &g.address6);
	inet_pton(AF_INET6, "fec0::2", &g.gateway6);
	inet_pton(AF_INET6, "fec0::3", &g.resolver6[2]);
	guest_net_put(&n, &g);
	assert_memory_equal(&n, &example_net, sizeof(n));
}

static void resolvers_that_fit_are_told(void **state)
{
	static const uint8_t want[PROTO_RESOLVERS][16] = {{[10] = 0xff, 0xff, 1, 1, 1, 1},
		{[10] = 0xff, 0xff, 2, 2, 2, 2}, {0xfe, 0xc0, [15] = 3}};
	struct net_guest g = {.mtu = 0};
	struct proto_net n;

	inet_pton(AF_INET, "1.1.1.1", &g.resolver[0]);
	inet_pton(AF_INET, "2.2.2.2", &g.resolver[1]);
	inet_pton(AF_INET6, "fec0::3", &g.resolver6[0]);
	inet_pton(AF_INET6, "fec0::4", &g.resolver6[1]);
	guest_net_put(&n, &g);
	assert_memory_equal(n.resolvers, want, sizeof(want));
	assert_int_equal(n.prefix4 + n.prefix6 + n.mtu, 0);
}

/* ---- resolvers: in a child, in a root that is a tmpfs ---- */

#define BOTH "nameserver 10.0.2.3\nnameserver fec0::3\nnameserver 1.2.3.4\n"

static void in_root(void (*test)(const struct proto_request *q), bool in_memory)
{
	struct proto_request q = request_of(2, &example_net, &second);
	char dir[] = "/tmp/kvick-test-root.XXXXXX";
	int status = -1;
	pid_t pid;

	need_isolation();
	boot.root_in_memory = in_memory;
	assert_non_null(mkdtemp(dir));
	pid = fork();
	if (!pid) {
		if (mount("tmpfs", dir, "tmpfs", 0, NULL) || chroot(dir) || chdir("/"))
			_exit(2);
		test(&q);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	assert_int_equal(status, 0);
}

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			print_error("%d: not %s (errno %d)\n", __LINE__, #condition, errno);       \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static bool text_is(const char *path, const char *want)
{
	const char *text = read_text(path);

	return text && !strcmp(text, want);
}

static void write_anew(const struct proto_request *q)
{
	net_resolvers(&boot, q); /* there is no /etc */
	MUST(!boot.n_troubles && text_is("/etc/resolv.conf", BOTH));
	MUST(!unlink("/etc/resolv.conf"));
	MUST(!symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"));
	net_resolvers(&boot, q);
	MUST(!boot.n_troubles && text_is("/etc/resolv.conf", BOTH));
	MUST(access("/run", F_OK) && errno == ENOENT);
}

static void root_in_memory_gets_a_file(void **state)
{
	in_root(write_anew, true);
}

static void no_resolver_changes_nothing(const struct proto_request *q)
{
	struct proto_request none = *q;

	memset(none.nets[0].resolvers, 0, sizeof(none.nets[0].resolvers));
	memset(none.nets[1].resolvers, 0, sizeof(none.nets[1].resolvers));
	net_resolvers(&boot, &none);
	none.n_nets = 0;
	net_resolvers(&boot, &none);
	MUST(!boot.n_troubles && access("/etc", F_OK));
}

static void without_resolvers_nothing_changes(void **state)
{
	in_root(no_resolver_changes_nothing, true);
}

static void cover_file(const struct proto_request *q)
{
	MUST(!mkdir("/etc", 0755) && !mkdir("/run", 0755));
	write_text("/etc/resolv.conf", "own\n");
	net_resolvers(&boot, q);
	MUST(!boot.n_troubles && text_is("/etc/resolv.conf", BOTH));
	MUST(!umount2("/etc/resolv.conf", MNT_DETACH) && text_is("/etc/resolv.conf", "own\n"));
	/* A disk that cannot be written; /run is in memory always. */
	MUST(!mount("tmpfs", "/run", "tmpfs", 0, NULL));
	MUST(!mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL));
	net_resolvers(&boot, q);
	MUST(!boot.n_troubles && text_is("/etc/resolv.conf", BOTH));
}

static void file_on_disk_is_covered(void **state)
{
	in_root(cover_file, false);
}

static void cover_nothing(const struct proto_request *q)
{
	MUST(!mkdir("/etc", 0755) && !mkdir("/run", 0755));
	MUST(!mount("tmpfs", "/run", "tmpfs", 0, NULL));
	MUST(!mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL));
	net_resolvers(&boot, q);
	MUST(boot.n_troubles == 1 && boot.troubles[0].error == EROFS);
	MUST(!strcmp(boot.troubles[0].name, "/etc/resolv.conf"));
	MUST(!mount(NULL, "/", NULL, MS_REMOUNT, NULL));
	net_resolvers(&boot, q);
	MUST(boot.n_troubles == 1 && text_is("/etc/resolv.conf", BOTH));
	MUST(!umount2("/etc/resolv.conf", MNT_DETACH) && text_is("/etc/resolv.conf", ""));
}

static void missing_file_on_disk_is_made(void **state)
{
	in_root(cover_nothing, false);
}

static void follow_link(const struct proto_request *q)
{
	MUST(!mkdir("/etc", 0755) && !mkdir("/run", 0755));
	MUST(!symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"));
	net_resolvers(&boot, q);
	MUST(!boot.n_troubles && text_is("/run/systemd/resolve/stub-resolv.conf", BOTH));
	MUST(text_is("/etc/resolv.conf", BOTH));
	MUST(!unlink("/etc/resolv.conf") && !symlink("/run/resolvconf/r", "/etc/resolv.conf"));
	net_resolvers(&boot, q);
	MUST(!boot.n_troubles && text_is("/run/resolvconf/r", BOTH));
}

static void link_on_disk_into_run_is_followed(void **state)
{
	in_root(follow_link, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_interfaces_are_set_up),
		cmocka_unit_test(missing_interface_is_given_up),
		cmocka_unit_test(late_interface_is_waited_for),
		cmocka_unit_test(kernel_without_ipv6_will_do),
		cmocka_unit_test(troubles_are_told),
		cmocka_unit_test(other_end_is_put_into_words),
		cmocka_unit_test(resolvers_that_fit_are_told),
		cmocka_unit_test(root_in_memory_gets_a_file),
		cmocka_unit_test(without_resolvers_nothing_changes),
		cmocka_unit_test(file_on_disk_is_covered),
		cmocka_unit_test(missing_file_on_disk_is_made),
		cmocka_unit_test(link_on_disk_into_run_is_followed),
	};

	return cmocka_run_group_tests(tests, isolate, NULL);
}
