// SPDX-License-Identifier: MIT
// A dialect: how bytes of a connection become verbs and their results become bytes.
#ifndef API_DIALECT_H
#define API_DIALECT_H

#include <stddef.h>

struct api;

/* Bytes for the client, which the server sends. Zero-initialised is empty. */
struct api_out {
	char *buf; /* malloc'd */
	size_t len, cap;
	int err; /* 0 or -ENOMEM, which ends the connection */
};

void api_out_put(struct api_out *o, const void *data, size_t len);

struct api_dialect {
	size_t max; /* bytes of the longest request */
	/*
	 * Takes one request from the front of `data` and puts its answer. Returns the bytes it
	 * took, 0 when the request is not all there.
	 */
	size_t (*take)(struct api *a, const char *data, size_t len, struct api_out *out);
	/* Puts the answer to a request longer than `max`; the connection is closed after it. */
	void (*too_long)(struct api_out *out);
};

/*
 * A line of JSON each: {"verb":"pause"} is answered by {"ok":true,"result":{}} or
 * {"ok":false,"error":"pause: not while the machine is paused"}. An "id" of any type is given back.
 */
extern const struct api_dialect api_lines;

#endif
