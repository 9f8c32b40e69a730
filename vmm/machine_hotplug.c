// SPDX-License-Identifier: MIT
// Disks and NICs that come and go while the machine runs.
//
// A device's registers are used by vCPU threads without a lock: so that a device can go, the vCPUs
// are parked for the instant in which it is taken from the bus. A lock or a count for each access
// would cost all of them for the sake of a rare event. What takes its time, the end of the disk's
// requests and the closing of its file, comes after that, while they run again.
#include "vmm/machine_private.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>

#define TEXT_MAX 544

static int check_alive(const struct machine *m, const char *verb, const char *name)
{
	if (m->state == MACHINE_RUNNING || m->state == MACHINE_PAUSED)
		return 0;
	return fail(EBUSY, "machine %s is %s: %s cannot be %s", m->cfg.name,
		machine_state_name(m->state), name, verb);
}

int machine_attach_disk(struct machine *m, struct disk_config *disk, const struct disk_files *files)
{
	char text[TEXT_MAX];
	int rc = check_alive(m, "attached", disk_name(disk));

	snprintf(text, sizeof(text), "disk attached %s", disk_name(disk));
	if (rc) {
		disk_close(files);
		disk_config_free(disk);
		return rc;
	}
	rc = devices_attach_disk(&m->devices, disk, files);
	if (!rc)
		machine_tell(m, text);
	return rc;
}

int machine_attach_nic(struct machine *m, struct net_config *nic, const struct net_end *end,
	struct nic_helper *helper)
{
	struct net_end taken = *end;
	char text[TEXT_MAX];
	int rc = check_alive(m, "attached", nic->id);

	snprintf(text, sizeof(text), "NIC attached %s", nic->id);
	if (!rc && helper)
		rc = machine_watch_nic(m, helper);
	if (rc) {
		port_close(&taken);
		nic_helper_free(helper);
		net_config_free(nic);
		return rc;
	}
	rc = devices_attach_nic(&m->devices, nic, end, helper);
	if (!rc)
		machine_tell(m, text);
	return rc;
}

int machine_detach(struct machine *m, const char *id, int told)
{
	int rc = check_alive(m, "detached", id);

	return rc ? rc : devices_detach(&m->devices, id, told);
}

void machine_finish_ejects(struct machine *m, bool all)
{
	char text[TEXT_MAX];

	if (m->state == MACHINE_RUNNING)
		machine_park_all(m);
	devices_unplug(&m->devices, all);
	if (m->state == MACHINE_RUNNING)
		machine_resume_all(m);
	while (devices_take_away(&m->devices, text, sizeof(text)))
		machine_tell(m, text);
}
