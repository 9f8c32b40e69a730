// SPDX-License-Identifier: MIT
// The protocol's frames and messages, encoded and decoded; proto_request.c has the request.
#include "guest/proto.h"

#include "guest/proto_bytes.h"

#include <errno.h>
#include <string.h>

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
