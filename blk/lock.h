// SPDX-License-Identifier: MIT
// The locks by which those who use an image know of each other: QEMU's, so that its programs and
// ours keep out of each other's way.
#ifndef BLK_LOCK_H
#define BLK_LOCK_H

#include <stdbool.h>

/*
 * Takes the locks of a reader, who is content with other readers, or of a writer, who wants to be
 * alone. They belong to the open file and end with its last descriptor, or by lock_release. 0, or
 * -EBUSY with a message that names the file and, where it is found, who holds it. A file system
 * without locks is warned about and used all the same.
 */
int lock_image(int fd, bool read_only, const char *name);

/* Now, whoever else still has the open file: a ring gives files back late. */
void lock_release(int fd);

#endif
