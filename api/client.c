// SPDX-License-Identifier: MIT
// One request and its answer, over a control socket.
#include "api/client.h"
#include "api/verbs.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ANSWER_MAX KIB(64)

/* Reads one line into `text` of ANSWER_MAX bytes. Its length or -errno. */
static ssize_t read_line(int fd, uint64_t deadline, char *text)
{
	size_t len = 0;

	while (len < ANSWER_MAX) {
		int rc = fd_await(fd, POLLIN, deadline);
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

/* Takes away from the front of two pieces what has been sent. */
static void advance(struct iovec *iov, size_t n)
{
	for (unsigned i = 0; i < 2; i++) {
		size_t part = MIN(n, iov[i].iov_len);

		iov[i].iov_base = (char *)iov[i].iov_base + part;
		iov[i].iov_len -= part;
		n -= part;
	}
}

/* The line and its end, the descriptors with its first byte. 0 or -errno. */
static int send_all(int fd, const char *line, const struct api_question *q)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(API_FDS_MAX * sizeof(int))] = {0};
	char end = '\n';
	struct iovec iov[2] = {{(void *)(uintptr_t)line, strlen(line)}, {&end, 1}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	struct cmsghdr *h = (struct cmsghdr *)(void *)control;

	if (q->fd_count) {
		*h = (struct cmsghdr){.cmsg_len = CMSG_LEN(q->fd_count * sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(h), q->fds, q->fd_count * sizeof(int));
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(q->fd_count * sizeof(int));
	}
	while (iov[1].iov_len) {
		ssize_t n = TEMP_FAILURE_RETRY(sendmsg(fd, &m, MSG_NOSIGNAL));

		if (n < 0)
			return -errno;
		advance(iov, (size_t)n);
		m.msg_control = NULL;
		m.msg_controllen = 0;
	}
	return 0;
}

/* As JSON, malloc'd; or NULL. */
static char *line_of(const struct api_question *q)
{
	json_t *root = json_object();
	char *text = NULL;

	json_add_string(&root, "verb", q->verb);
	if (q->args)
		json_add(&root, "args", json_incref((json_t *)(uintptr_t)q->args));
	if (root)
		text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

/* Sends `line` and has its answer in `text` of ANSWER_MAX bytes: how long it is, or -errno. */
static ssize_t exchange(
	int fd, const struct api_question *q, const char *line, uint64_t deadline, char *text)
{
	int rc = send_all(fd, line, q);
	ssize_t n = rc < 0 ? rc : read_line(fd, deadline, text);

	return n < 0 ? failno((int)-n, "%s", q->verb) : n;
}

int api_client_ask(int fd, const struct api_question *q, uint64_t timeout_ns, json_t **result)
{
	char *text = malloc(ANSWER_MAX), *line = line_of(q);
	ssize_t n = text && line ? exchange(fd, q, line, now_ns() + timeout_ns, text)
				 : fail(ENOMEM, "out of memory");
	json_t *answer = n < 0 ? NULL : json_loadb(text, (size_t)n, 0, NULL);
	int rc = n < 0 ? (int)n : judge(answer, result);

	json_decref(answer);
	free(line);
	free(text);
	return rc;
}

int api_client_call(int fd, const char *verb, uint64_t timeout_ns, json_t **result)
{
	const struct api_question q = {.verb = verb};

	return api_client_ask(fd, &q, timeout_ns, result);
}
