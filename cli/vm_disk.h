// SPDX-License-Identifier: MIT
// A running VM's disk, for commands that do something to its image.
#ifndef CLI_VM_DISK_H
#define CLI_VM_DISK_H

#include <jansson.h>
#include <stdint.h>
#include <sys/stat.h>

/* As the VM's status has it; the texts are the status's. */
struct vm_disk {
	json_t *status; /* the caller's to let go of, also on failure */
	const char *path, *format, *overlay, *cache;
	uint64_t size; /* bytes */
	int pid;       /* the VM's */
};

/* 0, or -errno with a message that names the VM. */
int vm_disk_find(struct vm_disk *out, const char *vm, const char *id);

/* Where the VM's own name for the image leads to, from the folder that it was started in.
 * Malloc'd; NULL with a message: also where it is another file by now, which is nobody's to touch.
 */
char *vm_disk_path(const struct vm_disk *d);

/* Whether the VM has that file open. 0, or -errno with a message. */
int vm_disk_check(const struct vm_disk *d, const struct stat *st);

#endif
