// SPDX-License-Identifier: MIT
// Recognises a Linux kernel's panic in its console output, byte by byte.
#include "hw/panic.h"

#include "base/util.h"

static const char first_phrase[] = "Kernel panic - not syncing";
static const char last_phrase[] = "---[ end Kernel panic";

static bool is_eol(char c)
{
	return c == '\n' || c == '\r';
}

/* True at the end of the phrase. It begins at the start of a line only, so that a mismatch means 0.
 */
static bool match(struct panic *p, const char *phrase, char c)
{
	bool may_begin = p->matched || !p->mid_line;

	p->matched = may_begin && c == phrase[p->matched] ? p->matched + 1 : 0;
	if (phrase[p->matched])
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
		p->mid_line = !is_eol(c) && !(p->last == ']' && c == ' ');
		p->last = c;
	}
	return tell;
}
