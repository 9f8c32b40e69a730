// SPDX-License-Identifier: MIT
// The control socket: connections, their buffers and their manners, whatever the dialect.
#ifndef API_SERVER_H
#define API_SERVER_H

#include "api/dialect.h"

struct api_server;
struct loop;

/*
 * Serves `api` on the listening socket `fd` (taken, also on failure) from `loop`'s thread, to
 * processes of this user and of root. Up to 64 clients at once; one that does not read its answers
 * for 10 s is dropped. 0 or -errno.
 */
int api_server_create(struct api_server **out, struct loop *loop, int fd, struct api *api,
	const struct api_dialect *dialect);

/* Closes every connection. NULL is fine. */
void api_server_destroy(struct api_server *s);

#endif
