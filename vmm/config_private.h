// SPDX-License-Identifier: MIT
// What config_check is made of: for config*.c only.
#ifndef VMM_CONFIG_PRIVATE_H
#define VMM_CONFIG_PRIVATE_H

#include "vmm/config.h"

#define TRANSPORT_AUTO 2u /* beside enum machine_transport: one of these is to be chosen */

/* Makes c->nics of --net and gives them --publish; chooses the transport. 0 or -errno. */
int config_nics_check(struct config *c);

/* Afterwards: makes c->disks of --rootfs and --disk, and finds the root. 0 or -errno. */
int config_disks_check(struct config *c);

#endif
