// SPDX-License-Identifier: MIT
// An initramfs made from a directory and a few files more, packed straight into guest memory.
//
// Adding a tree walks it and keeps the archive's headers, some 150 bytes a file; filling copies
// them and reads the files into place. In between a file may change: it is cut or padded with
// zeroes to the size seen first, so that the archive is sound whatever happens. What an archive of
// this kind (cpio, "newc") cannot hold is extended attributes and ACLs, which are left out (so file
// capabilities are lost), and files of 4 GiB and more, which are refused by name. Owners, modes,
// hard links, symbolic links, device nodes and modification times are kept. Sockets, and what is in
// /proc and /sys of the tree, are left out.
#ifndef LOADER_INITRAMFS_H
#define LOADER_INITRAMFS_H

#include "loader/loader.h"

#include <sys/types.h>

struct initramfs;

/* 0 or -ENOMEM. */
int initramfs_create(struct initramfs **out);

/* NULL is fine. Descriptors that were added stay open: they are the caller's. */
void initramfs_destroy(struct initramfs *a);

/*
 * Adds all that is in the directory `dirfd`, sorted by name, links not followed, other filesystems
 * mounted in it included. At most one tree. `dirfd` and `name` (for messages) are borrowed until
 * initramfs_destroy. 0 or -errno with a message that names what could not be added.
 */
int initramfs_add_tree(struct initramfs *a, int dirfd, const char *name);

/*
 * Further entries, which come after the tree and so win over it. `path` is relative to the root
 * (".kvick/init") and is copied; directories above it must be in the tree or have been added.
 * `mode` is the permission bits. Owner root, time 0. 0 or -errno with a message.
 */
int initramfs_add_dir(struct initramfs *a, const char *path, mode_t mode);
int initramfs_add_data(struct initramfs *a, const char *path, mode_t mode, const void *data,
	uint64_t size); /* `data` is borrowed until initramfs_destroy */
int initramfs_add_fd(struct initramfs *a, const char *path, mode_t mode,
	int fd); /* a regular file, borrowed until initramfs_destroy */
int initramfs_add_node(struct initramfs *a, const char *path, mode_t mode,
	dev_t dev); /* `mode` with S_IFCHR or S_IFBLK */

/* How many entries there are: files, directories, links. */
size_t initramfs_entries(const struct initramfs *a);

/* Ends the archive; nothing can be added after. `out` borrows `a` and may be filled any number of
 * times. */
int initramfs_finish(struct initramfs *a, struct loader_initrd *out);

#endif
