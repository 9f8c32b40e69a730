// SPDX-License-Identifier: MIT
// Messages for people: errors that are recorded and returned on one line, and the log.
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/util.h"

#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* What is above `level` is dropped. The default is LOG_LEVEL_WARN. */
void log_set_level(enum log_level level);

/* One line on stderr, "kvick: " before it and a newline after it. Safe from any thread. */
void log_error(const char *fmt, ...) printf_like(1, 2);
void log_warn(const char *fmt, ...) printf_like(1, 2);
void log_info(const char *fmt, ...) printf_like(1, 2);
void log_debug(const char *fmt, ...) printf_like(1, 2);

/*
 * Records the message as this thread's last error and returns -err, so that a function reports and
 * returns on one line. Nothing is printed: who gave the order (the command line, the API) decides
 * where the message goes. err is a positive errno; its own text is appended by failno only.
 */
int fail(int err, const char *fmt, ...) printf_like(2, 3);

/* As fail, with ": " and strerror(err) appended. */
int failno(int err, const char *fmt, ...) printf_like(2, 3);

/* Puts "PREFIX: " before this thread's last error and returns `rc`: adds context on the way up. */
int fail_context(int rc, const char *fmt, ...) printf_like(2, 3);

#ifdef __clang_analyzer__
/* The analyser sees one file at a time: it must be told that these never return 0. */
#define fail(...) ((void)fail(__VA_ARGS__), -1)
#define failno(...) ((void)failno(__VA_ARGS__), -1)
#endif

/* This thread's last error, or "" when there was none. Valid until its next fail. */
const char *last_error(void);

/*
 * A guest's mistakes, counted and logged at most once a second for each place that holds one of
 * these. Zero-initialised is ready. Touched by one thread at a time.
 */
struct guest_log {
	uint64_t count;   /* mistakes since the device was made */
	uint64_t next_ns; /* CLOCK_MONOTONIC before which nothing is printed */
};

/* Counts one mistake of the guest, `who` being the device's name, and prints it within the rate. */
void guest_error(struct guest_log *g, const char *who, const char *fmt, ...) printf_like(3, 4);

#endif
