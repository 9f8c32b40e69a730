// SPDX-License-Identifier: MIT
// What a disk is to be, as plain values: the keys of --disk.
#ifndef VMM_DISK_CONFIG_H
#define VMM_DISK_CONFIG_H

#include "base/field.h"
#include "blk/chain.h"

#include <stdbool.h>
#include <stdint.h>

struct disk_limits {
	uint64_t bandwidth, bandwidth_burst; /* bytes a second; 0: no limit */
	uint32_t iops, iops_burst;           /* requests a second; 0: no limit */
};

/* The keys of --disk. */
struct disk_config {
	char *path;
	unsigned format;  /* enum image_format */
	unsigned backing; /* 1: what the image names is opened too */
	unsigned cache;   /* enum raw_cache */
	char *overlay;    /* "none", "memory", a directory, or a qcow2 image */
	bool read_only;
	uint32_t slot; /* of the PCI bus; 0: any */
	char *id, *serial;
	uint32_t queues;
	uint32_t partition; /* that is the disk; 0: all of it is */
	uint32_t root; /* the partition that is the guest's root; 0: the disk itself, if it is */
	unsigned on_error; /* enum on_error */
	struct disk_limits limits;

	struct fields fields;
};

/* What messages and commands call it. */
const char *disk_name(const struct disk_config *d);

bool disk_has_overlay(const struct disk_config *d);

/* The files that it is made of, without the overlay's; borrows from `d`. */
struct chain_options disk_chain(const struct disk_config *d);

/*
 * "path=FILE,ro,cache=none": keys with their values, a comma within a value doubled. `out` ends in
 * disk_config_finish also when it fails. 0, or -errno with a message that names key and value.
 */
int disk_parse(struct disk_config *out, const char *text);
void disk_config_finish(struct disk_config *d);

/* -EINVAL where one of them makes no sense without another. */
int disk_check_limits(const struct disk_limits *l);

/* Whether root= is given: the disk or a partition of it is the guest's root. */
bool disk_is_root(const struct disk_config *d);

/* The same of one that is malloc'd, *out: NULL on failure. */
int disk_config_create(struct disk_config **out, const char *text);

/* NULL is fine. */
void disk_config_free(struct disk_config *d);

/* One line a key, as --help shows it. */
void disk_print_help(FILE *out);

#endif
