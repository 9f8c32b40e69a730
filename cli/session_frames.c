// SPDX-License-Identifier: MIT
// The frames a guest's init sends in a session: which may come when, and what each does.
#include "base/log.h"
#include "cli/session_state.h"

#include <errno.h>
#include <stdio.h>

#define MAX_TROUBLES 16 /* of the guest's, that are passed on */

/* The output that a frame is about; NULL where it is about stdin. */
static struct session_output *output_of(struct session *s, const struct proto_frame *f)
{
	return f->stream == PROTO_STDIN ? NULL : &s->outputs[f->stream - PROTO_STDOUT];
}

static const char *stream_name(const struct proto_frame *f)
{
	static const char *const names[] = {"stdin", "stdout", "stderr"};

	return names[f->stream];
}

static int broken(const struct proto_frame *f)
{
	return fail(EPROTO, "guest's init sent a broken %s frame of %u bytes for %s",
		proto_type_name(f->type), f->length, stream_name(f));
}

/* A guest's text is not to move our terminal's cursor. */
static void copy_text(char *to, size_t size, const struct proto_error *e)
{
	size_t n = MIN(e->length, size - 1);

	for (size_t i = 0; i < n; i++)
		to[i] = e->text[i] >= ' ' && e->text[i] <= '~' ? e->text[i] : '?';
	to[n] = 0;
}

static int take_hello(struct session *s, const struct proto_frame *f)
{
	struct proto_hello h;

	if (proto_get_hello(f, &h))
		return broken(f);
	if (h.version != PROTO_VERSION)
		return fail(EPROTO,
			"guest's init speaks version %u of the protocol, this program %u; use "
			"the init that came with it",
			h.version, PROTO_VERSION);
	memcpy(s->times.stage_ns, h.stage_ns, sizeof(h.stage_ns));
	s->state = STARTING;
	return 0;
}

static int take_trouble(struct session *s, const struct proto_frame *f)
{
	struct proto_error e;
	char text[128];

	if (proto_get_error(f, &e))
		return broken(f);
	if (s->troubles++ >= MAX_TROUBLES)
		return 0;
	copy_text(text, sizeof(text), &e);
	log_warn("guest's init: %s: %s", text, strerror(e.error));
	return 0;
}

static int take_started(struct session *s, const struct proto_frame *f)
{
	struct proto_started started;

	if (proto_get_started(f, &started))
		return broken(f);
	s->times.started_ns = started.at_ns;
	s->state = RUNNING;
	if (s->o.run_timeout_ns)
		loop_arm(s->o.loop, &s->timer, s->o.run_timeout_ns);
	else
		loop_disarm(s->o.loop, &s->timer);
	if (s->o.started)
		s->o.started(s->o.arg, &s->times);
	return 0;
}

static int take_failure(struct session *s, const struct proto_frame *f)
{
	struct session_result *r = &s->result;
	struct proto_error e;
	char name[200];

	if (proto_get_error(f, &e))
		return broken(f);
	copy_text(name, sizeof(name), &e);
	r->status = e.error == ENOENT || e.error == ENOTDIR ? 127 : 126;
	if (e.step == PROTO_STEP_COMMAND && e.error == ENOENT) {
		snprintf(r->text, sizeof(r->text), "command %s: not found in the guest", name);
	} else if (e.step == PROTO_STEP_COMMAND) {
		snprintf(r->text, sizeof(r->text), "command %s: %s", name, strerror(e.error));
	} else if (e.step == PROTO_STEP_INTERPRETER) {
		snprintf(r->text, sizeof(r->text),
			"command %s: its interpreter or dynamic loader is not in the guest", name);
	} else {
		r->status = 125;
		snprintf(r->text, sizeof(r->text), "%s %s: %s",
			e.step == PROTO_STEP_CWD ? "working directory" : "guest cannot start", name,
			strerror(e.error));
	}
	s->state = DRAINING;
	return 0;
}

static int take_exit(struct session *s, const struct proto_frame *f)
{
	struct proto_exit *e = &s->result.exit;

	if (proto_get_exit(f, e))
		return broken(f);
	if (e->code > 255 || e->signal > 64)
		return fail(EPROTO, "guest's init sent an impossible end: status %u, signal %u",
			e->code, e->signal);
	for (int i = 0; i < 2; i++)
		if (!s->outputs[i].eof && !s->outputs[i].closed)
			return fail(EPROTO,
				"guest's init reported the command's end before that of its %s",
				s->outputs[i].name);
	s->result.status = (int)(e->signal ? 128 + e->signal : e->code);
	s->result.exited = true;
	s->state = DRAINING;
	return 0;
}

void session_close_output(struct session_output *o, int error)
{
	if (error != -EPIPE)
		log_error("%s: %s", o->name, strerror(-error));
	o->closed = true;
	o->close_due = !o->eof;
}

static int take_data(struct session *s, const struct proto_frame *f)
{
	struct session_output *o = output_of(s, f);
	int rc;

	if (!o || o->eof)
		return broken(f);
	if (f->length > o->window)
		return fail(EPROTO, "guest's init sent %u bytes of %s where %u were allowed",
			f->length, stream_name(f), o->window);
	o->window -= f->length;
	rc = o->closed ? 0 : sink_write(&o->sink, f->payload, f->length);
	if (rc)
		session_close_output(o, rc);
	return 0;
}

static int take_eof(struct session *s, const struct proto_frame *f)
{
	struct session_output *o = output_of(s, f);

	if (!o || o->eof)
		return broken(f);
	o->eof = true;
	o->close_due = false;
	return 0;
}

/* The command reads its stdin no further. */
static int take_close(struct session *s, const struct proto_frame *f)
{
	if (f->stream != PROTO_STDIN)
		return broken(f);
	source_close(&s->input);
	s->eof_due = false;
	return 0;
}

static int take_credit(struct session *s, const struct proto_frame *f)
{
	uint32_t credit;

	if (f->stream != PROTO_STDIN || proto_get_u32(f, &credit))
		return broken(f);
	if (credit > PROTO_CREDIT_MAX - s->credit)
		return fail(EPROTO, "guest's init gave %u bytes of credit for stdin beyond %u",
			credit, s->credit);
	s->credit += credit;
	return 0;
}

static const struct {
	unsigned int states; /* in which the frame may come */
	int (*take)(struct session *s, const struct proto_frame *f);
} handlers[] = {
	[PROTO_HELLO] = {GREETING, take_hello},
	[PROTO_ERROR] = {STARTING | RUNNING, take_trouble},
	[PROTO_STARTED] = {STARTING, take_started},
	[PROTO_SPAWN_FAILED] = {STARTING, take_failure},
	[PROTO_EXIT] = {RUNNING, take_exit},
	[PROTO_DATA] = {RUNNING, take_data},
	[PROTO_EOF] = {RUNNING, take_eof},
	[PROTO_CLOSE] = {RUNNING, take_close},
	[PROTO_CREDIT] = {RUNNING, take_credit},
};

static int take_frame(struct session *s, const struct proto_frame *f)
{
	if (f->type >= ARRAY_SIZE(handlers) || !handlers[f->type].take) {
		if (f->flags & PROTO_OPTIONAL)
			return 0;
		return fail(EPROTO, "guest's init sent a frame of unknown type %u", f->type);
	}
	if (!(handlers[f->type].states & s->state))
		return fail(EPROTO, "guest's init sent %s %s", proto_type_name(f->type),
			s->state == GREETING   ? "before its HELLO"
			: s->state == STARTING ? "before the command was started"
					       : "out of turn");
	return handlers[f->type].take(s, f);
}

int session_take_frames(struct session *s)
{
	struct proto_frame f = {0};
	int rc = 0;

	while (s->state < DRAINING && (rc = proto_reader_next(&s->reader, &f)) > 0) {
		rc = take_frame(s, &f);
		if (rc)
			return rc;
	}
	if (rc == -EMSGSIZE)
		return fail(EPROTO,
			"guest's init sent a frame of %u bytes, type %u; %u are allowed", f.length,
			f.type, PROTO_PAYLOAD_MAX);
	if (rc < 0)
		return fail(EPROTO, "guest's init sent a frame for stream %u, which does not exist",
			f.stream);
	return 0;
}
