// SPDX-License-Identifier: MIT
// The monitor's side of a NIC in user mode: its process started, waited for, broken, missing, gone.
#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/log.h"
#include "net/slirp/slirp.h"
#include "vmm/nic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static const char *program; /* the helper's file */
static struct loop *loop;

static int open_program(const char *name)
{
	assert_string_equal(name, "kvick-slirp");
	return open(program, O_RDONLY | O_CLOEXEC);
}

static int open_false(const char *name)
{
	return open("/bin/false", O_RDONLY | O_CLOEXEC);
}

static int open_nothing(const char *name)
{
	return fail(ENOENT, "%s: not found", name);
}

static struct net_host host = {
	.open_program = open_program,
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	.jail = JAIL_OFF, /* a sanitizer makes calls of its own */
#endif
	.configured = true,
};

static int setup(void **state)
{
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd CLEANUP_FD = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &up), 0);
	return loop_create(&loop, "control");
}

static int teardown(void **state)
{
	loop_destroy(loop);
	return 0;
}

static void parse(struct net_config *n, const char *text)
{
	assert_int_equal(net_parse(n, text), 0);
	assert_int_equal(net_set_defaults(n, 0), 0);
	net_set_mac(n, "vm", 0);
}

/* An echo to the gateway, and its answer; both behind a header. */
static void check_ping(const struct net_end *end)
{
	uint8_t packet[128] = {[12] = 0x52,
		0x55,
		10,
		0,
		2,
		2,
		2,
		0,
		0,
		0,
		0,
		1,
		8,
		0,
		0x45,
		0,
		0,
		28,
		0,
		1,
		0,
		0,
		64,
		1,
		0x62,
		0xd0,
		10,
		0,
		2,
		15,
		10,
		0,
		2,
		2,
		8,
		0,
		0xf7,
		0xff};
	struct pollfd p = {.fd = end->fd[0], .events = POLLIN};
	uint8_t got[128];

	for (;;) {
		assert_int_equal(write(end->fd[0], packet, 12 + 42), 12 + 42);
		assert_int_equal(poll(&p, 1, 5000), 1);
		assert_true(read(end->fd[0], got, sizeof(got)) >= 12 + 42);
		if (got[12 + 13] == 0)
			break;
		/* It asks who has the address: answered as the one that asks for itself. */
		memcpy(got + 12 + 28, got + 12 + 38, 4);
		memcpy(got + 12 + 22, packet + 12 + 6, 6);
		assert_int_equal(write(end->fd[0], got, 12 + 42), 12 + 42);
	}
	assert_int_equal(got[12 + 34], 0); /* an echo's reply */
}

/* What went wrong is counted where the monitor sees it. */
static void check_counts(const struct net_end *end)
{
	uint8_t packet[12 + 60] = {
		[12] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, [12 + 12] = 0x88, 0xb5};

	assert_int_equal(end->counts[SLIRP_MALFORMED], 0);
	assert_int_equal(end->counts[SLIRP_UNKNOWN], 0);
	assert_int_equal(write(end->fd[0], packet, 12 + 13), 12 + 13);
	assert_int_equal(write(end->fd[0], packet, sizeof(packet)), sizeof(packet));
	while (!end->counts[SLIRP_UNKNOWN])
		check_ping(end); /* what is answered may be an older one */
	assert_int_equal(end->counts[SLIRP_MALFORMED], 1);
	assert_int_equal(end->counts[SLIRP_UNKNOWN], 1);
}

static void test_serves(void **state)
{
	struct net_config n;
	struct net_user u;
	struct net_end end;
	struct net_guest guest;
	char text[INET6_ADDRSTRLEN];

	parse(&n, "user");
	assert_int_equal(net_user_open(&u, &n, &host, &end, &guest), 0);
	assert_int_equal(end.pairs, 1);
	assert_false(end.tap);
	assert_int_equal(end.mtu, 65520);
	assert_int_equal(guest.mtu, 65520);
	assert_memory_equal(guest.mac, n.mac, 6);
	assert_string_equal(inet_ntop(AF_INET, &guest.address, text, sizeof(text)), "10.0.2.15");
	assert_string_equal(inet_ntop(AF_INET, &guest.gateway, text, sizeof(text)), "10.0.2.2");
	assert_string_equal(inet_ntop(AF_INET, &guest.resolver[0], text, sizeof(text)), "10.0.2.3");
	assert_string_equal(inet_ntop(AF_INET6, &guest.address6, text, sizeof(text)), "fec0::15");
	assert_int_equal(guest.prefix, 24);
	assert_int_equal(guest.prefix6, 64);
	if (net_user_await(&u))
		fail_msg("%s", last_error());
	check_ping(&end);
	check_counts(&end);
	port_close(&end);
	net_user_finish(&u);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
	net_user_finish(&u);
	net_config_finish(&n);
}

static void check_refused(const char *text, int rc, const char *why)
{
	struct net_config n;
	struct net_user u;
	struct net_end end;
	struct net_guest guest;

	parse(&n, text);
	assert_int_equal(net_user_open(&u, &n, &host, &end, &guest), 0);
	assert_int_equal(net_user_await(&u), rc);
	assert_string_equal(last_error(), why);
	port_close(&end);
	net_user_finish(&u);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	net_config_finish(&n);
}

static void test_does_not_serve(void **state)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(8080)};
	int fd CLEANUP_FD = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	check_refused("user,id=wan,publish=8081:81,publish=8080:80", -EADDRINUSE,
		"--net user: wan: publish 127.0.0.1:8080: Address already in use");
	check_refused("user,publish=80", -EINVAL,
		"--net user: net0: publish 80: must be [ADDRESS:]HOSTPORT:GUESTPORT[/udp], ports "
		"from 1 to 65535, an IPv6 address in brackets");
	check_refused("user,allow=10.0.0.1/8", -EINVAL,
		"--net user: net0: allow 10.0.0.1/8: the address has bits beyond its prefix");
	host.open_program = open_false;
	check_refused("user", -EPIPE,
		"--net user: net0: kvick-slirp ended with status 1 before it served");
	host.open_program = open_program;
}

static void test_is_not_there(void **state)
{
	struct net_config n;
	struct net_user u;
	struct net_end end;
	struct net_guest guest;

	parse(&n, "user");
	host.open_program = open_nothing;
	assert_int_equal(net_user_open(&u, &n, &host, &end, &guest), -ENOENT);
	assert_string_equal(last_error(), "kvick-slirp: not found");
	assert_int_equal(end.pairs, 0);
	net_user_finish(&u);
	host.open_program = open_program;
	net_config_finish(&n);
}

/* Runs the loop until the helper's end was told of. */
static void stop(void *arg)
{
	loop_stop(loop);
}

static void lost(void *arg, const char *id, const char *why)
{
	snprintf(arg, 96, "%s: %s", id, why);
}

static void test_dies(void **state)
{
	struct timer soon = TIMER_INIT(stop, NULL);
	struct net_config n;
	struct net_user u;
	struct net_end end;
	struct net_guest guest;
	char byte, told[96] = "";

	parse(&n, "user");
	assert_int_equal(net_user_open(&u, &n, &host, &end, &guest), 0);
	u.lost = lost;
	u.arg = told;
	assert_int_equal(net_user_await(&u), 0);
	assert_int_equal(net_user_watch(&u, loop), 0);
	kill(u.process.pid, SIGKILL);
	assert_int_equal(recv(u.process.socket, &byte, 1, 0), 0); /* it is gone */
	loop_arm(loop, &soon, 1000000);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(u.process.pid, 0);
	assert_string_equal(told, "net0: kvick-slirp ended by signal 9");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(read(end.fd[0], &byte, 1), 0);
	port_close(&end);
	net_user_finish(&u);
	net_config_finish(&n);
}

/* As they come to another process. */
static void copy_files(const int *from, int *to, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		to[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 0);
		assert_true(to[i] >= 0);
	}
}

static void close_files(const int *files, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (files[i] >= 0)
			close(files[i]);
}

static void check_no_files(const struct net_config *n, const int *files, unsigned count)
{
	struct nic_helper other;
	struct net_end end;
	int copies[NIC_FILES_MAX];

	copy_files(files, copies, 3);
	assert_int_equal(nic_files_take(n, copies, count, &end, &other), -EINVAL);
	close_files(copies, 3);
}

/* Who has started it ends, and another has it. */
static void test_changes_hands(void **state)
{
	struct nic_helper first = {0}, second;
	struct timer soon = TIMER_INIT(stop, NULL);
	struct net_config n;
	struct net_end end, here;
	struct net_guest guest;
	char told[96] = "";
	const struct nic_listener listener = {loop, lost, lost, told};
	int files[NIC_FILES_MAX], there[NIC_FILES_MAX];
	pid_t pid;

	parse(&n, "user");
	assert_int_equal(nic_open(&first, &n, &host, &end, &guest), 0);
	assert_int_equal(nic_await(&first), 0);
	assert_int_equal(nic_files_list(&end, &first, files), 3);
	check_no_files(&n, files, 2);
	check_no_files(&n, (int[]){files[0], files[2], files[1]}, 3);
	check_no_files(&n, (int[]){files[0], files[1], files[1]}, 3);
	check_no_files(&n, (int[]){files[2], files[1], files[2]}, 3);
	copy_files(files, there, 3);
	assert_int_equal(nic_files_take(&n, there, 3, &here, &second), 0);
	pid = first.user.process.pid;
	port_close(&end);
	nic_hand_over(&first);
	assert_int_equal(nic_watch(&second, &listener), 0);
	assert_int_equal(here.mtu, 65520);
	check_ping(&here);
	check_counts(&here);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	loop_arm(loop, &soon, 1000000);
	assert_int_equal(loop_run(loop), 0);
	assert_string_equal(told, "net0: kvick-slirp ended");
	port_close(&here);
	nic_finish(&second);
	close_files(there, 3);
	net_config_finish(&n);
}

/* What was handed over ends with who has it. */
static void test_ends_with_the_second(void **state)
{
	struct nic_helper first = {0}, second;
	struct net_config n;
	struct net_end end, here;
	struct net_guest guest;
	int files[NIC_FILES_MAX], there[NIC_FILES_MAX], status;
	pid_t pid;

	parse(&n, "user");
	assert_int_equal(nic_open(&first, &n, &host, &end, &guest), 0);
	assert_int_equal(nic_await(&first), 0);
	copy_files(files, there, nic_files_list(&end, &first, files));
	assert_int_equal(nic_files_take(&n, there, 3, &here, &second), 0);
	pid = first.user.process.pid;
	port_close(&end);
	nic_hand_over(&first);
	port_close(&here);
	nic_finish(&second);
	close_files(there, 3);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	net_config_finish(&n);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_serves),
		cmocka_unit_test(test_does_not_serve),
		cmocka_unit_test(test_is_not_there),
		cmocka_unit_test(test_dies),
		cmocka_unit_test(test_changes_hands),
		cmocka_unit_test(test_ends_with_the_second),
	};

	program = argv[argc - 1];
	if (unshare(CLONE_NEWNET) < 0) {
		print_message("no network namespace can be had here: %s\n", strerror(errno));
		return 77; /* meson's skip */
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
