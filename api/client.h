// SPDX-License-Identifier: MIT
// The other end of a control socket: how ps and stop ask.
#ifndef API_CLIENT_H
#define API_CLIENT_H

#include <jansson.h>
#include <stdint.h>

/* What is asked; all borrowed. */
struct api_question {
	const char *verb;
	const json_t *args; /* an object; NULL: none */
	const int *fds;     /* fd_count of them, at most API_FDS_MAX, which go with it */
	unsigned fd_count;
};

/*
 * Asks over the connected, blocking socket `fd` and waits for the answer. *result (NULL: not
 * wanted) is the caller's. 0; -EPROTO with the machine's own message where it refused; -ETIMEDOUT;
 * -EPIPE where the VM ended without an answer; -errno.
 */
int api_client_ask(
	int fd, const struct api_question *question, uint64_t timeout_ns, json_t **result);

/* A verb without arguments. */
int api_client_call(int fd, const char *verb, uint64_t timeout_ns, json_t **result);

#endif
