// SPDX-License-Identifier: MIT
// A file that is written beside its place and put there when it is whole: whatever ends the program
// before that leaves what was there, and nothing else.
#ifndef CLI_IMAGE_TARGET_H
#define CLI_IMAGE_TARGET_H

#include <stdbool.h>

struct target {
	const char *name; /* borrowed: as the user has it */
	int fd;           /* the file, open for reading and writing */
	int dir;
	char *path;     /* where it is to be, links resolved */
	char *unlinked; /* where the file system has no files without a name: the one it has */
	int old_lock;   /* of what is there: held until it is replaced; 0: none */
	bool replaces;
	bool no_sync; /* set by who has opened it: it need not be durable */
};

/* `replace`: what is there may go, unless it is in use or is no file. 0 or -errno with a message.
 */
int target_open(struct target *t, const char *name, bool replace);

/* Makes it durable, if it is to be, and puts it in its place. 0 or -errno with a message. */
int target_finish(struct target *t);

/* Gives all back; the file is gone unless it was finished. Fine on one that is all zeroes. */
void target_close(struct target *t);

#endif
