// SPDX-License-Identifier: MIT
// What a guest is made of when the user does not say: kernel, root, and our own helpers.
#ifndef CLI_KERNEL_H
#define CLI_KERNEL_H

/*
 * Opens the kernel: `given` (--kernel), else $KVICK_KERNEL, else the cached one, else the host's
 * own. *path is what was opened, malloc'd. The descriptor, or -errno with a message.
 */
int kernel_open(const char *given, char **path);

/* Opens the root directory: `given` (--rootfs), else the cached busybox root. As kernel_open. */
int root_open(const char *given, char **path);

/* Opens a helper of ours (in the build folder, libexec/kvick/NAME once installed). */
int helper_open(const char *name);

#endif
