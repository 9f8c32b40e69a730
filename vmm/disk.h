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
struct virtio_device;

enum disk_format { DISK_PROBED, DISK_RAW };

struct disk_limits {
	uint64_t bandwidth, bandwidth_burst; /* bytes a second; 0: no limit */
	uint32_t iops, iops_burst;           /* requests a second; 0: no limit */
};

/* The keys of --disk. */
struct disk_config {
	char *path;
	unsigned format; /* enum disk_format */
	unsigned cache;  /* enum raw_cache */
	char *overlay;   /* "none", "memory", a directory, or a file to be made */
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

/* As it is used: an image whose format is probed is raw, or refused. */
const char *disk_format_name(const struct disk_config *d);

bool disk_has_overlay(const struct disk_config *d);

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

/* What a disk is opened as. */
struct disk_files {
	int image;
	int lock;          /* of lock_image; 0: none */
	int overlay;       /* a file that has no name any more; 0: none */
	uint64_t off, len; /* bytes: the part of the image that is the disk; len 0: all of it */
};

/*
 * Opens the file, locks it, looks what format it is in where that is not given, and where the
 * partitions are that are named, and makes the file of the overlay. 0, or -errno with a message
 * that names the file: -EBUSY where another uses it.
 */
int disk_open(const struct disk_config *d, struct disk_files *out);
void disk_close(const struct disk_files *files);

/*
 * The descriptors in the order in which they are passed to another process, DISK_FILES_MAX at most:
 * how many. And back: they are taken, -1 left in their place; -EINVAL where there are too few or
 * too many for such a disk. `off` and `len` are the caller's affair.
 */
#define DISK_FILES_MAX 3u
unsigned disk_files_list(const struct disk_files *files, int fds[DISK_FILES_MAX]);
int disk_files_take(
	const struct disk_config *d, int *fds, unsigned count, struct disk_files *files);

/* What a disk is made on; borrowed. */
struct disk_host {
	struct blk_engine *engine;
	struct loop *loop; /* the engine's */
	/* on-error=stop: the machine is to be paused, and why. On the loop's thread; never waits.
	 */
	void (*stopped)(void *arg, const char *why);
	void *arg;
};

/* A disk that a machine has. */
struct disk {
	const struct disk_config *cfg; /* borrowed */
	struct blk *blk;               /* all of it; the device's */
	struct blk *limit, *judge;     /* layers of it: blk/limit.h, blk/on_error.h */
	struct disk_limits limits;     /* as they are now */
	struct virtio_device *dev;     /* set by who makes one of `blk` */
	unsigned place;                /* and by who gives it one */
	struct disk_config *owned;     /* cfg, of one that came while the machine ran; else NULL */
	bool leaving;                  /* the guest has been asked to let go of it */
	int told;                      /* a socket that is to hear when it has; -1: none */
	bool gone;                     /* it is off the bus */
};

/*
 * Makes out->blk of an open file, with the layers that `d` asks for. `files` are taken; `d` is
 * borrowed for as long as the disk is there. 0 or -errno.
 */
int disk_create(struct disk *out, const struct disk_config *d, const struct disk_files *files,
	const struct disk_host *host);

/* Other limits from now on, which disk_check_limits has passed. On the disk's loop. */
void disk_set_limits(struct disk *disk, const struct disk_limits *limits);

#endif
