// SPDX-License-Identifier: MIT
// libslirp between the guest's wire and the host's sockets, and the loop that runs it.
#ifndef NET_SLIRP_ENGINE_H
#define NET_SLIRP_ENGINE_H

#include "net/slirp/policy.h"

#include <stdbool.h>
#include <stdint.h>

struct engine;

struct engine_config {
	const struct policy *policy; /* borrowed for as long as the engine lives */
	bool configured; /* the guest has SLIRP_IPV6_GUEST; else it is found out when it speaks */
	uint32_t mtu;
	int control;        /* the engine ends when its other end is closed; borrowed */
	int packets;        /* borrowed */
	uint64_t *counters; /* SLIRP_COUNTS of them; borrowed */
};

/* Opens what is published: a port that is in use is an error. 0, or -errno with a message. */
int engine_create(struct engine **out, const struct engine_config *c);

/* Runs until the other end of a socket is closed. 0 or -errno. */
int engine_run(struct engine *e);

void engine_destroy(struct engine *e);

#endif
