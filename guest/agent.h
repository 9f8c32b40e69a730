// SPDX-License-Identifier: MIT
// The guest's end of a session: receives a request, runs the command, forwards its streams.
#ifndef GUEST_AGENT_H
#define GUEST_AGENT_H

#include "guest/proto.h"
#include "guest/streams.h"

#include <sys/types.h>

struct agent {
	int socket;
	int children;        /* a signalfd for SIGCHLD */
	int null;            /* /dev/null */
	pid_t pid;           /* the command; 0 when it has been waited for */
	void (*leave)(void); /* before the end is reported, which ends the guest; NULL: nothing */
	bool exit_due, over;
	struct proto_exit result;
	struct input input;
	struct output output[2]; /* stdout, stderr */
	struct proto_reader reader;
	struct proto_writer writer;
	uint8_t *request; /* the encoded request, and its vectors */
	char **vectors;
	uint8_t in[2 * PROTO_FRAME_MAX], out[4 * PROTO_FRAME_MAX], pending[PROTO_WINDOW];
};

/*
 * `socket` is a connected stream, `null` an open /dev/null; both stay the caller's, and are
 * above 2. SIGCHLD gets blocked and SIGPIPE ignored. 0 or -errno.
 */
int agent_init(struct agent *a, int socket, int null);
/* Queue the greeting, and troubles that the host should tell about; to be sent with what follows.
 */
void agent_hello(struct agent *a, const struct proto_hello *h);
void agent_trouble(struct agent *a, const struct proto_error *e);
/*
 * Sends what is queued and waits for the request, which stays valid as long as the agent.
 * -EPROTO: the host sent something else; -ECONNRESET: it closed; other -errno.
 */
int agent_request(struct agent *a, struct proto_request *q);
/*
 * Runs the command and serves its streams until the host closes the connection. 0 when it did so
 * after the command's end was reported, -ECONNRESET when before; other -errno.
 */
int agent_run(struct agent *a, const struct proto_request *q);
void agent_finish(struct agent *a);

#endif
