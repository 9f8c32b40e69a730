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
	       (q->entropy_length ? FIELD_HEADER + q->entropy_length : 0);
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
		put_field(p, PROTO_FIELD_ENTROPY | PROTO_FIELD_OPTIONAL, q->entropy,
			q->entropy_length);
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
	default:
		return f->tag & PROTO_FIELD_OPTIONAL ? 0 : -ENOTSUP;
	}
}

int proto_request_check(const uint8_t *p, size_t length, size_t *pointers)
{
	struct field f;
	size_t at = 0, arguments = 0, variables = 0;
	int rc;

	while (next_field(p, length, &at, &f)) {
		rc = check_field(&f, p + f.value);
		if (rc)
			return rc;
		arguments += field_kind(&f) == PROTO_FIELD_ARG;
		variables += field_kind(&f) == PROTO_FIELD_ENV;
	}
	if (at != length || !arguments)
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
		}
	}
}
