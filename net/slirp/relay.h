// SPDX-License-Identifier: MIT
// The resolver of a guest with rules: asks the host's for it, about names that its rules have, and
// teaches the filter the addresses in the answers.
//
// libslirp's own would take an answer from anyone who finds the port of its socket. Here each
// question has a socket that is connected to the host's resolver, and a number of our own making.
// What goes to it is the question alone, whatever else the guest's query had. The answer to a
// question about another name is a refusal: that the name does not exist would be a lie, which
// caches would keep, and none would have the guest wait. A question that was let through would
// tell the world whatever the guest has put into the name.
#ifndef NET_SLIRP_RELAY_H
#define NET_SLIRP_RELAY_H

#include "net/slirp/dns.h"
#include "net/slirp/filter.h"

#include <poll.h>

#define RELAY_QUESTIONS 32u

struct relay_question {
	int fd; /* -1: free */
	int64_t until_ms;
	uint16_t guest_id;
	struct dns_question asked;
	struct frame frame;      /* who has asked; its bytes are `head` */
	uint8_t head[FRAME_ETH]; /* of the query's frame */
};

struct relay {
	struct filter *filter;                                     /* borrowed */
	void (*send)(void *arg, const uint8_t *frame, size_t len); /* to the guest */
	void *arg;
	struct relay_question question[RELAY_QUESTIONS];
};

void relay_init(struct relay *r, struct filter *f,
	void (*send)(void *arg, const uint8_t *frame, size_t len), void *arg);

/* A query that filter_out has given FILTER_DNS for: answered, now or later, or dropped. */
void relay_query(struct relay *r, const struct frame *f, int64_t now_ms);

/* Puts the sockets to be read into fds, which has room for RELAY_QUESTIONS. How many. */
unsigned relay_poll(const struct relay *r, struct pollfd *fds);

/* Reads answers of those that relay_poll gave, as poll has found them, and gives up on old ones. */
void relay_run(struct relay *r, const struct pollfd *fds, unsigned count, int64_t now_ms);

#endif
