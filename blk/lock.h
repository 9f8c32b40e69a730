// SPDX-License-Identifier: MIT
// The locks by which those who use an image know of each other: QEMU's, so that its programs and
// ours keep out of each other's way.
#ifndef BLK_LOCK_H
#define BLK_LOCK_H

#include <stdbool.h>

/*
 * Takes the locks of a reader, who is content with other readers, or of a writer, who wants to be
 * alone. Returns a descriptor that holds them, above 2, for lock_release; or -EBUSY with a message
 * that names the file and, where it is found, who has it. Ends with the process at the latest. A
 * file system without locks is warned about and used all the same. Opens files of /proc: not for
 * behind a jail.
 */
int lock_image(int fd, bool read_only, const char *name);

/*
 * Makes a reader's locks a writer's, and the other way round. 0, -EBUSY with a message where
 * another uses the image, or -errno: then they are a reader's.
 */
int lock_raise(int lock_fd, const char *name);
void lock_lower(int lock_fd);

/* Gives up the locks and the descriptor; 0 or less is none. */
void lock_release(int lock_fd);

#endif
