// SPDX-License-Identifier: MIT
// Which kernel modules a guest needs, in the order in which they are to be loaded.
#ifndef LOADER_MODULES_H
#define LOADER_MODULES_H

#include <stdbool.h>
#include <stddef.h>

struct modules;
struct unpacker;

struct module_want {
	const char *name; /* "virtio_mmio"; '-' and '_' are the same */
	bool optional;    /* may be missing */
};

struct modules_config {
	const char *dir;         /* what the user said: .../lib/modules/VERSION, or a directory that
				    holds lib/modules/VERSION or VERSION; NULL: search */
	const char *kernel_path; /* searched beside: DIR/../lib/modules/VERSION, links resolved; may
				    be NULL */
	const char *version;     /* loader_version's */
	const struct module_want *want;
	size_t nwant;
	const struct unpacker *unpacker; /* of packed modules; NULL: they are refused */
};

/*
 * Finds the modules of the kernel and resolves what is wanted with all it depends on. Where there
 * is no directory of modules at all (a kernel that has everything built in) the result is an empty
 * list with modules_dir NULL. 0, or -errno with a message: a directory the user named is missing or
 * is another version's; a module that is wanted is neither built in nor there.
 */
int modules_resolve(struct modules **out, const struct modules_config *cfg);
void modules_destroy(struct modules *m); /* NULL is fine */

/* The directory they come from, or NULL where there is none. Borrowed. */
const char *modules_dir(const struct modules *m);

/* How many are to be loaded, and the file name of each ("virtio_mmio.ko"), unique, in order.
 * Borrowed. */
size_t modules_count(const struct modules *m);
const char *modules_file(const struct modules *m, size_t i);

/*
 * Reads module `i`, unpacked if it is kept compressed (.ko.gz, .ko.xz, .ko.zst), so that any kernel
 * takes it. The bytes belong to `m`. 0 or -errno with a message.
 */
int modules_read(struct modules *m, size_t i, const void **data, size_t *size);

#endif
