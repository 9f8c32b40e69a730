// SPDX-License-Identifier: MIT
// Where a stream's bytes come from: this process's stdin.
#ifndef CLI_SOURCE_H
#define CLI_SOURCE_H

#include "cli/stdfd.h"

#include <stdbool.h>
#include <sys/types.h>

struct source {
	struct loop *loop;
	struct watch watch;
	int fd; /* -1 when closed */
	enum stdfd_kind kind;
	bool wanted;
	void (*ready)(void *arg); /* from the loop: a read will not wait */
	void *arg;
};

/* Sets s up for descriptor `fd`, which stays the caller's; loop, ready and arg are set. */
int source_open(struct source *s, int fd);
/* True of a file: it is always ready, and `ready` is never called. */
bool source_is_file(const struct source *s);
/* Asks the loop to call `ready`, or no longer to. */
void source_want(struct source *s, bool wanted);
/* As read, with -errno; -EAGAIN: nothing now. */
ssize_t source_read(struct source *s, void *buffer, size_t length);
void source_close(struct source *s);

#endif
