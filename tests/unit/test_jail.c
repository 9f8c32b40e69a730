// SPDX-License-Identifier: MIT
// The jail: each role may do its work, and is killed for anything else.
#include "base/jail.h"
#include "tests/unit/test.h"

#include "base/util.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The work is done in a child; its wait status is returned. */
static int in_jail(enum jail_role role, enum jail_mode mode, void (*work)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (jail_enter(role, mode))
			_exit(99);
		work();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void allowed_everywhere(void)
{
	static char c;
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || munmap(p, 4096) || write(-1, &c, 0) == 0)
		_exit(1);
}

static void open_file(void)
{
	open("/etc/passwd", O_RDONLY);
}

static void run_program(void)
{
	execl("/bin/true", "true", NULL);
}

static void make_executable(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void internet_socket(void)
{
	socket(AF_INET, SOCK_STREAM, 0);
}

static void unix_socket(void)
{
	if (socket(AF_UNIX, SOCK_STREAM, 0) < 0)
		_exit(1);
}

static void trace_parent(void)
{
	kill(getppid(), SIGCONT);
}

static void make_eventfd(void)
{
	if (eventfd(0, 0) < 0)
		_exit(1);
}

static bool killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void test_refused(void **state)
{
	void (*const crimes[])(void) = {
		open_file, run_program, make_executable, internet_socket, trace_parent};

	for (int role = 0; role < JAIL_ROLES; role++)
		for (unsigned i = 0; i < ARRAY_SIZE(crimes); i++)
			assert_true(killed(in_jail((enum jail_role)role, JAIL_KILL, crimes[i])));
	assert_true(killed(in_jail(JAIL_VCPU, JAIL_KILL, unix_socket)));
	assert_true(killed(in_jail(JAIL_VCPU, JAIL_KILL, make_eventfd)));
}

static void test_allowed(void **state)
{
	for (int role = 0; role < JAIL_ROLES; role++)
		assert_int_equal(in_jail((enum jail_role)role, JAIL_KILL, allowed_everywhere), 0);
	assert_int_equal(in_jail(JAIL_IO, JAIL_KILL, unix_socket), 0);
	assert_int_equal(in_jail(JAIL_CONTROL, JAIL_KILL, make_eventfd), 0);
}

static void test_modes(void **state)
{
	for (int role = 0; role < JAIL_ROLES; role++) {
		assert_int_equal(in_jail((enum jail_role)role, JAIL_LOG, open_file), 0);
		assert_int_equal(in_jail((enum jail_role)role, JAIL_OFF, open_file), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
