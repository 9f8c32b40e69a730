// SPDX-License-Identifier: MIT
// A file that is put in its place when it is whole, on file systems that have files without a name
// and on those that have none.
#include "cli/image/target.h"
#include "tests/unit/image_file.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

static bool no_tmpfile;

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);

/* As a file system that does not know such files. */
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return __real_openat64(dir, path, flags, mode);
}

static int with_tmpfile(void **state)
{
	no_tmpfile = false;
	image_begin();
	return 0;
}

static int without_tmpfile(void **state)
{
	no_tmpfile = true;
	image_begin();
	return 0;
}

static int end(void **state)
{
	image_end();
	return 0;
}

static unsigned count_files(void)
{
	DIR *dir = opendir(".");
	const struct dirent *d;
	unsigned n = 0;

	assert_non_null(dir);
	while ((d = readdir(dir)))
		n += d->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void start(struct target *t, const char *name, bool replace)
{
	if (target_open(t, name, replace))
		fail_msg("%s", last_error());
	assert_int_equal(write(t->fd, "new", 3), 3);
}

static void holds(const char *name, const char *want)
{
	char got[16] = "";
	FILE *f = fopen(name, "r");

	assert_non_null(f);
	assert_non_null(fgets(got, sizeof(got), f));
	fclose(f);
	assert_string_equal(got, want);
}

static void make_old(void)
{
	run_ok("printf old >file && chmod 640 file");
}

static void test_new(void **state)
{
	struct target t;

	start(&t, "file", false);
	assert_int_equal(count_files(), no_tmpfile ? 1 : 0);
	assert_int_equal(access("file", F_OK), -1);
	assert_int_equal(target_finish(&t), 0);
	target_close(&t);
	holds("file", "new");
	assert_int_equal(count_files(), 1);
	target_close(&t);
}

static void test_left(void **state)
{
	struct target t;

	make_old();
	start(&t, "other", false);
	target_close(&t);
	start(&t, "file", true);
	target_close(&t);
	holds("file", "old");
	assert_int_equal(count_files(), 2); /* and "said" */
}

static void test_replaced(void **state)
{
	struct target t;
	struct stat st;

	make_old();
	assert_int_equal(target_open(&t, "file", false), -EEXIST);
	target_close(&t);
	start(&t, "file", true);
	holds("file", "old");
	assert_int_equal(target_finish(&t), 0);
	target_close(&t);
	holds("file", "new");
	assert_int_equal(stat("file", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(count_files(), 2);
}

/* What comes there meanwhile is not replaced by who would replace nothing. */
static void test_came_between(void **state)
{
	struct target t;

	start(&t, "file", false);
	make_old();
	assert_int_equal(target_finish(&t), -EEXIST);
	target_close(&t);
	holds("file", "old");
	assert_int_equal(count_files(), 2);
}

static void test_signal(void **state)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		pid_t child = fork();
		int status;

		if (!child) {
			struct target t;

			if (!target_open(&t, "file", true))
				raise(signals[i]);
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), signals[i]);
		assert_int_equal(count_files(), 0);
	}
}

#define BOTH(test)                                                                                 \
	cmocka_unit_test_setup_teardown(test, with_tmpfile, end),                                  \
		cmocka_unit_test_setup_teardown(test, without_tmpfile, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_new),
		BOTH(test_left),
		BOTH(test_replaced),
		BOTH(test_came_between),
		BOTH(test_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
