// SPDX-License-Identifier: MIT
// The table of what can be said about a disk, and the words of --disk.
#include "vmm/disk_config.h"

#include "base/log.h"
#include "base/util.h"
#include "blk/on_error.h"
#include "blk/partition.h"
#include "blk/raw.h"
#include "virtio/blk.h"
#include "vmm/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DISK (1u << 0)
#define AT(member) .offset = offsetof(struct disk_config, member)

static const char *const off_on[] = {"off", "on", NULL};

static const struct field keys[] = {
	{"path", "FILE", "the image, a regular file or a block device", AT(path),
		.type = FIELD_STRING, .commands = DISK},
	{"format", "FORMAT",
		"auto looks at the first sector, and a guest whose disk is raw cannot change what "
		"it would find",
		AT(format), .type = FIELD_ENUM, .names = image_format_names, .fallback = "auto",
		.commands = DISK},
	{"backing", "WHETHER", "other files that the image names are used too", AT(backing),
		.type = FIELD_ENUM, .names = off_on, .fallback = "off", .commands = DISK},
	{"ro", NULL, "the guest cannot write", AT(read_only), .type = FIELD_FLAG, .commands = DISK},
	{"overlay", "WHERE",
		"what the guest writes goes there: memory and a directory throw it away at the "
		"end, a file keeps it, a qcow2 image over this one, which is made where it is not "
		"there",
		AT(overlay), .type = FIELD_STRING, .fallback = "none", .commands = DISK},
	{"cache", "MODE",
		"none goes past the host's page cache; writethrough makes each write durable, "
		"unsafe none",
		AT(cache), .type = FIELD_ENUM, .names = raw_cache_names, .fallback = "writeback",
		.commands = DISK},
	{"partition", "N",
		"only this partition of the image is the guest's disk, as its table on the host "
		"has it; 0: all of it is",
		AT(partition), .type = FIELD_U32, .fallback = "0", .max = PARTITION_MAX,
		.commands = DISK},
	{"root", "N",
		"the guest's root is this partition of the disk, or with 0 the disk itself; for "
		"--rootfs, and for boot, which tells the kernel",
		AT(root), .type = FIELD_U32, .fallback = "0", .max = PARTITION_MAX,
		.commands = DISK},
	{"on-error", "WHAT",
		"when the host fails: report it to the guest, stop the VM until kvick resume tries "
		"again, or ignore what cannot be written",
		AT(on_error), .type = FIELD_ENUM, .names = on_error_names, .fallback = "report",
		.commands = DISK},
	{"queues", "N", "virtqueues", AT(queues), .type = FIELD_U32, .fallback = "1", .min = 1,
		.max = VIRTIO_BLK_QUEUES_MAX, .commands = DISK},
	{"addr", "SLOT", "with --transport pci, which slot it is in: 1 to 31, or 0x1 to 0x1f",
		AT(slot), .type = FIELD_U32, .min = 1, .max = 31, .commands = DISK},
	{"id", "NAME", "what messages and commands call the disk; without it the path", AT(id),
		.type = FIELD_STRING, .commands = DISK},
	{"serial", "TEXT", "its serial number, 20 bytes at most", AT(serial), .type = FIELD_STRING,
		.commands = DISK},
	{"bw", "SIZE", "bytes a second", AT(limits.bandwidth), .type = FIELD_SIZE, .fallback = "0",
		.commands = DISK},
	{"bw-burst", "SIZE", "bytes at once after a rest", AT(limits.bandwidth_burst),
		.type = FIELD_SIZE, .fallback = "0", .commands = DISK},
	{"iops", "N", "requests a second", AT(limits.iops), .type = FIELD_U32, .fallback = "0",
		.commands = DISK},
	{"iops-burst", "N", "requests at once after a rest", AT(limits.iops_burst),
		.type = FIELD_U32, .fallback = "0", .commands = DISK},
};

bool disk_has_overlay(const struct disk_config *d)
{
	return strcmp(d->overlay, "none") != 0;
}

int disk_check_limits(const struct disk_limits *l)
{
	if (l->bandwidth_burst && !l->bandwidth)
		return fail(EINVAL, "bw-burst: needs bw");
	if (l->iops_burst && !l->iops)
		return fail(EINVAL, "iops-burst: needs iops");
	return 0;
}

static int check(const struct disk_config *d)
{
	if (!d->path || !*d->path)
		return fail(EINVAL, "path: must name the image's file");
	if (d->id && !*d->id)
		return fail(EINVAL, "id: must not be empty");
	if (d->serial && strlen(d->serial) > 20)
		return fail(EINVAL, "serial %s: must be at most 20 bytes", d->serial);
	if (!*d->overlay)
		return fail(EINVAL, "overlay: must be memory, a directory, or a file");
	if (d->read_only && disk_has_overlay(d))
		return fail(EINVAL, "ro and overlay: the one leaves nothing to do for the other");
	if (d->root && d->partition)
		return fail(EINVAL, "root and partition: a partition has none of its own");
	return disk_check_limits(&d->limits);
}

/* Whether the first word is no key: most often it is the name of a file. */
static bool begins_with_name(const char *text, size_t len)
{
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!strncmp(keys[i].name, text, len) && !keys[i].name[len])
			return false;
	}
	return len && text[len] != '=';
}

int disk_parse(struct disk_config *out, const char *text)
{
	size_t len = strcspn(text, "=,");
	int rc;

	*out = (struct disk_config){
		.fields = {.table = keys, .count = ARRAY_SIZE(keys), .command = DISK}};
	out->fields.values = out;
	rc = fields_init(&out->fields);
	if (!rc && begins_with_name(text, len))
		rc = fail(EINVAL, "is no key; did you mean path=%.*s?", (int)len, text);
	if (!rc)
		rc = keys_parse(&out->fields, NULL, text);
	if (!rc)
		rc = check(out);
	return rc ? fail_context(rc, "%s", text) : 0;
}

const char *disk_name(const struct disk_config *d)
{
	return d->id ? d->id : d->path;
}

/* An overlay takes the writes, so that the files are only read. */
struct chain_options disk_chain(const struct disk_config *d)
{
	return (struct chain_options){
		.path = d->path,
		.format = (enum image_format)d->format,
		.cache = (enum raw_cache)d->cache,
		.read_only = d->read_only || disk_has_overlay(d),
		.trust = d->backing,
		.how = "backing=on",
	};
}

void disk_config_finish(struct disk_config *d)
{
	fields_finish(&d->fields);
}

bool disk_is_root(const struct disk_config *d)
{
	return field_given(&d->fields, "root");
}

int disk_config_create(struct disk_config **out, const char *text)
{
	struct disk_config *d = malloc(sizeof(*d));
	int rc = d ? disk_parse(d, text) : fail(ENOMEM, "out of memory");

	if (rc)
		disk_config_free(d);
	*out = rc ? NULL : d;
	return rc;
}

void disk_config_free(struct disk_config *d)
{
	if (!d)
		return;
	disk_config_finish(d);
	free(d);
}

void disk_print_help(FILE *out)
{
	keys_print_help(keys, ARRAY_SIZE(keys), NULL, out);
}
