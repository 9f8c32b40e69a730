// SPDX-License-Identifier: MIT
// Messages of DNS of random bytes, as a query and as the answer to one, and the words of publish=
// and allow=: nothing is read past the end, and it ends.
#include "base/log.h"
#include "base/util.h"
#include "net/slirp/dns.h"
#include "net/slirp/policy.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t query[] = {
	0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 2, 'b', 'c', 0, 0, 1, 0, 1};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_query(uint8_t *message, size_t len)
{
	struct dns_question q;
	uint8_t refused[512];

	if (!dns_parse_query(&q, message, len))
		return;
	check(strlen(q.name) < DNS_NAME_MAX && q.end <= len && q.end <= sizeof(refused));
	memcpy(refused, message, q.end);
	check(dns_refuse(&q, refused) == q.end);
	check(!dns_parse_query(&q, refused, q.end));
}

static void check_answer(const uint8_t *message, size_t len)
{
	struct dns_question q;
	struct dns_answer a;

	check(dns_parse_query(&q, query, sizeof(query)));
	if (dns_parse_answer(&a, &q, message, len))
		check(a.count <= DNS_ADDRESSES_MAX);
}

/* What is taken is whole. */
static void check_words(const uint8_t *data, size_t size)
{
	static struct policy p;
	char text[512];

	size = MIN(size, sizeof(text) - 1);
	memcpy(text, data, size);
	text[size] = '\0';
	p.rules = p.published = 0;
	if (policy_allow(&p, text) == 0)
		check(p.rules == 1 && p.rule[0].bits <= 128 &&
			(!*p.rule[0].name || policy_knows_name(&p, p.rule[0].name)));
	if (policy_publish(&p, text) == 0)
		check(p.published == 1 && p.publish[0].guest_port && p.publish[0].host.v4.sin_port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *message;
	size_t len;

	if (size < 1)
		return 0;
	log_set_level(LOG_LEVEL_ERROR);
	if (data[0] & 4)
		check_words(data + 1, size - 1);
	len = size - 1 + (data[0] & 1 ? sizeof(query) : 0);
	message = malloc(len ? len : 1);
	check(message);
	memcpy(message + len - (size - 1), data + 1, size - 1);
	if (data[0] & 1) {
		memcpy(message, query, sizeof(query));
		message[2] |= 0x80;
		message[7] = (uint8_t)(data[0] >> 4);
	}
	check_query(message, len);
	check_answer(message, len);
	free(message);
	return 0;
}
