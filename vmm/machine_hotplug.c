// SPDX-License-Identifier: MIT
// Disks that come and go while the machine runs.
//
// A device's registers are used by vCPU threads without a lock: so that a device can go, the vCPUs
// are parked for the instant in which it is taken from the bus. A lock or a count for each access
// would cost all of them for the sake of a rare event. What takes its time, the end of the disk's
// requests and the closing of its file, comes after that, while they run again.
#include "vmm/machine_private.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>

#define NAME_MAX_BYTES 512

static void tell_of_disk(struct machine *m, const char *what, const char *name)
{
	char text[NAME_MAX_BYTES + 32];

	snprintf(text, sizeof(text), "disk %s %s", what, name);
	machine_tell(m, text);
}

static int check_alive(const struct machine *m, const char *verb, const char *name)
{
	if (m->state == MACHINE_RUNNING || m->state == MACHINE_PAUSED)
		return 0;
	return fail(EBUSY, "machine %s is %s: disk %s cannot be %s", m->cfg.name,
		machine_state_name(m->state), name, verb);
}

int machine_attach_disk(struct machine *m, struct disk_config *disk, const struct disk_files *files)
{
	char name[NAME_MAX_BYTES];
	int rc = check_alive(m, "attached", disk_name(disk));

	snprintf(name, sizeof(name), "%s", disk_name(disk));
	if (rc) {
		disk_close(files);
		disk_config_free(disk);
		return rc;
	}
	rc = devices_attach_disk(&m->devices, disk, files);
	if (!rc)
		tell_of_disk(m, "attached", name);
	return rc;
}

int machine_detach(struct machine *m, const char *id, int told)
{
	int rc = check_alive(m, "detached", id);

	return rc ? rc : devices_detach_disk(&m->devices, id, told);
}

void machine_finish_ejects(struct machine *m, bool all)
{
	char name[NAME_MAX_BYTES];

	if (m->state == MACHINE_RUNNING)
		machine_park_all(m);
	devices_unplug(&m->devices, all);
	if (m->state == MACHINE_RUNNING)
		machine_resume_all(m);
	while (devices_take_away(&m->devices, name, sizeof(name)))
		tell_of_disk(m, "detached", name);
}
