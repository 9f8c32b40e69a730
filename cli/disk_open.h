// SPDX-License-Identifier: MIT
// Opening a disk that may have to be repaired first.
#ifndef CLI_DISK_OPEN_H
#define CLI_DISK_OPEN_H

#include "vmm/disk.h"

/* As disk_open; an image that is marked as not closed is repaired, which is said on stderr. */
int disk_open_repaired(const struct disk_config *d, struct disk_files *out);

#endif
