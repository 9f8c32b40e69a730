// SPDX-License-Identifier: MIT
// The host's end of a session with a guest's init: one command, its streams and how it ended.
//
// Everything that comes from the guest is bounded: a frame by the protocol, a stream by the credit
// given, which is given back only as this process's own stdout and stderr take the bytes. So a slow
// reader of stdout holds up the command's stdout, and neither stderr nor this process's memory.
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "base/loop.h"
#include "guest/proto.h"

struct session;

struct session_result {
	/*
	 * By the convention of `run`: the command's own status, 128 + N when signal N killed it,
	 * 124 when it took too long, 125 when the session failed, 126 not executable, 127 not
	 * found.
	 */
	int status;
	bool exited;            /* the command ran and ended; `exit` says how */
	struct proto_exit exit; /* times are of the guest's clock */
	char text[320];         /* why status is 124 to 127 by our doing; else "" */
};

/* When the guest's init came to each stage; nanoseconds of the guest's clock, 0: not said. */
struct session_times {
	uint64_t stage_ns[PROTO_STAGES];
	uint64_t started_ns;
};

struct session_options {
	struct loop *loop;
	int connection; /* stream to the guest's init; the session's from here */
	int stdin_fd, stdout_fd,
		stderr_fd; /* stay the caller's; stdin_fd -1: /dev/null in the guest */
	const struct proto_request
		*request;          /* read by session_create only; stdin's flag is set there */
	uint64_t start_timeout_ns; /* for the command to be started; 0: none */
	uint64_t run_timeout_ns;   /* from then to its end; 0: none */
	/* The command runs. NULL is fine. */
	void (*started)(void *arg, const struct session_times *t);
	/*
	 * Once, when the session is over and all output is written. The session may be destroyed
	 * here; the guest waits for its end.
	 */
	void (*ended)(void *arg, const struct session_result *r);
	void *arg;
};

/*
 * Opens what a session needs, before the process is jailed, and starts the first time-out.
 * Callbacks come on the loop's thread, never from within this call. Ignores SIGPIPE in this
 * process: a closed stdout is told to the guest. 0 or -errno.
 */
int session_create(struct session **out, const struct session_options *o);
/*
 * Begins the session with the guest's init at the other end of a stream, which is the session's
 * from here, also on failure. -EBUSY: it has one. From the loop's thread; `ended` is not called in
 * it.
 */
int session_attach(struct session *s, int connection);
/*
 * Sends signal 1..64 to the command's process group, once it runs. From the loop's thread,
 * callbacks included.
 */
void session_signal(struct session *s, int number);
/* Closes the connection, whereupon a guest that is still there powers off. NULL is fine. */
void session_destroy(struct session *s);

#endif
