// SPDX-License-Identifier: MIT
// What session.c, which drives a session, and session_frames.c, which judges the guest's, share.
#ifndef CLI_SESSION_STATE_H
#define CLI_SESSION_STATE_H

#include "cli/session.h"
#include "cli/sink.h"
#include "cli/source.h"

/*
 * BOOTING -> GREETING on session_attach -> STARTING on HELLO -> RUNNING on STARTED -> DRAINING on
 * EXIT; DRAINING also from STARTING on SPAWN_FAILED; OVER from each of them.
 */
enum session_state {
	BOOTING = 1,  /* the guest has not connected */
	GREETING = 2, /* HELLO has not come */
	STARTING = 4, /* the command does not run yet */
	RUNNING = 8,
	DRAINING = 16, /* the command has ended, its output is not all written */
	OVER = 32,     /* `ended` was called */
};

/* The command's stdout or stderr, on their way here. */
struct session_output {
	const char *name;
	struct sink sink;
	uint32_t window; /* what the guest may still send */
	bool eof;        /* it has sent all */
	bool close_due;  /* it must yet be told that nobody reads */
	bool closed;     /* nobody reads: what was under way is dropped */
};

struct session {
	struct session_options o;
	enum session_state state;
	int connection; /* -1 while there is none */
	struct watch watch;
	uint32_t events; /* asked of the loop for the connection */
	struct timer timer;
	struct session_times times;
	struct session_result result;
	unsigned int troubles;
	bool deaf; /* the guest takes no more from us */

	uint8_t *request; /* encoded; NULL once it is all queued */
	size_t request_length, request_queued;
	uint64_t signals; /* bit N-1: signal N is to be sent */
	struct source input;
	uint32_t credit; /* what the guest still takes of stdin */
	bool eof_due;
	struct session_output outputs[2];
	struct proto_reader reader;
	struct proto_writer writer;
	uint8_t in[2 * PROTO_FRAME_MAX], out[2 * PROTO_FRAME_MAX];
};

/* Handles all whole frames that have arrived. 0, or -EPROTO for one that must not be. */
int session_take_frames(struct session *s);
/* The sink has broken: the guest is told once, and what was under way is dropped from here on. */
void session_close_output(struct session_output *o, int error);

#endif
