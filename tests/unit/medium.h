// SPDX-License-Identifier: MIT
// A disk with a volatile cache, and what could be left on its medium when the power goes.
//
// It keeps no more than blk/blk.h promises: of what was not flushed any sector may be on the medium
// or not, whatever the order of the writes, also of writes that are under way; a flush covers what
// was completed before it was submitted. Requests are completed one at a time, by medium_step.
#ifndef TESTS_UNIT_MEDIUM_H
#define TESTS_UNIT_MEDIUM_H

#include "blk/blk.h"

#define HISTORY_MAX 48u
#define MEDIUM_PENDING 256u

/* What a sector may hold: the oldest value that may still be there, and those written since. */
struct history {
	unsigned n;
	struct {
		uint32_t id;
		unsigned done; /* when its write was completed; 0: under way, or failed */
	} value[HISTORY_MAX];
};

/* One value, which is there for certain. */
void history_init(struct history *h, uint32_t id);
void history_add(struct history *h, uint32_t id);
/* The write of `id` is completed at `now`; `durable`: what is older is gone for certain. */
void history_done(struct history *h, uint32_t id, unsigned now, bool durable);
/* A flush that was submitted at `before` is completed. */
void history_flush(struct history *h, unsigned before);
bool history_has(const struct history *h, uint32_t id);
/* The value that is read: the last whose write is completed. */
uint32_t history_now(const struct history *h);

struct medium {
	struct blk blk;
	uint64_t seed;
	unsigned now;
	struct history *sector;
	uint8_t (*bytes)[BLK_SECTOR]; /* of each value by its id */
	uint32_t ids, ids_max;
	uint8_t *image; /* of one of its states */
	struct {
		struct blk_request *r;
		uint32_t id;
		unsigned since;
	} pending[MEDIUM_PENDING];
	unsigned count;
	unsigned
		fail_in; /* the how-manieth completion from now is -EIO, half written; 0: none is */
	uint64_t full;   /* bytes: a write past them is -ENOSPC; 0: there is space */
	void (*after)(void *arg); /* is called when a request has been completed; NULL: nobody */
	void *arg;
};

/* `size` bytes of zeroes, for at most `writes` writes. Destroyed as any disk. */
struct medium *medium_create(uint64_t size, unsigned writes);

/* Puts bytes on it, whole sectors, durable: before there is any request. */
void medium_fill(struct medium *m, uint64_t off, const uint8_t *bytes, uint64_t len);

/* Completes one of the requests, at random; false where there is none. */
bool medium_step(struct medium *m);

/*
 * Calls `see` with what could be left on the medium now: with each such image where there are at
 * most `most`, else with `most` of them at random. Returns how many that were.
 */
unsigned medium_states(
	struct medium *m, unsigned most, void (*see)(void *arg, const uint8_t *image), void *arg);

#endif
