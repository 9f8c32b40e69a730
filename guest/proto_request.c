// SPDX-License-Identifier: MIT
// The request for a command, PROTO_EXEC: fields, encoded, checked and decoded.
#include "guest/proto.h"

#include "guest/proto_bytes.h"

#include <errno.h>
#include <string.h>

#define FIELD_HEADER 8u

static size_t strings_size(char *const *v)
{
	size_t size = 0;

	for (; *v; v++)
		size += FIELD_HEADER + strlen(*v) + 1;
	return size;
}

static size_t string_size(const char *s)
{
	return s ? FIELD_HEADER + strlen(s) + 1 : 0;
}

size_t proto_request_size(const struct proto_request *q)
{
	return strings_size(q->argv) + strings_size(q->envp) + string_size(q->cwd) +
	       string_size(q->hostname) + FIELD_HEADER + 4 +
	       (q->entropy_length ? FIELD_HEADER + q->entropy_length : 0) +
	       q->n_nets * (FIELD_HEADER + PROTO_NET_SIZE);
}

static uint8_t *put_field(uint8_t *p, uint16_t tag, const void *value, size_t length)
{
	put16(p, tag);
	put16(p + 2, 0);
	put32(p + 4, (uint32_t)length);
	memcpy(p + FIELD_HEADER, value, length);
	return p + FIELD_HEADER + length;
}

static uint8_t *put_string(uint8_t *p, uint16_t tag, const char *s)
{
	return s ? put_field(p, tag, s, strlen(s) + 1) : p;
}

enum { /* where things are in a PROTO_FIELD_NET */
	NET_VERSION = 0,
	NET_MTU = 2,
	NET_MAC = 4,
	NET_PREFIX4 = 10,
	NET_PREFIX6 = 11,
	NET_ADDRESS4 = 12,
	NET_GATEWAY4 = 16,
	NET_ADDRESS6 = 20,
	NET_GATEWAY6 = 36,
	NET_RESOLVERS = 52,
};

static uint8_t *put_net(uint8_t *p, const struct proto_net *n)
{
	uint8_t value[PROTO_NET_SIZE];

	put16(value + NET_VERSION, PROTO_NET_VERSION);
	put16(value + NET_MTU, n->mtu);
	memcpy(value + NET_MAC, n->mac, sizeof(n->mac));
	value[NET_PREFIX4] = n->prefix4;
	value[NET_PREFIX6] = n->prefix6;
	memcpy(value + NET_ADDRESS4, n->address4, sizeof(n->address4));
	memcpy(value + NET_GATEWAY4, n->gateway4, sizeof(n->gateway4));
	memcpy(value + NET_ADDRESS6, n->address6, sizeof(n->address6));
	memcpy(value + NET_GATEWAY6, n->gateway6, sizeof(n->gateway6));
	memcpy(value + NET_RESOLVERS, n->resolvers, sizeof(n->resolvers));
	return put_field(p, PROTO_FIELD_NET | PROTO_FIELD_OPTIONAL, value, sizeof(value));
}

static void get_net(const uint8_t *value, struct proto_net *n)
{
	*n = (struct proto_net){.mtu = get16(value + NET_MTU),
		.prefix4 = value[NET_PREFIX4],
		.prefix6 = value[NET_PREFIX6]};
	memcpy(n->mac, value + NET_MAC, sizeof(n->mac));
	memcpy(n->address4, value + NET_ADDRESS4, sizeof(n->address4));
	memcpy(n->gateway4, value + NET_GATEWAY4, sizeof(n->gateway4));
	memcpy(n->address6, value + NET_ADDRESS6, sizeof(n->address6));
	memcpy(n->gateway6, value + NET_GATEWAY6, sizeof(n->gateway6));
	memcpy(n->resolvers, value + NET_RESOLVERS, sizeof(n->resolvers));
}

void proto_request_put(uint8_t *p, const struct proto_request *q)
{
	uint8_t flags[4];

	for (char *const *v = q->argv; *v; v++)
		p = put_string(p, PROTO_FIELD_ARG, *v);
	for (char *const *v = q->envp; *v; v++)
		p = put_string(p, PROTO_FIELD_ENV, *v);
	p = put_string(p, PROTO_FIELD_CWD, q->cwd);
	p = put_string(p, PROTO_FIELD_HOSTNAME, q->hostname);
	put32(flags, q->flags);
	p = put_field(p, PROTO_FIELD_FLAGS, flags, sizeof(flags));
	if (q->entropy_length)
		p = put_field(p, PROTO_FIELD_ENTROPY | PROTO_FIELD_OPTIONAL, q->entropy,
			q->entropy_length);
	for (unsigned int i = 0; i < q->n_nets; i++)
		p = put_net(p, &q->nets[i]);
}

struct field {
	uint16_t tag; /* with PROTO_FIELD_OPTIONAL where that is set */
	uint32_t length;
	size_t value; /* its offset in the request */
};

/* Reads the field at *at and moves *at behind it. False at the end, or where it is cut off. */
static bool next_field(const uint8_t *p, size_t length, size_t *at, struct field *f)
{
	size_t left = length - *at;

	if (left < FIELD_HEADER)
		return false;
	*f = (struct field){
		.tag = get16(p + *at), .length = get32(p + *at + 4), .value = *at + FIELD_HEADER};
	if (f->length > left - FIELD_HEADER)
		return false;
	*at += FIELD_HEADER + f->length;
	return true;
}

static uint16_t field_kind(const struct field *f)
{
	return f->tag & (uint16_t)~PROTO_FIELD_OPTIONAL;
}

static int check_string(const uint8_t *value, size_t length)
{
	const uint8_t *zero = length ? memchr(value, 0, length) : NULL;

	return zero && zero == value + length - 1 ? 0 : -EPROTO;
}

/* Whether the field is an interface's in the layout that we know. */
static bool is_net(const struct field *f, const uint8_t *value)
{
	return field_kind(f) == PROTO_FIELD_NET && f->length >= 2 &&
	       get16(value) == PROTO_NET_VERSION;
}

static int check_net(const struct field *f, const uint8_t *value)
{
	if (f->length < 2)
		return -EPROTO;
	if (!is_net(f, value))
		return 0;
	if (f->length < PROTO_NET_SIZE || value[NET_PREFIX4] > 32 || value[NET_PREFIX6] > 128)
		return -EPROTO;
	return 0;
}

static int check_field(const struct field *f, const uint8_t *value)
{
	switch (field_kind(f)) {
	case PROTO_FIELD_ARG:
	case PROTO_FIELD_ENV:
	case PROTO_FIELD_CWD:
	case PROTO_FIELD_HOSTNAME:
		return check_string(value, f->length);
	case PROTO_FIELD_FLAGS:
		return f->length == 4 ? 0 : -EPROTO;
	case PROTO_FIELD_ENTROPY:
		return 0;
	case PROTO_FIELD_NET:
		return check_net(f, value);
	default:
		return f->tag & PROTO_FIELD_OPTIONAL ? 0 : -ENOTSUP;
	}
}

int proto_request_check(const uint8_t *p, size_t length, size_t *pointers)
{
	struct field f;
	size_t at = 0, arguments = 0, variables = 0, nets = 0;
	int rc;

	while (next_field(p, length, &at, &f)) {
		rc = check_field(&f, p + f.value);
		if (rc)
			return rc;
		arguments += field_kind(&f) == PROTO_FIELD_ARG;
		variables += field_kind(&f) == PROTO_FIELD_ENV;
		nets += is_net(&f, p + f.value);
	}
	if (at != length || !arguments || nets > PROTO_NETS)
		return -EPROTO;
	*pointers = arguments + 1 + variables + 1;
	return 0;
}

/* Collects the strings of one kind of field, and a NULL behind them. Returns where it stopped. */
static char **get_strings(uint8_t *p, size_t length, uint16_t kind, char **out)
{
	struct field f;
	size_t at = 0;

	while (next_field(p, length, &at, &f))
		if (field_kind(&f) == kind)
			*out++ = (char *)p + f.value;
	*out++ = NULL;
	return out;
}

void proto_request_get(uint8_t *p, size_t length, char **pointers, struct proto_request *q)
{
	struct field f;
	size_t at = 0;

	*q = (struct proto_request){.argv = pointers};
	q->envp = get_strings(p, length, PROTO_FIELD_ARG, pointers);
	get_strings(p, length, PROTO_FIELD_ENV, q->envp);
	while (next_field(p, length, &at, &f)) {
		switch (field_kind(&f)) {
		case PROTO_FIELD_CWD:
			q->cwd = (char *)p + f.value;
			break;
		case PROTO_FIELD_HOSTNAME:
			q->hostname = (char *)p + f.value;
			break;
		case PROTO_FIELD_FLAGS:
			q->flags = get32(p + f.value);
			break;
		case PROTO_FIELD_ENTROPY:
			q->entropy = p + f.value;
			q->entropy_length = f.length;
			break;
		case PROTO_FIELD_NET:
			if (is_net(&f, p + f.value))
				get_net(p + f.value, &q->nets[q->n_nets++]);
			break;
		}
	}
}
