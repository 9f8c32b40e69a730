// SPDX-License-Identifier: MIT
// Where a stream's bytes go: this process's stdout or stderr.
#ifndef CLI_SINK_H
#define CLI_SINK_H

#include "cli/stdfd.h"
#include "guest/ring.h"

#include <stdbool.h>

/* Takes up to `limit` bytes that cannot be written yet. */
struct sink {
	struct loop *loop;
	struct watch watch;
	int fd; /* -1 when closed */
	enum stdfd_kind kind;
	bool waiting; /* the loop is asked to say when there is room */
	struct ring ring;
	size_t limit;
	uint32_t written; /* bytes written; the owner sets it back to 0 as it accounts for them */
	/* From the loop: bytes of the ring were written (error 0), or the sink has broken (-errno).
	 */
	void (*changed)(void *arg, int error);
	void *arg;
};

/* Sets s up for descriptor `fd`, which stays the caller's; loop, limit, changed and arg are set. */
int sink_open(struct sink *s, int fd);
/*
 * Writes, or keeps for later, what the sink has room for in its limit; more is the caller's
 * mistake. 0, or -errno when the sink has broken and is closed: -EPIPE when its reader has gone.
 */
int sink_write(struct sink *s, const uint8_t *bytes, size_t length);
/* Nothing is left to be written. */
bool sink_idle(const struct sink *s);
/* Drops what was kept. Nothing happens on one that is closed or was never opened (fd -1). */
void sink_close(struct sink *s);

#endif
