// SPDX-License-Identifier: MIT
// Frames that answer a guest's in place of whom they were for.
#ifndef NET_SLIRP_REPLY_H
#define NET_SLIRP_REPLY_H

#include "net/slirp/frame.h"

/* The headers of both: as much room as a reply needs before its data. */
#define REPLY_HEADERS (FRAME_ETH + 40u + 20u)

/* Makes of `to` the frame that refuses the connection `f` would open: a reset. Its length. */
size_t reply_reset(const struct frame *f, uint8_t to[REPLY_HEADERS]);

/*
 * Puts headers before `len` bytes of data to make of them the datagram that answers `f`. The data
 * is at to + REPLY_HEADERS; the frame begins at *frame, within `to`. Its length.
 */
size_t reply_datagram(const struct frame *f, uint8_t *to, size_t len, uint8_t **frame);

#endif
