// SPDX-License-Identifier: MIT
// Which format an image is of, by its first bytes.
#ifndef BLK_PROBE_H
#define BLK_PROBE_H

#include <stddef.h>
#include <stdint.h>

/* The bytes that are looked at: what lies after them makes no format. */
#define PROBE_BYTES 512u

/*
 * The format's name ("qcow2", "vmdk", ...), or NULL where it is none of them: a raw image. `len` is
 * what there is of the first PROBE_BYTES.
 */
const char *probe_format(const uint8_t *buf, size_t len);

#endif
