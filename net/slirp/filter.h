// SPDX-License-Identifier: MIT
// The filter of a guest in user mode: each frame is judged before libslirp has it.
//
// libslirp connects to wherever a guest's packet goes and has no hook to ask first, so what it is
// not given it cannot do. Of TCP only the segment that opens a connection is judged: libslirp opens
// none by any other, and answers what belongs to none with a reset. Datagrams are judged one by
// one, and answered ones are remembered for a while: the replies to whoever has asked a published
// port, and in a guest with rules what may come in.
//
// In whatever mode a guest does not reach the host's loopback unless it was said, by 10.0.2.2 or by
// any other address that a socket of the host would take for it; nor link-local addresses, where
// clouds keep credentials, unless a rule names them; nor multicast, which a gateway does not pass.
#ifndef NET_SLIRP_FILTER_H
#define NET_SLIRP_FILTER_H

#include "net/slirp/frame.h"
#include "net/slirp/policy.h"
#include "net/slirp/slirp.h"

#define FILTER_FLOWS 1024u   /* a power of two */
#define FILTER_LEARNED 1024u /* addresses of names */

enum filter_verdict {
	FILTER_PASS,
	FILTER_DROP,
	FILTER_REFUSE, /* TCP: answered with a reset */
	FILTER_DNS,    /* a question for the resolver, which is asked for the guest by us */
};

/* Two ends that exchange datagrams. */
struct filter_flow {
	struct in6_addr guest, peer;
	uint16_t guest_port, peer_port;
	int64_t until_ms; /* 0: free */
};

struct filter_learned {
	struct in6_addr address;
	unsigned rule; /* the first that has the name */
	int64_t until_ms;
};

struct filter {
	const struct policy *policy; /* borrowed */
	uint64_t *counts;            /* borrowed; SLIRP_COUNTS of them */
	struct filter_flow flow[FILTER_FLOWS];
	struct filter_learned learned[FILTER_LEARNED];
};

void filter_init(struct filter *f, const struct policy *p, uint64_t *counts);

/* A frame from the guest, as frame_parse has left it. Counts what does not pass. `now_ms` is of any
 * clock that does not go back. */
enum filter_verdict filter_out(struct filter *f, const struct frame *frame, int64_t now_ms);

/* A frame for the guest: whether it may come in. */
bool filter_in(struct filter *f, const struct frame *frame, int64_t now_ms);

/* The host called `name`, in lower case, has this address for `ttl_s`; no-op where no rule knows
 * it. */
void filter_learn(struct filter *f, const char *name, const struct in6_addr *address,
	uint32_t ttl_s, int64_t now_ms);

#endif
