// SPDX-License-Identifier: MIT
// What can be asked of a running machine: one table, whatever dialect the request came in.
#ifndef API_VERBS_H
#define API_VERBS_H

#include <jansson.h>
#include <stdint.h>

struct machine;

/* The machine that verbs act on, and what status says of it. All borrowed. */
struct api {
	struct machine *machine;
	const char *name;
	uint32_t cpus;
	uint64_t memory;     /* bytes */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	/* How this VM is asked to end by itself; NULL: by the machine's power button. 0 or -errno.
	 */
	int (*power_button)(void *arg);
	void *arg;
};

struct api_verb {
	const char *name;
	unsigned states; /* in which it may be called: bits 1 << enum machine_state */
	/* *result is NULL on entry and may be left so, for an empty one. 0 or -errno with a
	 * message. */
	int (*run)(struct api *a, json_t **result);
	const char *help; /* one sentence without its full stop */
};

/* The table, in the order in which it is to be shown. */
const struct api_verb *api_verbs(unsigned *count);

/* NULL when there is none of that name. */
const struct api_verb *api_find(const char *name);

/*
 * Runs a verb on the control loop's thread: -ENOSYS when there is none of that name, -EBUSY when
 * the machine's state does not permit it, else what it returned. *result is the caller's, never
 * NULL on 0.
 */
int api_call(struct api *a, const char *name, json_t **result);

#endif
