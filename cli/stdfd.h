// SPDX-License-Identifier: MIT
// How this process uses its own stdin, stdout and stderr, whatever they are.
//
// They are shared with other processes, so that O_NONBLOCK must not be set on them: a shell's
// terminal would be left non-blocking, another writer of a log pipe would lose lines. Instead:
// - a pipe or terminal is opened again through /proc/self/fd, which gives a description of our own;
// - where that is not permitted (another user's terminal, no /proc, a pipe whose reader has gone),
//   writes are at most PIPE_BUF bytes and only where poll says there is room, which waits only when
//   another writer takes that room in between;
// - a socket has a flag for each call;
// - a regular file or /dev/null is never waited for.
// A thread for each stream would need none of this, but costs a stack, a hand-over for each piece
// and a second owner of the session's state.
#ifndef CLI_STDFD_H
#define CLI_STDFD_H

#include "base/loop.h"

enum stdfd_kind {
	STDFD_FILE,   /* always ready */
	STDFD_OWN,    /* a description of our own, non-blocking */
	STDFD_SHARED, /* blocks: to be asked first */
	STDFD_SOCKET,
};

/*
 * Finds how `fd` is to be used for O_RDONLY or O_WRONLY. Returns the descriptor to use, which is fd
 * itself unless *kind is STDFD_OWN; -errno.
 */
int stdfd_open(int fd, int mode, enum stdfd_kind *kind);
/*
 * Puts it on the loop, asking for nothing but errors and hang-ups yet. What cannot be waited for
 * becomes STDFD_FILE. 0, or -errno and it is closed.
 */
int stdfd_watch(struct loop *l, struct watch *w, int *fd, enum stdfd_kind *kind);
/* Closes it where it is our own, and sets *fd to -1. */
void stdfd_close(int *fd, enum stdfd_kind kind);

#endif
