// SPDX-License-Identifier: MIT
// One line that is written over and over.
#include "cli/image/progress.h"

#include "base/loop.h"
#include "base/util.h"

#include <stdio.h>
#include <unistd.h>

#define WIDTH 40u

void progress_start(struct progress *p, uint64_t size, bool on)
{
	*p = (struct progress){.size = size, .shown = on && size && isatty(STDERR_FILENO)};
}

void progress_at(struct progress *p, uint64_t at)
{
	static const char bar[] = "########################################";
	unsigned done;
	uint64_t now;

	if (!p->shown)
		return;
	now = now_ns();
	if (now < p->next_ns)
		return;
	p->next_ns = now + NSEC_PER_SEC / 10;
	done = (unsigned)(at / (p->size / 1000 + 1));
	fprintf(stderr, "\r[%-*.*s] %3u%%", WIDTH, (int)(done * WIDTH / 1000), bar, done / 10);
}

void progress_end(struct progress *p)
{
	if (p->shown && p->next_ns)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
