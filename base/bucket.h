// SPDX-License-Identifier: MIT
// Token buckets: so much a second, and so much at once after a rest.
//
// Who wants something may have it while the bucket is not empty, and then pays what it has cost,
// which may leave a debt: so what is larger than a burst goes too.
#ifndef BASE_BUCKET_H
#define BASE_BUCKET_H

#include <stdint.h>

struct bucket_rate {
	uint64_t per_second; /* 0: no limit */
	uint64_t burst; /* what goes at once after a rest; 0: what a tenth of a second brings */
};

/* All zeroes: without a limit. Times are CLOCK_MONOTONIC. */
struct bucket {
	struct bucket_rate rate;
	int64_t level;    /* tokens; below 0: a debt */
	uint64_t when_ns; /* at which it was so */
};

/* Another rate from now on. A debt is kept, what was saved up only as far as there is room. */
void bucket_set(struct bucket *b, const struct bucket_rate *rate, uint64_t now);

/* How long until there is a token, in nanoseconds; 0: there is one. */
uint64_t bucket_wait(struct bucket *b, uint64_t now);

void bucket_pay(struct bucket *b, uint64_t cost);

#endif
