// SPDX-License-Identifier: MIT
// Messages of DNS (RFC 1035, 4): the question in one, and the addresses that answer it.
//
// Both come from outside: a query from a guest, an answer from whoever the resolver asked. Nothing
// is read past the end, a compressed name only ever points further to the front, and what is
// followed or reported has a bound.
#ifndef NET_SLIRP_DNS_H
#define NET_SLIRP_DNS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_HEADER 12u
#define DNS_NAME_MAX 254u /* as text, dots between labels, and its end */
#define DNS_ADDRESSES_MAX 64u

struct dns_question {
	char name[DNS_NAME_MAX]; /* in lower case; "": the root, or not a host's name */
	uint16_t id, type, class;
	size_t end; /* offset of what follows the question */
};

struct dns_address {
	struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
	uint32_t ttl_s;
};

struct dns_answer {
	struct dns_address address[DNS_ADDRESSES_MAX];
	unsigned count; /* what would be more is left out */
};

/* The one question of a query. False where it is no query, or not of one question. */
bool dns_parse_query(struct dns_question *q, const uint8_t *message, size_t len);

/* Whether the message answers that question, and the addresses that it gives for it, by however
 * many other names. An answer that is broken half-way has those up to there. */
bool dns_parse_answer(
	struct dns_answer *a, const struct dns_question *q, const uint8_t *message, size_t len);

/* Makes a refusal (RFC 1035, 4.1.1) of the query at `message`, in its place. Its length. */
size_t dns_refuse(const struct dns_question *q, uint8_t *message);

#endif
