// SPDX-License-Identifier: MIT
// A running VM is a directory: where it is found, how it is known to be alive, how it goes away.
//
// BASE/NAME/ holds `lock`, `control` (the socket that verbs are sent to), `config.json`, `vsock`
// (where host programs connect to the guest) and the sockets vsock_PORT that guests connect to.
// BASE is $KVICK_RUNTIME_DIR, else /run/kvick for root, else $XDG_RUNTIME_DIR/kvick, else
// /tmp/kvick-UID; it belongs to the user and to no one else.
//
// The VM lives as long as someone holds an open-file-description lock on the first byte of `lock`:
// the kernel drops it however the process ends, and no process number can be mistaken for another.
// Who makes a VM holds it before anything else is in the directory, and looks afterwards whether
// the file is still linked. Who finds a directory whose lock is free removes everything, `lock`
// last, then the directory. Both do so one after the other, with a lock on the second byte, so that
// no one who is only sweeping looks like a VM that lives. A directory without `lock` is either
// being made or all but gone, so it may be removed only when empty, which is what rmdir does; its
// maker then starts over. So any number of makers and sweepers may run at once, and a process
// killed at any point leaves what the next one clears away.
#ifndef VMM_RUNDIR_H
#define VMM_RUNDIR_H

#include <stdbool.h>
#include <stddef.h>

#define RUNDIR_NAME_MAX 63

struct rundir {
	char name[RUNDIR_NAME_MAX + 1];
	int base; /* the directory above */
	int fd;   /* the directory itself, open for reading */
	int lock; /* holds the lock; -1 when only looked at */
};

#define RUNDIR_NONE ((struct rundir){.base = -1, .fd = -1, .lock = -1})

/* 1 to 63 letters, digits, '.', '_' or '-', of which the first is a letter or digit. */
bool rundir_name_ok(const char *name);

/* Makes the directory and takes the lock; `name` NULL: makes up a name. -EEXIST: such a VM runs. */
int rundir_create(struct rundir *d, const char *name);

/* Removes it with all that is in it, and closes. Fine on RUNDIR_NONE. */
void rundir_remove(struct rundir *d);

/* Finds the running VM of that name. -ENOENT, with a message, when there is none. */
int rundir_open(struct rundir *d, const char *name);

/* Closes what rundir_open gave, leaving the VM alone. */
void rundir_close(struct rundir *d);

/* Calls `each` for every running VM, by name; what it returns other than 0 ends it and is returned.
 */
int rundir_list(int (*each)(void *arg, const struct rundir *d), void *arg);

/* A listening UNIX stream socket of that file name in it, non-blocking. The descriptor or -errno.
 */
int rundir_listen(const struct rundir *d, const char *file);

/* Connects to such a socket, for blocking use. The descriptor or -errno; -ETIMEDOUT where it is
 * full of others who wait. */
int rundir_connect(const struct rundir *d, const char *file);

/* Makes the file with that content, for the owner only. 0 or -errno. */
int rundir_write(const struct rundir *d, const char *file, const void *data, size_t len);

#endif
