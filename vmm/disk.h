// SPDX-License-Identifier: MIT
// A disk from what the user says of it: parsed, opened, and put together of its layers.
#ifndef VMM_DISK_H
#define VMM_DISK_H

#include "base/field.h"

#include <stdbool.h>
#include <stdint.h>

struct blk;
struct blk_engine;
struct loop;

enum disk_format { DISK_PROBED, DISK_RAW };

/* The keys of --disk. */
struct disk_config {
	char *path;
	unsigned format; /* enum disk_format */
	unsigned cache;  /* enum raw_cache */
	char *overlay;   /* "none", "memory", a directory, or a file to be made */
	bool read_only;
	char *id, *serial;
	uint32_t queues;
	uint64_t bandwidth, bandwidth_burst; /* bytes a second; 0: no limit */
	uint32_t iops, iops_burst;           /* requests a second; 0: no limit */

	struct fields fields;
};

/* What messages and commands call it. */
const char *disk_name(const struct disk_config *d);

bool disk_has_overlay(const struct disk_config *d);

/*
 * "path=FILE,ro,cache=none": keys with their values, a comma within a value doubled. `out` ends in
 * disk_config_finish also when it fails. 0, or -errno with a message that names key and value.
 */
int disk_parse(struct disk_config *out, const char *text);
void disk_config_finish(struct disk_config *d);

/* One line a key, as --help shows it. */
void disk_print_help(FILE *out);

/* What a disk is opened as. */
struct disk_files {
	int image;
	int lock;    /* of lock_image; 0: none */
	int overlay; /* a file that has no name any more; 0: none */
};

/*
 * Opens the file, locks it, looks what format it is in where that is not given, and makes the file
 * of the overlay. 0, or -errno with a message that names the file: -EBUSY where another uses it.
 */
int disk_open(const struct disk_config *d, struct disk_files *out);
void disk_close(const struct disk_files *files);

/*
 * The disk of an open file, with the layers that `d` asks for. `files` are taken; `d` is borrowed
 * for as long as the disk is there. 0 or -errno.
 */
int disk_create(struct blk **out, const struct disk_config *d, const struct disk_files *files,
	struct blk_engine *e, struct loop *loop);

#endif
