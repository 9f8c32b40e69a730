// SPDX-License-Identifier: MIT
// How far it is, on a terminal.
#ifndef CLI_IMAGE_PROGRESS_H
#define CLI_IMAGE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	uint64_t size; /* of all, bytes */
	uint64_t next_ns;
	bool shown;
};

/* Shows something only where stderr is a terminal, and `on`. */
void progress_start(struct progress *p, uint64_t size, bool on);

/* All before `at` is done. Ten times a second at most. */
void progress_at(struct progress *p, uint64_t at);

/* Wipes it off. */
void progress_end(struct progress *p);

#endif
