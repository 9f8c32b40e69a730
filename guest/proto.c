// SPDX-License-Identifier: MIT
// The protocol's frames and messages, encoded and decoded.
#include "guest/proto.h"

#include <errno.h>
#include <string.h>

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)v);
	put16(p + 2, (uint16_t)(v >> 16));
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

void proto_reader_init(struct proto_reader *r, uint8_t *buffer, size_t size)
{
	*r = (struct proto_reader){.buffer = buffer, .size = size};
}

uint8_t *proto_reader_space(struct proto_reader *r, size_t *room)
{
	if (r->start == r->end) {
		r->start = r->end = 0;
	} else if (r->start && r->size - r->start < PROTO_FRAME_MAX) {
		/* The frame begun here may not fit behind what was consumed. */
		memmove(r->buffer, r->buffer + r->start, r->end - r->start);
		r->end -= r->start;
		r->start = 0;
	}
	*room = r->size - r->end;
	return r->buffer + r->end;
}

void proto_reader_filled(struct proto_reader *r, size_t length)
{
	r->end += length;
}

int proto_reader_next(struct proto_reader *r, struct proto_frame *f)
{
	const uint8_t *p = r->buffer + r->start;
	size_t have = r->end - r->start;

	if (have < PROTO_HEADER)
		return 0;
	*f = (struct proto_frame){.length = get32(p),
		.type = get16(p + 4),
		.stream = p[6],
		.flags = p[7],
		.payload = p + PROTO_HEADER};
	if (f->length > PROTO_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (f->stream >= PROTO_STREAMS)
		return -EPROTO;
	if (have - PROTO_HEADER < f->length)
		return 0;
	r->start += PROTO_HEADER + f->length;
	return 1;
}

size_t proto_reader_partial(const struct proto_reader *r)
{
	return r->end - r->start;
}

void proto_writer_init(struct proto_writer *w, uint8_t *buffer, size_t size)
{
	*w = (struct proto_writer){.buffer = buffer, .size = size};
}

int proto_writer_room(const struct proto_writer *w)
{
	size_t room = w->size - w->end;

	if (room < PROTO_HEADER)
		return -1;
	room -= PROTO_HEADER;
	return room < PROTO_PAYLOAD_MAX ? (int)room : (int)PROTO_PAYLOAD_MAX;
}

uint8_t *proto_writer_payload(struct proto_writer *w)
{
	return w->buffer + w->end + PROTO_HEADER;
}

void proto_writer_commit(struct proto_writer *w, const struct proto_frame *h)
{
	uint8_t *p = w->buffer + w->end;

	put32(p, h->length);
	put16(p + 4, h->type);
	p[6] = h->stream;
	p[7] = h->flags;
	w->end += PROTO_HEADER + h->length;
}

bool proto_writer_put(struct proto_writer *w, const struct proto_frame *f)
{
	if (proto_writer_room(w) < (int)f->length)
		return false;
	if (f->length)
		memcpy(proto_writer_payload(w), f->payload, f->length);
	proto_writer_commit(w, f);
	return true;
}

const uint8_t *proto_writer_pending(const struct proto_writer *w, size_t *length)
{
	*length = w->end - w->start;
	return w->buffer + w->start;
}

void proto_writer_sent(struct proto_writer *w, size_t length)
{
	w->start += length;
	if (w->start == w->end)
		w->start = w->end = 0;
}

void proto_put_u32(uint8_t *p, uint32_t value)
{
	put32(p, value);
}

int proto_get_u32(const struct proto_frame *f, uint32_t *value)
{
	if (f->length < PROTO_U32_SIZE)
		return -EPROTO;
	*value = get32(f->payload);
	return 0;
}

size_t proto_put_hello(uint8_t *p, const struct proto_hello *h)
{
	put32(p, h->version);
	put32(p + 4, PROTO_STAGES);
	for (int i = 0; i < PROTO_STAGES; i++)
		put64(p + 8 + 8 * i, h->stage_ns[i]);
	return PROTO_HELLO_SIZE;
}

int proto_get_hello(const struct proto_frame *f, struct proto_hello *h)
{
	uint32_t stages;

	if (f->length < 8)
		return -EPROTO;
	stages = get32(f->payload + 4);
	if (stages > (f->length - 8) / 8)
		return -EPROTO;
	*h = (struct proto_hello){.version = get32(f->payload)};
	for (uint32_t i = 0; i < stages && i < PROTO_STAGES; i++)
		h->stage_ns[i] = get64(f->payload + 8 + 8 * i);
	return 0;
}

size_t proto_put_started(uint8_t *p, const struct proto_started *s)
{
	put32(p, s->pid);
	put32(p + 4, 0);
	put64(p + 8, s->at_ns);
	return PROTO_STARTED_SIZE;
}

int proto_get_started(const struct proto_frame *f, struct proto_started *s)
{
	if (f->length < PROTO_STARTED_SIZE)
		return -EPROTO;
	*s = (struct proto_started){.pid = get32(f->payload), .at_ns = get64(f->payload + 8)};
	return 0;
}

size_t proto_put_error(uint8_t *p, const struct proto_error *e)
{
	size_t length = e->length < PROTO_TEXT_MAX ? e->length : PROTO_TEXT_MAX;

	put16(p, e->error);
	put16(p + 2, e->step);
	if (length)
		memcpy(p + 4, e->text, length);
	return 4 + length;
}

int proto_get_error(const struct proto_frame *f, struct proto_error *e)
{
	if (f->length < 4)
		return -EPROTO;
	*e = (struct proto_error){.error = get16(f->payload),
		.step = get16(f->payload + 2),
		.text = (const char *)f->payload + 4,
		.length = f->length - 4};
	if (e->length > PROTO_TEXT_MAX)
		e->length = PROTO_TEXT_MAX;
	return 0;
}

size_t proto_put_exit(uint8_t *p, const struct proto_exit *e)
{
	put32(p, e->code);
	put32(p + 4, e->signal);
	put64(p + 8, e->user_us);
	put64(p + 16, e->system_us);
	put64(p + 24, e->maxrss_kib);
	put64(p + 32, e->at_ns);
	return PROTO_EXIT_SIZE;
}

int proto_get_exit(const struct proto_frame *f, struct proto_exit *e)
{
	const uint8_t *p = f->payload;

	if (f->length < PROTO_EXIT_SIZE)
		return -EPROTO;
	*e = (struct proto_exit){.code = get32(p),
		.signal = get32(p + 4),
		.user_us = get64(p + 8),
		.system_us = get64(p + 16),
		.maxrss_kib = get64(p + 24),
		.at_ns = get64(p + 32)};
	return 0;
}

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

const char *proto_type_name(unsigned int type)
{
	static const char *const names[] = {
		[PROTO_HELLO] = "HELLO",
		[PROTO_ERROR] = "ERROR",
		[PROTO_EXEC] = "EXEC",
		[PROTO_STARTED] = "STARTED",
		[PROTO_SPAWN_FAILED] = "SPAWN_FAILED",
		[PROTO_SIGNAL] = "SIGNAL",
		[PROTO_EXIT] = "EXIT",
		[PROTO_DATA] = "DATA",
		[PROTO_EOF] = "EOF",
		[PROTO_CLOSE] = "CLOSE",
		[PROTO_CREDIT] = "CREDIT",
	};

	return type < sizeof(names) / sizeof(names[0]) ? names[type] : NULL;
}
