// SPDX-License-Identifier: MIT
// The repair is kvick-image's: a monitor does not carry it.
#include "cli/disk_open.h"

#include "base/log.h"
#include "cli/kernel.h"
#include "vmm/helper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static int repair(const char *path)
{
	char name[] = "image", verb[] = "check", option[] = "--repair", end[] = "--";
	struct helper h = {.socket = -1};
	char *copy = strdup(path);
	char *argv[] = {name, verb, option, end, copy, NULL};
	int rc = copy ? helper_start(&h, helper_open("kvick-image"), argv, NULL, 0)
		      : fail(ENOMEM, "out of memory");
	int status = rc ? 0 : helper_wait(&h);

	helper_finish(&h);
	free(copy);
	if (!rc && (!WIFEXITED(status) || WEXITSTATUS(status)))
		rc = fail(EIO, "disk %s: was not closed, and cannot be repaired", path);
	return rc;
}

int disk_open_repaired(const struct disk_config *d, struct disk_files *out)
{
	int rc = disk_open(d, out);

	if (rc == -EUCLEAN)
		rc = repair(disk_has_overlay(d) ? d->overlay : d->path);
	else
		return rc;
	return rc ? rc : disk_open(d, out);
}
