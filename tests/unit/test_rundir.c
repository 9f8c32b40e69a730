// SPDX-License-Identifier: MIT
// Directories of running VMs: names, locks, what a killed process leaves, many at once.
#include "tests/unit/test.h"

#include "base/log.h"
#include "vmm/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[] = "/tmp/kvick-test-XXXXXX";

static int setup(void **state)
{
	memcpy(base + sizeof(base) - 7, "XXXXXX", 6);
	if (!mkdtemp(base))
		return -1;
	return setenv("KVICK_RUNTIME_DIR", base, 1);
}

/* Fails when anything is left. */
static int teardown(void **state)
{
	return rmdir(base);
}

static bool present(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	return !access(path, F_OK);
}

static int count(void *arg, const struct rundir *d)
{
	(*(unsigned *)arg)++;
	return 0;
}

static unsigned running(void)
{
	unsigned n = 0;

	assert_int_equal(rundir_list(count, &n), 0);
	return n;
}

static void names(void **state)
{
	char longest[65];

	memset(longest, 'a', 64);
	longest[64] = '\0';
	assert_false(rundir_name_ok(longest));
	longest[63] = '\0';
	assert_true(rundir_name_ok(longest));
	assert_true(rundir_name_ok("a.b_c-9"));
	assert_false(rundir_name_ok(""));
	assert_false(rundir_name_ok("."));
	assert_false(rundir_name_ok(".."));
	assert_false(rundir_name_ok("-a"));
	assert_false(rundir_name_ok("a/b"));
	assert_false(rundir_name_ok("a b"));
	assert_false(rundir_name_ok("a\n"));
	assert_false(rundir_name_ok("\xc3\xa9"));
}

static void life(void **state)
{
	struct rundir d, again, found;
	int fd;

	assert_int_equal(rundir_create(&d, "one"), 0);
	assert_int_equal(rundir_create(&again, "one"), -EEXIST);
	assert_non_null(strstr(last_error(), "one"));
	fd = rundir_listen(&d, "control");
	assert_true(fd >= 0);
	assert_int_equal(rundir_write(&d, "config.json", "{}", 2), 0);
	assert_int_equal(running(), 1);
	assert_int_equal(rundir_open(&found, "one"), 0);
	close(rundir_connect(&found, "control"));
	rundir_close(&found);
	assert_true(present("one/lock"));
	rundir_remove(&d);
	assert_false(present("one"));
	assert_int_equal(rundir_open(&found, "one"), -ENOENT);
	assert_int_equal(running(), 0);
	close(fd);
}

static void made_up_names(void **state)
{
	struct rundir a, b;

	assert_int_equal(rundir_create(&a, NULL), 0);
	assert_int_equal(rundir_create(&b, NULL), 0);
	assert_string_not_equal(a.name, b.name);
	assert_true(rundir_name_ok(b.name));
	rundir_remove(&a);
	rundir_remove(&b);
}

/* A process that makes a VM of that name, says so, and waits to be killed. */
static pid_t start_vm(const char *name)
{
	int ends[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (!pid) {
		struct rundir d;

		if (rundir_create(&d, name) < 0 || rundir_listen(&d, "control") < 0)
			_exit(1);
		if (write(ends[1], &byte, 1) == 1)
			pause();
		_exit(0);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	return pid;
}

static void killed(void **state)
{
	struct rundir d;
	pid_t pid = start_vm("dead"), other = start_vm("other");

	assert_int_equal(running(), 2);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_true(present("dead/control"));
	assert_int_equal(running(), 1);
	assert_false(present("dead"));

	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	assert_true(present("other/control"));
	assert_int_equal(rundir_create(&d, "fresh"), 0);
	assert_false(present("other"));
	rundir_remove(&d);
}

static void name_of_the_dead(void **state)
{
	struct rundir d;
	pid_t pid = start_vm("same");

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(rundir_create(&d, "same"), 0);
	assert_false(present("same/control"));
	rundir_remove(&d);
}

#define SWEPT 300
#define FILES 20

/* What a VM that was killed has left. */
static void leave_dead(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	assert_int_equal(mkdir(path, 0700), 0);
	for (unsigned i = 0; i <= FILES; i++) {
		if (i < FILES)
			snprintf(path, sizeof(path), "%s/%s/vsock_%u", base, name, i);
		else
			snprintf(path, sizeof(path), "%s/%s/lock", base, name);
		close(open(path, O_CREAT | O_WRONLY, 0600));
	}
}

/* While others sweep, its name is free, and they are never taken for it. */
static void name_that_is_swept(void **state)
{
	pid_t pids[2], self = getpid();

	for (unsigned i = 0; i < 2; i++) {
		pids[i] = fork();
		while (!pids[i] && getppid() == self)
			rundir_list(count, &(unsigned){0});
		if (!pids[i])
			_exit(0);
	}
	for (unsigned i = 0; i < SWEPT; i++) {
		struct rundir d;

		leave_dead("swept");
		if (rundir_create(&d, "swept") < 0)
			fail_msg("round %u: %s", i, last_error());
		rundir_remove(&d);
	}
	for (unsigned i = 0; i < SWEPT; i++) {
		struct rundir d;

		leave_dead("swept");
		if (rundir_open(&d, "swept") != -ENOENT)
			fail_msg("round %u: the dead one lives", i);
		while (present("swept"))
			rundir_list(count, &(unsigned){0});
	}
	for (unsigned i = 0; i < 2; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	assert_int_equal(running(), 0);
}

/* One that hangs does not make those hang who ask it, however often they do. */
static void full_socket(void **state)
{
	struct rundir d, found;
	unsigned n = 0;
	int fd, listener;

	assert_int_equal(rundir_create(&d, "full"), 0);
	listener = rundir_listen(&d, "control");
	assert_int_equal(rundir_open(&found, "full"), 0);
	alarm(20);
	for (; (fd = rundir_connect(&found, "control")) >= 0; n++)
		close(fd);
	alarm(0);
	assert_int_equal(fd, -ETIMEDOUT);
	assert_true(n >= 64);
	rundir_close(&found);
	rundir_remove(&d);
	close(listener);
}

static void strangers(void **state)
{
	struct rundir d;
	char path[256];

	snprintf(path, sizeof(path), "%s/stray", base);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(running(), 0);
	assert_true(rundir_create(&d, "stray") < 0);
	assert_int_equal(unlink(path), 0);
	/* One that was being made when its maker was killed. */
	snprintf(path, sizeof(path), "%s/empty", base);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(running(), 0);
	assert_false(present("empty"));
}

static void others_directory(void **state)
{
	struct rundir d;

	assert_int_equal(chmod(base, 0777), 0);
	assert_int_equal(rundir_create(&d, "x"), -EPERM);
	assert_non_null(strstr(last_error(), base));
	assert_int_equal(chmod(base, 0700), 0);
}

#define CHILDREN 8
#define ROUNDS 100

/* Makes and removes VMs of few names against the others; ends with how often two had one name. */
static int contend(unsigned seed)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		char name[16];
		struct rundir d;
		int rc, fd;

		seed = seed * 1103515245 + 12345;
		snprintf(name, sizeof(name), "n%u", seed >> 16 & 3);
		rc = rundir_create(&d, name);
		if (rc == -EEXIST)
			continue;
		if (rc < 0)
			return 1;
		/* What another had made here would be in the way. */
		if (rundir_write(&d, "mine", name, 1) < 0)
			return 2;
		fd = rundir_listen(&d, "control");
		if (fd < 0)
			return 3;
		close(fd);
		if (seed >> 20 & 1)
			rundir_remove(&d);
		else
			rundir_close(&d); /* as if killed */
	}
	return 0;
}

static void many_at_once(void **state)
{
	pid_t pids[CHILDREN];

	for (unsigned i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (!pids[i])
			_exit(contend(i + 1));
	}
	for (unsigned i = 0; i < CHILDREN; i++) {
		int status;

		waitpid(pids[i], &status, 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(running(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names, setup, teardown),
		cmocka_unit_test_setup_teardown(life, setup, teardown),
		cmocka_unit_test_setup_teardown(made_up_names, setup, teardown),
		cmocka_unit_test_setup_teardown(killed, setup, teardown),
		cmocka_unit_test_setup_teardown(name_of_the_dead, setup, teardown),
		cmocka_unit_test_setup_teardown(name_that_is_swept, setup, teardown),
		cmocka_unit_test_setup_teardown(full_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(strangers, setup, teardown),
		cmocka_unit_test_setup_teardown(others_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(many_at_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
