// SPDX-License-Identifier: MIT
// Locks on images: among ours, and with QEMU's programs both ways.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/loop.h"
#include "blk/engine.h"
#include "blk/lock.h"
#include "blk/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char name[] = "lock.XXXXXX";

static int setup(void **state)
{
	int fd = mkostemp(name, O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	return unlink(name);
}

static int reopen(void)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void test_pairs(void **state)
{
	for (int first = 0; first < 2; first++) {
		for (int second = 0; second < 2; second++) {
			int a = reopen(), b = reopen();
			int lock = lock_image(a, first, name), other;

			assert_true(lock > 2);
			other = lock_image(b, second, name);
			if (first && second)
				assert_true(other > 2);
			else
				assert_int_equal(other, -EBUSY);
			lock_release(lock);
			lock_release(other);
			lock = lock_image(b, false, name);
			assert_true(lock > 2);
			lock_release(lock);
			close(a);
			close(b);
		}
	}
}

/* One that was refused must leave nothing behind. */
static void test_refused_leaves_nothing(void **state)
{
	int fd = reopen();
	int a = lock_image(fd, true, name), b;

	assert_true(a > 2);
	assert_int_equal(lock_image(fd, false, name), -EBUSY);
	b = lock_image(fd, true, name);
	assert_true(b > 2);
	lock_release(a);
	lock_release(b);
	close(fd);
}

/* A process is killed that has the image in a ring. */
static void test_ends_with_process(void **state)
{
	int fd = reopen(), ready[2], lock;
	char c;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct raw_config r = {.name = name, .fd = fd};
		struct blk_engine *engine;
		struct loop *loop;
		struct blk *b;

		r.lock_fd = lock_image(fd, false, name);
		if (r.lock_fd < 0 || loop_create(&loop, "test") ||
			engine_create(&engine, loop, ENGINE_AUTO) || raw_create(&b, engine, &r) ||
			write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(lock_image(fd, false, name), -EBUSY);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	lock = lock_image(fd, false, name);
	assert_true(lock > 2);
	lock_release(lock);
	close(ready[0]);
	close(fd);
}

static void says(const char *what)
{
	if (!strstr(last_error(), what))
		fail_msg("\"%s\" does not say \"%s\"", last_error(), what);
}

static void test_names_holder(void **state)
{
	int fd = reopen(), lock = lock_image(fd, false, name);
	char pid[32];

	assert_true(lock > 2);
	assert_int_equal(lock_image(fd, false, name), -EBUSY);
	snprintf(pid, sizeof(pid), "(pid %d)", (int)getpid());
	says(name);
	says(pid);
	says("test_blk_lock");
	lock_release(lock);
	close(fd);
}

static bool have_qemu(void)
{
	if (system("qemu-io --version >/dev/null 2>&1") == 0)
		return true;
	print_message("host: no qemu-io here\n");
	return false;
}

/* Whether QEMU's program gets at the image. */
static bool qemu_opens(const char *flags)
{
	char command[128];

	snprintf(command, sizeof(command), "qemu-io %s -f raw -c 'read 0 512' %s >/dev/null 2>&1",
		flags, name);
	return system(command) == 0;
}

static void test_qemu_respects_ours(void **state)
{
	int fd, lock;

	if (!have_qemu())
		skip();
	assert_true(qemu_opens(""));
	fd = reopen();
	lock = lock_image(fd, false, name);
	assert_true(lock > 2);
	assert_false(qemu_opens(""));
	lock_release(lock);
	lock = lock_image(fd, true, name);
	assert_true(lock > 2);
	assert_false(qemu_opens(""));
	assert_true(qemu_opens("-r"));
	lock_release(lock);
	close(fd);
}

struct qemu {
	pid_t pid;
	int in, out;
};

/* Returns when it has the image open: it has answered. */
static void start_qemu(struct qemu *q, const char *flag)
{
	static const char order[] = "read 0 512\n";
	int in[2], out[2];
	char c;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	q->pid = fork();
	assert_true(q->pid >= 0);
	if (q->pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execlp("qemu-io", "qemu-io", "-f", "raw", name, flag, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	q->in = in[1];
	q->out = out[0];
	assert_int_equal(write(q->in, order, sizeof(order) - 1), sizeof(order) - 1);
	do
		assert_int_equal(read(q->out, &c, 1), 1);
	while (c != '/');
}

static void end_qemu(struct qemu *q)
{
	close(q->in);
	assert_int_equal(waitpid(q->pid, NULL, 0), q->pid);
	close(q->out);
}

static void check_locks(int fd, bool read_only)
{
	int lock = lock_image(fd, read_only, name);

	assert_true(lock > 2);
	lock_release(lock);
}

static void test_we_respect_qemus(void **state)
{
	struct qemu q;
	int fd;

	if (!have_qemu())
		skip();
	fd = reopen();
	start_qemu(&q, NULL);
	assert_int_equal(lock_image(fd, true, name), -EBUSY);
	says("qemu-io (pid ");
	assert_int_equal(lock_image(fd, false, name), -EBUSY);
	end_qemu(&q);
	start_qemu(&q, "-r");
	check_locks(fd, true);
	end_qemu(&q);
	check_locks(fd, false);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_refused_leaves_nothing),
		cmocka_unit_test(test_ends_with_process),
		cmocka_unit_test(test_names_holder),
		cmocka_unit_test(test_qemu_respects_ours),
		cmocka_unit_test(test_we_respect_qemus),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
