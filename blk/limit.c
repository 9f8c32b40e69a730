// SPDX-License-Identifier: MIT
// The line of those who wait for a token.
#include "blk/limit.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/layer.h"

#include <errno.h>
#include <stdlib.h>

struct limit {
	struct layer layer;
	struct loop *loop;
	struct timer timer;
	struct blk_line line;
	struct bucket bytes, requests;
};

static struct limit *of(struct blk *b)
{
	return container_of(b, struct limit, layer.blk);
}

static uint64_t wait_time(struct limit *l)
{
	uint64_t now = 0, bytes, requests;

	if (!l->bytes.rate.per_second && !l->requests.rate.per_second)
		return 0;
	now = now_ns();
	bytes = bucket_wait(&l->bytes, now);
	requests = bucket_wait(&l->requests, now);
	return MAX(bytes, requests);
}

static void send(struct limit *l, struct blk_request *r)
{
	bool data = r->op == BLK_READ || r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES;

	bucket_pay(&l->requests, 1);
	bucket_pay(&l->bytes, data ? r->len : 0);
	blk_submit(l->layer.below, r);
}

/* Sends what may go now, in order, and has the rest wait. */
static void go_on(void *arg)
{
	struct limit *l = arg;
	uint64_t wait = 0;

	while (l->line.first && (wait = wait_time(l)) == 0)
		send(l, line_take(&l->line));
	if (l->line.first)
		loop_arm(l->loop, &l->timer, wait);
	blk_commit(l->layer.below);
}

static void limit_submit(struct blk *b, struct blk_request *r)
{
	struct limit *l = of(b);
	uint64_t wait = l->line.first ? 0 : wait_time(l);

	if (!l->line.first && !wait) {
		send(l, r);
		return;
	}
	line_append(&l->line, r);
	if (wait)
		loop_arm(l->loop, &l->timer, wait);
}

/* Who drains does not wait for tokens: what is under way then becomes a debt. */
static int limit_drain(struct blk *b)
{
	struct limit *l = of(b);
	int rc;

	do {
		while (l->line.first)
			send(l, line_take(&l->line));
		rc = blk_drain(l->layer.below);
	} while (!rc && l->line.first);
	if (!rc)
		loop_disarm(l->loop, &l->timer);
	return rc;
}

static void limit_destroy(struct blk *b)
{
	struct limit *l = of(b);

	loop_disarm(l->loop, &l->timer);
	blk_destroy(l->layer.below);
	free(l);
}

static void set_rates(struct limit *l, const struct limit_config *c)
{
	uint64_t now = now_ns();

	bucket_set(&l->bytes, &c->bytes, now);
	bucket_set(&l->requests, &c->requests, now);
}

void limit_set(struct blk *b, const struct limit_config *c)
{
	struct limit *l = of(b);

	set_rates(l, c);
	loop_disarm(l->loop, &l->timer);
	go_on(l);
}

int limit_create(
	struct blk **out, struct loop *loop, struct blk *below, const struct limit_config *c)
{
	static const struct blk_ops ops = {
		.submit = limit_submit,
		.commit = layer_commit,
		.drain = limit_drain,
		.measure = layer_measure,
		.destroy = limit_destroy,
	};
	struct limit *l = calloc(1, sizeof(*l));

	if (!l)
		return fail(ENOMEM, "disk %s: no memory", below->name);
	layer_init(&l->layer, &ops, below);
	l->loop = loop;
	l->timer = TIMER_INIT(go_on, l);
	set_rates(l, c);
	*out = &l->layer.blk;
	return 0;
}
