// SPDX-License-Identifier: MIT
#include "blk/commit.h"

#include "base/log.h"
#include "blk/lock.h"
#include "blk/now.h"
#include "blk/qcow2.h"
#include "blk/raw.h"

#include <errno.h>
#include <stddef.h>

/* Where the lock of an image's own file is; NULL: there is no such file. */
static int *lock_of(struct blk *b)
{
	struct blk *file = b ? qcow2_file(b) : NULL;

	return b ? raw_lock(file ? file : b) : NULL;
}

static int check(struct blk *b, struct blk *target)
{
	struct blk *backing = qcow2_backing(b);

	if (!lock_of(backing) || !lock_of(target))
		return fail(ENOTSUP,
			"disk %s: has no backing file, raw or qcow2, that it could be brought to",
			b->name);
	if (target->size != b->size)
		return fail(EINVAL, "disk %s: has %llu bytes, and its backing file %s %llu",
			b->name, (unsigned long long)b->size, backing->name,
			(unsigned long long)target->size);
	return 0;
}

int commit_prepare(struct blk *b)
{
	struct blk *backing = qcow2_backing(b);
	int rc = backing && !backing->read_only ? blk_flush_now(backing) : 0;

	return rc ? failno(-rc, "disk %s: what was written cannot be made durable", backing->name)
		  : 0;
}

int commit_begin(struct blk *b, struct blk *target)
{
	struct blk *backing = qcow2_backing(b);
	int rc = check(b, target), *from, *to, had;

	if (rc)
		return rc;
	from = lock_of(backing);
	to = lock_of(target);
	rc = *from > 0 ? lock_raise(*from, backing->name) : 0;
	if (rc)
		return rc;
	had = *to;
	*to = *from;
	*from = had;
	qcow2_stand_on(b, target);
	blk_destroy(backing);
	return 0;
}

void commit_cancel(struct blk *b)
{
	const int *lock = lock_of(qcow2_backing(b));

	if (lock && *lock > 0)
		lock_lower(*lock);
}

void commit_end(struct blk *b)
{
	qcow2_stand_on(b, NULL);
}
