// SPDX-License-Identifier: MIT
// Random requests to a disk that stands, over whatever layers, on a medium with a volatile cache;
// after each step everything that could be left on the medium is held against what was promised.
#ifndef TESTS_UNIT_TRACE_H
#define TESTS_UNIT_TRACE_H

#include "tests/unit/medium.h"

#define TRACE_DEPTH 8u

struct trace {
	struct blk *blk;
	struct medium *medium;
	bool durable;    /* each write from now on is, when it is completed: there is no cache */
	bool no_fua;     /* the disk knows none */
	unsigned states; /* the most that are looked at after one step */
	uint64_t seed;   /* not 0 */
	const uint32_t *first; /* what each sector is full of to begin with; NULL: zeroes */

	/* What the disk would be with the medium like that; NULL: the same. */
	const uint8_t *(*disk_of)(void *arg, const uint8_t *image);
	void *arg;

	/* What came of it. */
	unsigned steps, seen; /* seen: states */
	unsigned behind;      /* sectors, of all states, that did not have what was read there */
	unsigned lost; /* ... that had what they must not, or part of one write, part of another */

	unsigned misread; /* sectors that were not read as they were written */

	struct tracer *tracer; /* trace_begin makes it, trace_end frees it */
};

void trace_begin(struct trace *t);

/* `requests` of all kinds, up to TRACE_DEPTH at a time; all are completed when it returns. */
void trace_run(struct trace *t, unsigned requests);

/* The same, and leaves some of them under way. */
void trace_start(struct trace *t, unsigned requests);

/* All that was written is known to be on the medium from now on, without a flush of ours. */
void trace_settled(struct trace *t);

void trace_end(struct trace *t);

#endif
