// SPDX-License-Identifier: MIT
// Limits what a disk does in a second: bytes and requests, each by a token bucket.
//
// A request goes on while neither bucket is empty, and takes from them what it costs, which may
// leave a debt: so one that is larger than a burst goes too. What has to wait goes on in order,
// when a timer says so. All requests count; bytes are those read, written and zeroed.
#ifndef BLK_LIMIT_H
#define BLK_LIMIT_H

#include "base/bucket.h"
#include "blk/blk.h"

struct loop;

struct limit_config {
	struct bucket_rate bytes, requests;
};

/* Stands on `below`, which it takes on success. `loop` is the disk's. 0 or -ENOMEM. */
int limit_create(
	struct blk **out, struct loop *loop, struct blk *below, const struct limit_config *c);

/* Other limits from now on, for what waits too. `b` is of limit_create; on the disk's loop. */
void limit_set(struct blk *b, const struct limit_config *c);

#endif
