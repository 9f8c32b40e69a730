// SPDX-License-Identifier: MIT
// Token buckets.
#include "base/bucket.h"

#include "base/loop.h"
#include "base/util.h"

/* The rounding error stays in the time that is not yet counted. */
static void refill(struct bucket *b, uint64_t now)
{
	uint64_t rate = b->rate.per_second;
	unsigned __int128 gain = (unsigned __int128)(now - b->when_ns) * rate / NSEC_PER_SEC;

	if (gain >= (unsigned __int128)((__int128)b->rate.burst - b->level)) {
		b->level = (int64_t)b->rate.burst;
		b->when_ns = now;
		return;
	}
	b->level += (int64_t)gain;
	b->when_ns += (uint64_t)(gain * NSEC_PER_SEC / rate);
}

uint64_t bucket_wait(struct bucket *b, uint64_t now)
{
	uint64_t rate = b->rate.per_second;
	unsigned __int128 ns;

	if (!rate)
		return 0;
	refill(b, now);
	if (b->level > 0)
		return 0;
	ns = ((unsigned __int128)(1 - (__int128)b->level) * NSEC_PER_SEC + rate - 1) / rate;
	ns -= MIN(ns, now - b->when_ns);
	return (uint64_t)MIN(MAX(ns, 1), INT64_MAX);
}

void bucket_pay(struct bucket *b, uint64_t cost)
{
	if (!b->rate.per_second)
		return;
	/* Nobody asks for more than INT64_MAX at once; longer debts are not remembered. */
	if (__builtin_sub_overflow(b->level, (int64_t)MIN(cost, INT64_MAX), &b->level))
		b->level = INT64_MIN;
}

void bucket_set(struct bucket *b, const struct bucket_rate *rate, uint64_t now)
{
	bool was_limited = b->rate.per_second;

	if (was_limited)
		refill(b, now);
	b->rate = *rate;
	if (!b->rate.burst)
		b->rate.burst = MAX(rate->per_second / 10, 1);
	b->rate.burst = MIN(b->rate.burst, INT64_MAX);
	if (!was_limited || b->level > (int64_t)b->rate.burst)
		b->level = (int64_t)b->rate.burst;
	b->when_ns = now;
}
