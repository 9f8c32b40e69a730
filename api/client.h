// SPDX-License-Identifier: MIT
// The other end of a control socket: how ps and stop ask.
#ifndef API_CLIENT_H
#define API_CLIENT_H

#include <jansson.h>
#include <stdint.h>

/*
 * Sends a verb over the connected, blocking socket `fd` and waits for its answer. *result (NULL:
 * not wanted) is the caller's. 0; -EPROTO with the machine's own message where it refused;
 * -ETIMEDOUT; -EPIPE where the VM ended without an answer; -errno.
 */
int api_client_call(int fd, const char *verb, uint64_t timeout_ns, json_t **result);

#endif
