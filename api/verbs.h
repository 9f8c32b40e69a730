// SPDX-License-Identifier: MIT
// What can be asked of a running machine: one table, whatever dialect the request came in.
#ifndef API_VERBS_H
#define API_VERBS_H

#include "base/field.h"

#include <jansson.h>
#include <stddef.h>
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

/* What one message of a UNIX socket takes is 253. */
#define API_FDS_MAX 248u

/* Descriptors that have come with a request. Who takes one puts -1 in its place. */
struct api_fds {
	int fd[API_FDS_MAX];
	unsigned count;
};

/* Closes what nobody has taken. */
void api_fds_close(struct api_fds *fds);

struct api_request {
	struct api *api;
	const struct fields *args; /* set and complete; `values` is the verb's own struct */
	struct api_fds *fds;       /* at most as many as the verb has; what is left is closed */
	json_t *result;            /* for the verb to make; NULL: an empty object */
};

/* In `commands` of a verb's arguments; with FIELD_MANDATORY where they have to be given. */
#define API_ARG (1u << 0)

struct api_verb {
	const char *name;
	unsigned states; /* in which it may be called: bits 1 << enum machine_state */
	unsigned fds;    /* descriptors that it takes, at most */
	int (*run)(struct api_request *r); /* 0 or -errno with a message */
	const char *help;                  /* one sentence without its full stop */
	struct {
		const struct field *table; /* in the order in which a command line has them */
		unsigned count;
		size_t size; /* bytes of the struct that they set */
	} args;
};

/* The table, in the order in which it is to be shown. */
const struct api_verb *api_verbs(unsigned *count);

/* NULL when there is none of that name. */
const struct api_verb *api_find(const char *name);

/*
 * Runs a verb on the control loop's thread. `args` is a JSON object, NULL for none; `fds` are
 * closed but for those that the verb takes. -EBUSY when the machine's state does not permit it,
 * -EINVAL for arguments or descriptors that are not the verb's, else what it returned. *result is
 * the caller's, never NULL on 0.
 */
int api_run(struct api *a, const struct api_verb *v, const json_t *args, struct api_fds *fds,
	json_t **result);

/* Runs the verb of that name: -ENOSYS when there is none. `fds` are gone in any case. */
int api_call(
	struct api *a, const char *name, const json_t *args, struct api_fds *fds, json_t **result);

#endif
