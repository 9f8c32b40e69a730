// SPDX-License-Identifier: MIT
#include "blk/qcow2_flags.h"
#include "blk/qcow2_refs.h"

#include <errno.h>

/* 1 more than what is a mistake: a flag that is missing costs a copy and breaks nothing. */
static bool is_broken(const struct qcow2_report *r)
{
	return r->check_errors || r->corruptions > r->flags;
}

static int look(struct qcow2_count **out, struct blk *file, struct qcow2_report *report)
{
	int rc = qcow2_count_open(out, file, report);

	rc = rc ? rc : qcow2_count_walk(*out);
	rc = rc ? rc : qcow2_refs_pass(*out, QCOW2_REFS_TELL);
	return rc ? rc : qcow2_flags_pass(*out, QCOW2_FLAGS_TELL);
}

static int repair_all(struct qcow2_count *c)
{
	int rc = qcow2_refs_grow(c, !c->doubt);

	rc = rc ? rc
		: qcow2_refs_pass(c,
			  QCOW2_REFS_RAISE | QCOW2_REFS_WRITE | (c->doubt ? 0 : QCOW2_REFS_LOWER));
	return rc ? rc : qcow2_flags_pass(c, QCOW2_FLAGS_CLEAR | QCOW2_FLAGS_SET);
}

static int repair_leaks(struct qcow2_count *c)
{
	int rc = qcow2_refs_pass(c, QCOW2_REFS_LOWER | QCOW2_REFS_WRITE);

	if (rc || is_broken(c->report))
		return rc;
	return qcow2_flags_pass(c, QCOW2_FLAGS_CLEAR | QCOW2_FLAGS_SET);
}

static int repair(struct qcow2_count *c, enum qcow2_repair what)
{
	int rc = 0;

	/* What could not be read may refer to anything. */
	if (c->report->check_errors)
		return 0;
	if (!c->report->corruptions && !c->report->leaks)
		return 0;
	rc = qcow2_header_prepare(c->file, &c->h);
	if (rc)
		return rc;
	if (what == QCOW2_REPAIR_ALL)
		return repair_all(c);
	return c->doubt ? 0 : repair_leaks(c);
}

static void clear_marks(uint8_t *sector, const void *arg)
{
	const struct qcow2_header *h = arg;

	put_be64(sector + QCOW2_AT_INCOMPATIBLE, h->incompatible & ~(QCOW2_DIRTY | QCOW2_CORRUPT));
}

/* What is there now. Nobody is told a second time. */
static int look_again(struct qcow2_report *out, struct blk *file)
{
	struct qcow2_report before = *out;
	struct qcow2_count *c = NULL;
	int rc;

	*out = (struct qcow2_report){0};
	rc = look(&c, file, out);
	if (!rc && !out->check_errors && !out->corruptions &&
		c->h.incompatible & (QCOW2_DIRTY | QCOW2_CORRUPT))
		rc = qcow2_header_write(file, clear_marks, &c->h);
	qcow2_count_close(c);
	out->found = before.found;
	out->arg = before.arg;
	if (before.corruptions > out->corruptions)
		out->corruptions_fixed = before.corruptions - out->corruptions;
	if (before.leaks > out->leaks)
		out->leaks_fixed = before.leaks - out->leaks;
	return rc;
}

int qcow2_check(struct qcow2_report *out, struct blk *file, enum qcow2_repair what)
{
	struct qcow2_count *c = NULL;
	int rc;

	*out = (struct qcow2_report){.found = out->found, .arg = out->arg};
	rc = look(&c, file, out);
	if (!rc && what)
		rc = repair(c, what);
	qcow2_count_close(c);
	return rc || !what ? rc : look_again(out, file);
}
