// SPDX-License-Identifier: MIT
// One request and its answer, over a control socket.
#include "api/client.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ANSWER_MAX KIB(64)

/* Waits for one of `events` until the deadline. 0, -ETIMEDOUT or -errno. */
static int wait_for(int fd, short events, uint64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = events};
	int rc;

	do {
		uint64_t now = now_ns();
		uint64_t left = now < deadline ? deadline - now : 0;
		struct timespec ts = {.tv_sec = (time_t)(left / NSEC_PER_SEC),
			.tv_nsec = (long)(left % NSEC_PER_SEC)};

		rc = ppoll(&p, 1, &ts, NULL);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -errno;
	return rc ? 0 : -ETIMEDOUT;
}

/* Reads one line into `text` of ANSWER_MAX bytes. Its length or -errno. */
static ssize_t read_line(int fd, uint64_t deadline, char *text)
{
	size_t len = 0;

	while (len < ANSWER_MAX) {
		int rc = wait_for(fd, POLLIN, deadline);
		ssize_t n = rc < 0 ? rc : recv(fd, text + len, ANSWER_MAX - len, 0);

		if (rc < 0)
			return rc;
		if (n == 0)
			return -EPIPE;
		if (n < 0)
			return -errno;
		len += (size_t)n;
		if (text[len - 1] == '\n')
			return (ssize_t)len;
	}
	return -EMSGSIZE;
}

static int judge(json_t *answer, json_t **result)
{
	const char *error = json_string_value(json_object_get(answer, "error"));
	json_t *r = json_object_get(answer, "result");

	if (!json_is_true(json_object_get(answer, "ok")) || !r)
		return fail(EPROTO, "%s", error ? error : "its answer makes no sense");
	if (result)
		*result = json_incref(r);
	return 0;
}

static int exchange(int fd, const char *verb, uint64_t deadline, char *text, json_t **result)
{
	char request[96];
	ssize_t n = snprintf(request, sizeof(request), "{\"verb\":\"%s\"}\n", verb);
	json_t *answer;
	int rc;

	if (send(fd, request, (size_t)n, MSG_NOSIGNAL) != n)
		return failno(errno, "%s", verb);
	n = read_line(fd, deadline, text);
	if (n < 0)
		return failno((int)-n, "%s", verb);
	answer = json_loadb(text, (size_t)n, 0, NULL);
	rc = judge(answer, result);
	json_decref(answer);
	return rc;
}

int api_client_call(int fd, const char *verb, uint64_t timeout_ns, json_t **result)
{
	char *text = malloc(ANSWER_MAX);
	int rc;

	if (!text)
		return fail(ENOMEM, "out of memory");
	rc = exchange(fd, verb, now_ns() + timeout_ns, text, result);
	free(text);
	return rc;
}
