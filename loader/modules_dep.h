// SPDX-License-Identifier: MIT
// Private to loader/: modules.dep and modules.builtin, as depmod and the kernel's build write them.
#ifndef LOADER_MODULES_DEP_H
#define LOADER_MODULES_DEP_H

#include <stdbool.h>
#include <stddef.h>

/* A file's text, with a NUL after it. */
struct dep_text {
	char *text; /* malloc'd; NULL: none */
	size_t len;
};

/* The name of the module in the file at `path`: "kernel/a/b-c.ko.xz" is of "b_c". Compares with
 * `name`. */
bool dep_is_module(const char *path, size_t path_len, const char *name);

/* Whether modules.builtin lists `name`. */
bool dep_is_builtin(const struct dep_text *builtin, const char *name);

/* The line of modules.dep for `name`, not NUL-terminated, or NULL: "PATH: PATH PATH...". */
const char *dep_find(const struct dep_text *dep, const char *name, size_t *len);

/* Who is told of paths; `is_listed`: of this one it has been, and needs not be again. */
struct dep_list {
	int (*add)(void *arg, const char *path, size_t len);
	bool (*is_listed)(const void *arg, const char *path, size_t len);
	void *arg;
};

/*
 * Adds each path that must be loaded for `line`, in order, those it needs first and its own last,
 * once. 0, or what `add` returned, or -ELOOP.
 */
int dep_each(const struct dep_text *dep, const char *line, size_t len, const struct dep_list *list);

#endif
