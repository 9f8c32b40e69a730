// SPDX-License-Identifier: MIT
// The guardian of a NIC, in the words of net/bridge/bridge.h.
#ifndef NET_BRIDGE_GUARD_H
#define NET_BRIDGE_GUARD_H

#include "base/jail.h"

/* From the request on its standard input to the end of the VM. 0 or -errno: the monitor was told.
 */
int guard_run(enum jail_mode jail);

#endif
