// SPDX-License-Identifier: MIT
// Image files of a test in a directory of its own, and qemu-img for a second opinion.
#ifndef TESTS_UNIT_IMAGE_FILE_H
#define TESTS_UNIT_IMAGE_FILE_H

#include "tests/unit/test.h"

#include "base/log.h"
#include "base/loop.h"
#include "blk/engine.h"
#include "blk/raw.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* The directory; created by image_begin, with the working directory in it. */
static char image_dir[64];

static inline void image_begin(void)
{
	const char *tmp = getenv("TMPDIR");

	/* In memory, if that can be: what a crash would leave is not for these tests. */
	if (!tmp)
		tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	assert_true((size_t)snprintf(image_dir, sizeof(image_dir), "%s/kvick-image-XXXXXX", tmp) <
		    sizeof(image_dir));
	assert_non_null(mkdtemp(image_dir));
	assert_int_equal(chdir(image_dir), 0);
}

static inline void image_end(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", image_dir);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(command), 0);
}

/* Runs a command line made as by printf: its exit status. What it says goes to the file "said". */
static inline int run_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline int run_status(const char *fmt, ...)
{
	char line[1024], whole[1100];
	va_list args;
	int n, status;

	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	assert_true(n >= 0 && (size_t)n < sizeof(line));
	snprintf(whole, sizeof(whole), "( %s ) >said 2>&1", line);
	status = system(whole);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* The same; fails the test unless it exits with 0. */
#define run_ok(...)                                                                                \
	do {                                                                                       \
		int status_ = run_status(__VA_ARGS__);                                             \
                                                                                                   \
		if (status_) {                                                                     \
			print_error(__VA_ARGS__);                                                  \
			print_error(": status %d\n", status_);                                     \
			assert_int_equal(system("head -20 said >&2"), 0);                          \
			_fail(__FILE__, __LINE__);                                                 \
		}                                                                                  \
	} while (0)

/* A raw disk of the file; `flags` as O_CREAT, 0 for none. */
static inline struct blk *image_file(
	struct blk_engine *e, const char *name, bool holds_format, int flags)
{
	struct raw_config c = {.name = name, .holds_format = holds_format};
	struct blk *b;

	c.fd = open(name, O_RDWR | O_CLOEXEC | flags, 0600);
	assert_true(c.fd >= 0);
	if (raw_create(&b, e, &c))
		fail_msg("%s", last_error());
	return b;
}

#endif
