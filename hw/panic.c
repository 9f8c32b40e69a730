// SPDX-License-Identifier: MIT
// Recognises a Linux kernel's panic in its console output, byte by byte.
#include "hw/panic.h"

#include "base/util.h"

/*
 * The panicking kernel does not wait for another CPU that is writing to the port: what a program
 * says at that moment comes in between, byte by byte, in bursts of the port's FIFO.
 */
#define FOREIGN_MAX 64 /* bytes within a phrase that are not its own */
#define STAMP_GAP 4    /* bytes from the end of a time stamp to a phrase, with such ones */

static const char first_phrase[] = "Kernel panic - not syncing";
static const char last_phrase[] = "---[ end Kernel panic";

static bool is_eol(char c)
{
	return c == '\n' || c == '\r';
}

/* A phrase begins at the start of a line, or where a time stamp has ended. */
static bool may_begin(const struct panic *p)
{
	return !p->mid_line || (p->since_stamp && p->since_stamp <= STAMP_GAP);
}

/* True at the end of the phrase. What begins anew counts from there. */
static bool match(struct panic *p, const char *phrase, char c)
{
	if (p->matched && c == phrase[p->matched]) {
		p->matched++;
	} else if (c == phrase[0] && may_begin(p)) {
		p->matched = 1;
		p->foreign = 0;
	} else if (++p->foreign > FOREIGN_MAX) {
		p->matched = 0;
	}
	if (!p->matched || phrase[p->matched])
		return false;
	p->matched = 0;
	return true;
}

/* True at the end of the message. */
static bool collect(struct panic *p, char c)
{
	if (is_eol(c) || p->len == PANIC_TEXT_MAX)
		return true;
	if (p->len || (c != ':' && c != ' '))
		p->text[p->len++] = c >= ' ' && c <= '~' ? c : '?';
	return false;
}

/* Whether the stage that `c` belongs to ends with it. */
static bool stage_ends(struct panic *p, char c)
{
	switch (p->stage) {
	case PANIC_NONE:
		return match(p, first_phrase, c);
	case PANIC_TEXT:
		return collect(p, c);
	case PANIC_TOLD:
		return match(p, last_phrase, c);
	case PANIC_LAST:
		return is_eol(c);
	case PANIC_OVER:
		break;
	}
	return false;
}

bool panic_feed(struct panic *p, const char *data, size_t len)
{
	bool tell = false;

	for (size_t i = 0; i < len; i++) {
		char c = data[i];

		if (stage_ends(p, c)) {
			p->stage++;
			p->over = p->stage == PANIC_OVER;
			tell |= p->stage == PANIC_TOLD || p->over;
		}
		p->mid_line = !is_eol(c);
		if (c == ']')
			p->since_stamp = 1;
		else if (p->since_stamp)
			p->since_stamp++;
	}
	return tell;
}
