// SPDX-License-Identifier: MIT
// Looks at each request's outcome before who submitted it, and has no part in one that went well.
#include "blk/on_error.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/layer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char *const on_error_names[] = {"report", "stop", "ignore", NULL};

struct judge {
	struct layer layer;
	struct on_error_config cfg;
	uint64_t count;   /* atomic */
	uint64_t next_ns; /* before which nothing is printed */
};

static struct judge *of(struct blk *b)
{
	return container_of(b, struct judge, layer.blk);
}

static void say(const struct judge *j, const struct blk_request *r, int rc, char *buf, size_t len)
{
	static const char *const ops[] = {
		[BLK_READ] = "read",
		[BLK_WRITE] = "write",
		[BLK_FLUSH] = "flush",
		[BLK_DISCARD] = "discard",
		[BLK_WRITE_ZEROES] = "write of zeroes",
	};
	int n = snprintf(buf, len, "disk %s: %s", j->cfg.name, ops[r->op]);

	if (r->op != BLK_FLUSH && (size_t)n < len)
		n += snprintf(buf + n, len - (size_t)n, " of %llu bytes at %llu",
			(unsigned long long)r->len, (unsigned long long)r->off);
	if ((size_t)n < len)
		snprintf(buf + n, len - (size_t)n, ": %s", strerror(-rc));
}

static void warn(struct judge *j, const char *why, const char *what)
{
	uint64_t now = now_ns();

	if (now < j->next_ns)
		return;
	j->next_ns = now + NSEC_PER_SEC;
	log_warn("%s; %s (error %llu)", why, what, (unsigned long long)j->count);
}

/* What the request comes to instead of `rc`. */
static int judge(struct judge *j, const struct blk_request *r, int rc)
{
	bool ignored = j->cfg.policy == ON_ERROR_IGNORE && r->op != BLK_READ;
	char why[192];

	__atomic_fetch_add(&j->count, 1, __ATOMIC_RELAXED);
	say(j, r, rc, why, sizeof(why));
	if (j->cfg.policy == ON_ERROR_STOP) {
		j->cfg.stopped(j->cfg.arg, why);
		return BLK_HELD;
	}
	warn(j, why, ignored ? "ignored" : "the guest is told");
	return ignored ? 0 : rc;
}

static void done(struct blk_request *r, int rc)
{
	struct judge *j = of(r->judge);

	r->done = r->judged;
	r->done(r, rc < 0 ? judge(j, r, rc) : rc);
}

static void submit(struct blk *b, struct blk_request *r)
{
	r->judge = b;
	r->judged = r->done;
	r->done = done;
	blk_submit(of(b)->layer.below, r);
}

static int drain(struct blk *b)
{
	return blk_drain(of(b)->layer.below);
}

static void destroy(struct blk *b)
{
	blk_destroy(of(b)->layer.below);
	free(of(b));
}

int on_error_create(struct blk **out, struct blk *below, const struct on_error_config *c)
{
	static const struct blk_ops ops = {
		.submit = submit,
		.commit = layer_commit,
		.drain = drain,
		.measure = layer_measure,
		.destroy = destroy,
	};
	struct judge *j = calloc(1, sizeof(*j));

	if (!j)
		return fail(ENOMEM, "disk %s: no memory", below->name);
	layer_init(&j->layer, &ops, below);
	j->cfg = *c;
	*out = &j->layer.blk;
	return 0;
}

uint64_t on_error_count(struct blk *b)
{
	return __atomic_load_n(&of(b)->count, __ATOMIC_RELAXED);
}
