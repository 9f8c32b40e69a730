// SPDX-License-Identifier: MIT
// Images that are made for a disk.
#ifndef VMM_DISK_NEW_H
#define VMM_DISK_NEW_H

#include "blk/chain.h"
#include "blk/qcow2.h"

/*
 * Makes an image that reads as zeroes, or with c->backing as that file, under a name that is free:
 * raw, or qcow2 as `c` says. It is whole as soon as it has its name. 0 or -errno with a message.
 */
int disk_new_image(const char *path, enum image_format format, const struct qcow2_create *c);

#endif
