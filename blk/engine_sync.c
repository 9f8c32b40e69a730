// SPDX-License-Identifier: MIT
// The engine for hosts without io_uring: each request is a system call that takes its time.
#include "blk/engine_kinds.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Requests that are done before others on the loop have their turn. */
#define BUDGET 64

static int64_t system_result(int rc)
{
	return rc < 0 ? -errno : rc;
}

static int64_t perform(const struct blk_request *r)
{
	int fd = r->file->fd;

	if (r->step == ENGINE_SYNC_DATA)
		return system_result(fdatasync(fd));
	if (r->step < ENGINE_SYNC_DATA)
		return engine_move(r, 0);
	return system_result(fallocate(
		fd, engine_fallocate_mode(r), (off_t)(r->file->base + r->off), (off_t)r->len));
}

static int sync_run(struct blk_engine *e, bool wait)
{
	bool nested = e->running;
	struct blk_request *r;
	int left = loop_visited(e->loop) ? 0 : BUDGET;

	e->running = true;
	while (left-- > 0 && (r = line_take(&e->line)))
		engine_result(e, r, perform(r));
	e->running = nested;
	if (e->line.first && !e->again.at_ns)
		loop_arm(e->loop, &e->again, 0);
	return 0;
}

static void sync_destroy(struct blk_engine *e)
{
	free(e);
}

int engine_sync_create(struct blk_engine **out)
{
	static const struct engine_ops ops = {
		.name = "sync",
		.run = sync_run,
		.destroy = sync_destroy,
	};

	*out = calloc(1, sizeof(**out));
	if (!*out)
		return fail(ENOMEM, "I/O engine: no memory");
	(*out)->ops = &ops;
	return 0;
}
