// SPDX-License-Identifier: MIT
// A machine that has states and nothing else, for tests of what controls one.
#ifndef TESTS_UNIT_FAKE_MACHINE_H
#define TESTS_UNIT_FAKE_MACHINE_H

#include "vmm/machine.h"

struct machine {
	enum machine_state state;
	enum machine_end end;
	int rc;          /* what pause, resume, reset and power_button return when negative */
	unsigned calls;  /* of those, and of what changes a disk */
	const char *why; /* a disk has stopped it; NULL: none has */
	struct disk_limits limits; /* of its disk, "data" */
	struct net_limits nic_limits;
	enum disk_job_kind job;
	char attached[32]; /* the name of what came last, and what with it */
	struct disk_files files;
	char link[32]; /* the NIC whose link was set last, and to what */
};

#endif
