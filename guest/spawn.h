// SPDX-License-Identifier: MIT
// Starts the command that a session asks for, as a shell would find and start it.
#ifndef GUEST_SPAWN_H
#define GUEST_SPAWN_H

#include "guest/proto.h"

#include <sys/types.h>

struct spawn {
	const struct proto_request *request;
	int fds[PROTO_STREAMS]; /* what becomes 0, 1 and 2; each is above 2 */
	/* Set where spawn_start fails: */
	int error; /* errno */
	enum proto_step step;
};

/*
 * Starts the command in a session and process group of its own, with no signal blocked or ignored,
 * in the request's directory and environment, to which PATH, HOME and TERM are added where missing.
 * Returns its pid once it has been executed, or -1 with s->error and s->step set.
 */
pid_t spawn_start(struct spawn *s);

#endif
