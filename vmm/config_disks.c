// SPDX-License-Identifier: MIT
// The disks of a configuration: beside each other and the NICs, and which of them is the root.
#include "vmm/config_private.h"

#include "base/log.h"
#include "vmm/disk_config.h"
#include "vmm/machine.h"
#include "vmm/net_config.h"
#include "vmm/places.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define OTHER_DEVICES 2u /* vsock and rng */

/* Whether there is room for one more disk or NIC. */
static int check_count(const struct config *c)
{
	unsigned count = c->disk_count + c->nic_count;

	if (count == MACHINE_PLUGGED_MAX)
		return fail(EINVAL, "at most %u disks and NICs", MACHINE_PLUGGED_MAX);
	if (c->transport == TRANSPORT_MMIO && count >= MACHINE_DISKS_MMIO)
		return fail(EINVAL, "at most %u disks and NICs, or %u with --transport pci",
			MACHINE_DISKS_MMIO, MACHINE_PLUGGED_MAX);
	return 0;
}

static int add_disk(struct config *c, const char *text)
{
	int rc = check_count(c);

	if (rc)
		return rc;
	if (c->disk_count == MACHINE_DISKS_MAX)
		return fail(EINVAL, "at most %u disks", MACHINE_DISKS_MAX);
	return disk_parse(&c->disks[c->disk_count++], text);
}

/* ... and a NIC, which commands call by its name as well. */
static int check_with_nic(const struct disk_config *d, const struct net_config *n)
{
	if (!strcmp(disk_name(d), n->id))
		return fail(
			EINVAL, "a disk and a NIC are called %s; id=NAME gives one another", n->id);
	if (d->slot && d->slot == n->slot)
		return fail(EINVAL, "disk %s: addr %u is taken by NIC %s", disk_name(d), d->slot,
			n->id);
	return 0;
}

static int check_pair(const struct disk_config *d, const struct disk_config *other)
{
	if (!strcmp(disk_name(d), disk_name(other)))
		return fail(EINVAL, "two disks are called %s; id=NAME gives one another name",
			disk_name(d));
	if (d->slot && d->slot == other->slot)
		return fail(EINVAL, "disk %s: addr %u is taken by disk %s", disk_name(d), d->slot,
			disk_name(other));
	return 0;
}

/* The last one beside those before it. */
static int check_together(const struct config *c)
{
	const struct disk_config *d = &c->disks[c->disk_count - 1];
	int rc = 0;

	if (d->slot && c->transport == TRANSPORT_MMIO)
		return fail(EINVAL, "disk %s: addr needs --transport pci", disk_name(d));
	for (unsigned i = 0; i + 1 < c->disk_count && !rc; i++)
		rc = check_pair(d, &c->disks[i]);
	for (unsigned i = 0; i < c->nic_count && !rc; i++)
		rc = check_with_nic(d, &c->nics[i]);
	return rc;
}

/* The keys of a disk that is a file and nothing else: malloc'd, its commas doubled. */
static char *keys_of_file(const char *path)
{
	char *text = malloc(sizeof("path=") + 2 * strlen(path));
	char *to = text ? stpcpy(text, "path=") : NULL;

	for (; to && *path; path++) {
		*to++ = *path;
		if (*path == ',')
			*to++ = ',';
	}
	if (to)
		*to = '\0';
	return text;
}

/* What is no directory is a disk. What is not there is told by who opens it as one. */
static int check_root(struct config *c)
{
	char *text;
	struct stat st;
	int rc;

	if (!c->rootfs)
		return 0;
	if (strncmp(c->rootfs, "path=", 5) == 0)
		text = strdup(c->rootfs);
	else if (stat(c->rootfs, &st) < 0 || S_ISDIR(st.st_mode))
		return 0;
	else
		text = keys_of_file(c->rootfs);
	if (!text)
		return fail(ENOMEM, "out of memory");
	c->root_disk = true;
	rc = add_disk(c, text);
	free(text);
	rc = rc ? rc : check_together(c);
	return rc ? fail_context(rc, "--rootfs") : 0;
}

/* Where each disk will be. */
static int find_places(const struct config *c, unsigned place[MACHINE_DISKS_MAX])
{
	struct places p;
	int rc;

	places_init(&p);
	for (unsigned i = 0; i < OTHER_DEVICES; i++)
		places_ask(&p, 0);
	for (unsigned i = 0; i < c->disk_count; i++)
		places_ask(&p, c->disks[i].slot);
	for (unsigned i = 0; i < c->nic_count; i++)
		places_ask(&p, c->nics[i].slot);
	rc = places_settle(&p);
	for (unsigned i = 0; i < OTHER_DEVICES; i++)
		places_take(&p, 0);
	for (unsigned i = 0; i < c->disk_count; i++)
		place[i] = places_take(&p, c->disks[i].slot);
	return rc;
}

/* Linux names disks in the order of their places. */
static int name_root(struct config *c, unsigned index)
{
	const struct disk_config *d = &c->disks[index];
	unsigned place[MACHINE_DISKS_MAX], before = 0;
	char first[2] = "";
	int n, rc = find_places(c, place);

	if (rc)
		return rc;
	for (unsigned i = 0; i < c->disk_count; i++)
		before += place[i] < place[index];
	if (before >= 26)
		first[0] = 'a';
	n = snprintf(c->root_device, sizeof(c->root_device), "/dev/vd%s%c", first,
		(char)('a' + before % 26));
	if (d->root)
		snprintf(c->root_device + n, sizeof(c->root_device) - (size_t)n, "%u", d->root);
	return 0;
}

/* Of run it is what --rootfs names; of boot, what a disk's root= says. */
static int find_root(struct config *c)
{
	bool run = c->fields.command & CONFIG_RUN;
	int rc = c->root_disk ? name_root(c, 0) : 0;

	for (unsigned i = c->root_disk; i < c->disk_count && !rc; i++) {
		if (!disk_is_root(&c->disks[i]))
			continue;
		if (run)
			return fail(EINVAL, "--disk: root: is a key of --rootfs");
		if (*c->root_device)
			return fail(EINVAL, "--disk: root: is given for two disks");
		rc = name_root(c, i);
	}
	return rc;
}

int config_disks_check(struct config *c)
{
	int rc;

	if (!c->disk.count && !c->rootfs)
		return 0;
	c->disks = calloc(MACHINE_DISKS_MAX, sizeof(*c->disks));
	if (!c->disks)
		return fail(ENOMEM, "out of memory");
	rc = check_root(c);
	for (unsigned i = 0; i < c->disk.count && !rc; i++) {
		rc = add_disk(c, c->disk.items[i]);
		rc = rc ? rc : check_together(c);
		if (rc)
			fail_context(rc, "--disk");
	}
	return rc ? rc : find_root(c);
}
