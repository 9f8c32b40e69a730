// SPDX-License-Identifier: MIT
// The command's pipes: its output becomes frames, what the host sends becomes its stdin.
#ifndef GUEST_STREAMS_H
#define GUEST_STREAMS_H

#include "guest/proto.h"
#include "guest/ring.h"

#include <sys/types.h>

#define OUTPUT_NO_LIMIT UINT64_MAX
#define OUTPUT_MIN_ROOM 4096 /* in the writer, below which reading a pipe waits */

/* The command's stdout or stderr. */
struct output {
	int fd;          /* our end of the pipe; -1: done with */
	bool eof_due;    /* the host must yet be told that nothing follows */
	bool enlarged;   /* the pipe has been given its large size */
	uint64_t credit; /* bytes the host still takes */
	uint64_t left;   /* bytes still to forward; OUTPUT_NO_LIMIT while the command runs */
};

/* Reads the pipe into at most `frames` frames of the writer, within the credit. */
void output_pump(struct output *o, int stream, struct proto_writer *w, int frames);
/* Forwards no more than the pipe holds now: a process left behind may keep it open for ever. */
void output_limit(struct output *o);

/* The command's stdin. */
struct input {
	int fd;           /* our end of the pipe; -1: nothing more goes in */
	bool eof;         /* the host has sent all; the pipe closes when the ring is empty */
	bool close_due;   /* the host must yet be told that nobody reads */
	bool enlarged;    /* the pipe has been given its large size */
	uint32_t window;  /* bytes the host may still send */
	uint32_t written; /* bytes passed on for which no credit has been given */
	struct ring ring; /* of PROTO_WINDOW bytes: what the pipe did not take yet */
};

/* Writes to the pipe, and what does not fit to the ring; drops it when nobody reads any more. */
void input_take(struct input *in, const uint8_t *bytes, size_t length);
/* Writes from the ring what the pipe takes; closes the pipe behind the last byte. */
void input_pump(struct input *in);
/* Closes the pipe and drops what is in the ring; the host hears of it if `tell`. */
void input_end(struct input *in, bool tell);

#endif
