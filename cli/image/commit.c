// SPDX-License-Identifier: MIT
// kvick image commit
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/now.h"
#include "cli/image/copy.h"

#include <errno.h>

static int copy(struct tool *t, struct blk *from, struct blk *to)
{
	struct copy c = {.from = from, .to = to, .own = true, .fd = -1};
	int rc = from->size > to->size ? blk_resize(to, from->size) : 0;

	if (rc)
		return rc;
	progress_start(&c.progress, from->size, !t->o->json);
	rc = copy_run(&c, t);
	rc = rc ? rc : blk_flush_now(to);
	progress_end(&c.progress);
	return rc;
}

/* The backing file's disk is made first: alone, the image does not open it. */
int image_commit(struct tool *t)
{
	struct tool_image i = {
		.path = t->o->words.items[0], .format = t->o->format, .write = true, .alone = true};
	struct tool_image below = {.write = true};
	CLEANUP_FREE char *path = NULL;
	struct blk *from, *to;
	int rc = tool_open(t, &from, &i);

	if (rc)
		return rc;
	rc = tool_backing(t, i.path, &path, &below.format);
	below.path = path;
	if (!rc && !path)
		rc = fail(EINVAL, "%s: has no backing file", i.path);
	rc = rc ? rc : tool_open(t, &to, &below);
	if (!rc) {
		rc = copy(t, from, to);
		blk_destroy(to);
	}
	blk_destroy(from);
	return rc;
}
