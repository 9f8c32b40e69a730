// SPDX-License-Identifier: MIT
// The process that unpacks kernels and modules: kvick-unpack, started when something is packed.
#ifndef VMM_UNPACK_HELPER_H
#define VMM_UNPACK_HELPER_H

#include "base/jail.h"
#include "loader/unpacker.h"
#include "vmm/helper.h"

#include <stdbool.h>

struct unpack_helper {
	struct unpacker unpacker; /* what the loader is given */
	int (*open_program)(const char *name);
	enum jail_mode jail;
	bool sealed;
	struct helper process;
	int memory; /* a file in memory that it unpacks to; empty between end and begin */
};

/* `open_program` opens the helper's file by its name: a descriptor, or -errno with a message. It is
 * called at most once, when there is something to unpack. */
void unpack_helper_init(
	struct unpack_helper *h, enum jail_mode jail, int (*open_program)(const char *name));

/* No process can be started from now on; one that has been stays, for a machine that loads its
 * kernel again behind the jail. */
void unpack_helper_seal(struct unpack_helper *h);

/* Ends the process and waits for it. Also of one that was never started. */
void unpack_helper_finish(struct unpack_helper *h);

#endif
