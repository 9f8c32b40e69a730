// SPDX-License-Identifier: MIT
// A dialect: how bytes of a connection become verbs and their results become bytes.
#ifndef API_DIALECT_H
#define API_DIALECT_H

#include <stddef.h>

struct api;
struct api_fds;

/* Bytes for the client, which the server sends. Zero-initialised is empty. */
struct api_out {
	char *buf; /* malloc'd */
	size_t len, cap;
	int err; /* 0 or -ENOMEM, which ends the connection */
};

void api_out_put(struct api_out *o, const void *data, size_t len);

struct api_dialect {
	size_t max; /* bytes of the longest request */
	/* The bytes of the request at the front of `data`; 0 when it is not all there. */
	size_t (*find)(const char *data, size_t len);
	/* Does that request, and puts its answer. The descriptors are closed or taken. */
	void (*answer)(struct api *a, const char *data, size_t len, struct api_fds *fds,
		struct api_out *out);
	/* Puts last_error() as the answer to what cannot be read; the connection is closed after
	 * it. */
	void (*refuse)(struct api_out *out);
};

/*
 * A line of JSON each: {"verb":"pause"} is answered by {"ok":true,"result":{}} or
 * {"ok":false,"error":"pause: not while the machine is paused"}. "args" is an object with the
 * verb's arguments. An "id" of any type is given back.
 */
extern const struct api_dialect api_lines;

#endif
