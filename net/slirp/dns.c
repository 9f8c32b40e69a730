// SPDX-License-Identifier: MIT
// Messages of DNS. The theory is in dns.h.
#include "net/slirp/dns.h"

#include "base/util.h"
#include "net/slirp/frame.h"

#include <ctype.h>

#define QUESTION_TAIL 4u /* type, class */
#define RECORD_TAIL 10u  /* type, class, time to live, length */
#define ALIASES_MAX 16u
#define RECORDS_MAX 512u

enum { TYPE_A = 1, TYPE_CNAME = 5, TYPE_AAAA = 28, CLASS_IN = 1 };
enum { FLAG_RESPONSE = 0x80, FLAG_DESIRED = 0x01, OPCODE = 0x78, RCODE_REFUSED = 5 };

struct message {
	const uint8_t *bytes;
	size_t len;
};

struct record {
	char owner[DNS_NAME_MAX];
	uint16_t type, class, length;
	uint32_t ttl_s;
	size_t data; /* offset of `length` bytes */
};

static uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* Appends a label; what is no host's name has bytes that no rule's name has. False: too long. */
static bool put_label(char *name, size_t *n, const uint8_t *label, unsigned len)
{
	if (*n + len + 2 > DNS_NAME_MAX)
		return false;
	if (*n)
		name[(*n)++] = '.';
	for (unsigned i = 0; i < len; i++)
		name[(*n)++] = label[i] && label[i] != '.' ? (char)tolower(label[i]) : '?';
	return true;
}

/*
 * The name at `at`; returns the offset after it, 0 where it is broken. Each jump is to before where
 * the last one came from, so it ends (RFC 1035, 4.1.4).
 */
static size_t get_name(const struct message *m, size_t at, char *name)
{
	size_t end = 0, limit = at, n = 0;

	while (at < m->len) {
		uint8_t c = m->bytes[at];

		if (c >= 0xc0) {
			if (at + 2 > m->len)
				return 0;
			end = end ? end : at + 2;
			at = get_be16(m->bytes + at) & 0x3fff;
			if (at >= limit)
				return 0;
			limit = at;
			continue;
		}
		if (c > 63 || at + 1 + c > m->len)
			return 0;
		if (!c) {
			name[n] = '\0';
			return end ? end : at + 1;
		}
		if (!put_label(name, &n, m->bytes + at + 1, c))
			return 0;
		at += 1u + c;
	}
	return 0;
}

static bool get_question(struct dns_question *q, const struct message *m)
{
	size_t at, len;

	if (m->len < DNS_HEADER || get_be16(m->bytes + 4) != 1 || m->bytes[2] & OPCODE)
		return false;
	at = get_name(m, DNS_HEADER, q->name);
	if (!at || !range_ok(at, QUESTION_TAIL, m->len))
		return false;
	/* A name made of the header's bytes would be another one behind another header. */
	len = strlen(q->name);
	if (at - DNS_HEADER != (len ? len + 2 : 1))
		return false;
	q->id = get_be16(m->bytes);
	q->type = get_be16(m->bytes + at);
	q->class = get_be16(m->bytes + at + 2);
	q->end = at + QUESTION_TAIL;
	return true;
}

bool dns_parse_query(struct dns_question *q, const uint8_t *message, size_t len)
{
	const struct message m = {message, len};

	return get_question(q, &m) && !(message[2] & FLAG_RESPONSE);
}

static size_t get_record(struct record *r, const struct message *m, size_t at)
{
	const uint8_t *p;

	at = get_name(m, at, r->owner);
	if (!at || !range_ok(at, RECORD_TAIL, m->len))
		return 0;
	p = m->bytes + at;
	r->type = get_be16(p);
	r->class = get_be16(p + 2);
	r->ttl_s = (uint32_t)get_be16(p + 4) << 16 | get_be16(p + 6);
	r->length = get_be16(p + 8);
	r->data = at + RECORD_TAIL;
	return range_ok(r->data, r->length, m->len) ? r->data + r->length : 0;
}

/* The other name that `name` has, put in its place; aliases may stand in any order. */
static bool follow(const struct message *m, size_t at, char *name)
{
	unsigned count = MIN(get_be16(m->bytes + 6), RECORDS_MAX);
	struct record r;

	while (count-- && (at = get_record(&r, m, at)))
		if (r.type == TYPE_CNAME && r.class == CLASS_IN && !strcmp(r.owner, name))
			return get_name(m, r.data, name) != 0;
	return false;
}

static void put_address(struct dns_answer *a, const struct message *m, const struct record *r)
{
	struct dns_address *to = &a->address[a->count];

	if (a->count == DNS_ADDRESSES_MAX)
		return;
	if (r->type == TYPE_A && r->length == 4)
		to->address = frame_ipv4(m->bytes + r->data);
	else if (r->type == TYPE_AAAA && r->length == 16)
		memcpy(&to->address, m->bytes + r->data, 16);
	else
		return;
	to->ttl_s = r->ttl_s;
	a->count++;
}

static void collect(struct dns_answer *a, const struct message *m, size_t at, const char *name)
{
	unsigned count = MIN(get_be16(m->bytes + 6), RECORDS_MAX);
	struct record r;

	while (count-- && (at = get_record(&r, m, at)))
		if (r.class == CLASS_IN && !strcmp(r.owner, name))
			put_address(a, m, &r);
}

bool dns_parse_answer(
	struct dns_answer *a, const struct dns_question *q, const uint8_t *message, size_t len)
{
	const struct message m = {message, len};
	struct dns_question again;
	char name[DNS_NAME_MAX];
	unsigned aliases = 0;

	a->count = 0;
	if (!get_question(&again, &m) || !(message[2] & FLAG_RESPONSE))
		return false;
	if (again.id != q->id || again.type != q->type || again.class != q->class ||
		strcmp(again.name, q->name) != 0)
		return false;
	memcpy(name, q->name, sizeof(name));
	while (aliases < ALIASES_MAX && follow(&m, again.end, name))
		aliases++;
	collect(a, &m, again.end, name);
	return true;
}

size_t dns_refuse(const struct dns_question *q, uint8_t *message)
{
	message[2] = (uint8_t)(FLAG_RESPONSE | (message[2] & (OPCODE | FLAG_DESIRED)));
	message[3] = RCODE_REFUSED;
	memset(message + 6, 0, DNS_HEADER - 6); /* no records */
	return q->end;
}
