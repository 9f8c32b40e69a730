// SPDX-License-Identifier: MIT
// kvick-image: a program of its own, as the monitor has neither compression nor tools in it.
#ifndef CLI_IMAGE_IMAGE_H
#define CLI_IMAGE_IMAGE_H

#include "base/field.h"
#include "blk/chain.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum image_status {
	STATUS_OK = 0,
	STATUS_CORRUPT = 2, /* check: errors are left in the image */
	STATUS_LEAKS = 3,   /* check: nothing but clusters that nobody uses */
	STATUS_FAILED = 125,
};

enum compression { COMPRESS_NONE, COMPRESS_ZLIB, COMPRESS_ZSTD };

struct image_options {
	bool json, chain, repair, shrink, force, no_sync, trust, help;
	unsigned format, from, to, backing_format; /* enum image_format */
	unsigned compress;                         /* enum compression */
	uint64_t size, cluster_size;               /* bytes; 0: not given */
	char *backing;
	struct field_list words; /* what follows the options */
};

/* What a command works with. */
struct tool {
	const struct image_options *o;
	struct loop *loop;
	struct blk_engine *engine;
	struct decompressor *decompressor;
};

/* Each is given its number of words. 0, an enum image_status, or -errno with a message. */
int image_create(struct tool *t);
int image_info(struct tool *t);
int image_check(struct tool *t);
int image_convert(struct tool *t);
int image_resize(struct tool *t);
int image_map(struct tool *t);
int image_commit(struct tool *t);
int image_rebase(struct tool *t);
int image_snapshot(struct tool *t);

/* An image of the command line as a disk, trusted as the options say. 0 or -errno. */
struct tool_image {
	const char *path;
	enum image_format format;
	bool write;
	bool alone;   /* nothing but zeroes is in the place of its backing file */
	bool no_lock; /* as in blk/chain.h */
};

int tool_open(struct tool *t, struct blk **out, const struct tool_image *i);
int tool_chain(struct tool *t, struct chain **out, const struct tool_image *i);

/* An image's own file, and in `format` what it is; `lock`: nobody else may be using it. */
struct tool_file {
	const char *path; /* borrowed for as long as there is the disk */
	enum image_format format;
	bool write, lock;
	struct blk *blk; /* a raw disk that `holds_format` */
};

int tool_open_file(struct tool *t, struct tool_file *f);

/* Whether an image that names a file so is understood: 0, or -errno with a message. */
int tool_check_name(const char *name);

/* `name` as a file of that name is found that `of` names: malloc'd. NULL with a message. */
char *tool_beside(const char *of, const char *name);

/* The name and format of an image's backing file, if it is trusted. 0, or -errno with a message,
 * also where there is none. `*path` is malloc'd. */
int tool_backing(struct tool *t, const char *of, char **path, enum image_format *format);

/* --cluster-size as a power of two; 0 with a message where it is none. */
unsigned tool_cluster_bits(const struct image_options *o);

/* Prints text of an image, which may be a stranger's, for a terminal; `width` as of printf. */
void tool_put(const char *text, int width);

/* Prints the object, which it owns, and which may be NULL: out of memory. 0 or -errno. */
int tool_print(json_t *object);

#endif
