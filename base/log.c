// SPDX-License-Identifier: MIT
// The last error of each thread, and one line a message on stderr.
#include "base/log.h"

#include "base/loop.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What a chain of images is made of is told whole. */
#define LINE_MAX_BYTES 4096
#define ERROR_MAX_BYTES 4000

static enum log_level threshold = LOG_LEVEL_WARN;
static __thread char error_text[ERROR_MAX_BYTES];

void log_set_level(enum log_level level)
{
	threshold = level;
}

/* One write(2), so that lines of several threads and processes do not mix. */
static void vlog(enum log_level level, const char *fmt, va_list ap)
{
	static const char prefix[] = "kvick: ";
	char line[LINE_MAX_BYTES];
	size_t len = sizeof(prefix) - 1;
	int n;

	if (level > threshold)
		return;
	memcpy(line, prefix, len);
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	if (n < 0)
		return;
	len += MIN((size_t)n, sizeof(line) - len - 2);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* there is no one left to tell */
}

#define DEFINE_LOG(name, level)                                                                    \
	void name(const char *fmt, ...)                                                            \
	{                                                                                          \
		va_list ap;                                                                        \
                                                                                                   \
		va_start(ap, fmt);                                                                 \
		vlog(level, fmt, ap);                                                              \
		va_end(ap);                                                                        \
	}

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warn, LOG_LEVEL_WARN)
DEFINE_LOG(log_info, LOG_LEVEL_INFO)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)

/* Both ends of what is too long: what it is about, and what is the matter with it. */
static void cut(char text[ERROR_MAX_BYTES], const char *suffix, const char *fmt, va_list ap)
{
	const int half = ERROR_MAX_BYTES / 2 - 3;
	char *start, *all;

	if (vasprintf(&start, fmt, ap) < 0)
		return;
	if (asprintf(&all, "%s%s%s", start, suffix ? ": " : "", suffix ? suffix : "") >= 0) {
		snprintf(text, ERROR_MAX_BYTES, "%.*s ... %s", half, all, all + strlen(all) - half);
		free(all);
	}
	free(start);
}

/* Arguments may point into error_text (a last_error() passed on), hence the detour. */
static int vrecord(int err, const char *suffix, const char *fmt, va_list ap)
{
	char text[ERROR_MAX_BYTES];
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	if (suffix && n >= 0 && (size_t)n < sizeof(text))
		n += snprintf(text + n, sizeof(text) - (size_t)n, ": %s", suffix);
	if (n >= 0 && (size_t)n >= sizeof(text))
		cut(text, suffix, fmt, again);
	va_end(again);
	memcpy(error_text, text, strlen(text) + 1);
	return -err;
}

int(fail)(int err, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = vrecord(err, NULL, fmt, ap);
	va_end(ap);
	return rc;
}

int(failno)(int err, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = vrecord(err, strerror(err), fmt, ap);
	va_end(ap);
	return rc;
}

int fail_context(int rc, const char *fmt, ...)
{
	char old[ERROR_MAX_BYTES];
	va_list ap;

	memcpy(old, error_text, strlen(error_text) + 1);
	va_start(ap, fmt);
	vrecord(-rc, old, fmt, ap);
	va_end(ap);
	return rc;
}

const char *last_error(void)
{
	return error_text;
}

void guest_error(struct guest_log *g, const char *who, const char *fmt, ...)
{
	char text[256];
	uint64_t now;
	va_list ap;

	g->count++;
	now = now_ns();
	if (now < g->next_ns)
		return;
	g->next_ns = now + NSEC_PER_SEC;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_warn("%s: guest error %llu: %s", who, (unsigned long long)g->count, text);
}
