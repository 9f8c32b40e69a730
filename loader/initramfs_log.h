// SPDX-License-Identifier: MIT
// Private to loader/initramfs*.c: the entries of an archive that is being made.
#ifndef LOADER_INITRAMFS_LOG_H
#define LOADER_INITRAMFS_LOG_H

#include <stddef.h>
#include <stdint.h>

struct cpio_entry;

enum item_kind {
	ITEM_BARE, /* no data but what is in the header: a directory, a node, a link */
	ITEM_TREE, /* a file of the tree, by its name */
	ITEM_FD,
	ITEM_DATA,
};

struct item {
	uint64_t size;   /* of the data that follows the header, without padding */
	uint32_t header; /* bytes, padding included */
	enum item_kind kind;
	union {
		int fd;
		const void *data;
	};
	char bytes[]; /* the header; the name is at CPIO_HEADER, with its NUL */
};

struct initramfs {
	char *log;
	size_t len, cap;
	uint64_t size; /* of the archive */
	size_t entries;
	uint32_t last_ino;
	int tree_fd; /* borrowed; -1: none */
	const char *tree_name;
};

/* Appends an entry of e->size bytes of data; of a symbolic link, they are `link`. `what` gives the
 * source. */
int initramfs_append(
	struct initramfs *a, const struct item *what, const struct cpio_entry *e, const char *link);

#endif
