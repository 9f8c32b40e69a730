// SPDX-License-Identifier: MIT
// kvick image create
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "cli/image/new.h"
#include "cli/image/target.h"

#include <errno.h>

/* What is not said of the new image is taken from its backing file, which is to be one. Only the
 * image itself is opened: nothing that it names is of use here. */
static int look_at_backing(struct tool *t, struct new_image *n)
{
	const struct image_options *o = t->o;
	CLEANUP_FREE char *path = tool_beside(o->words.items[0], o->backing);
	struct tool_image i = {.path = path, .format = o->backing_format, .alone = true};
	struct chain *c;
	struct blk *b;
	int rc = path ? tool_chain(t, &c, &i) : -ENOMEM;

	if (rc)
		return fail_context(rc, "backing file");
	n->qcow2.backing = o->backing;
	n->qcow2.backing_format = image_format_names[chain_format(c)];
	rc = chain_create(&b, c, t->engine, t->decompressor);
	if (rc)
		return fail_context(rc, "backing file");
	if (!n->qcow2.size)
		n->qcow2.size = b->size;
	blk_destroy(b);
	return 0;
}

static int make(struct tool *t, const struct new_image *n)
{
	struct target to;
	int rc = target_open(&to, t->o->words.items[0], false);

	rc = rc ? rc : new_make(t, &to, n, NULL);
	rc = rc ? rc : target_finish(&to);
	target_close(&to);
	return rc;
}

int image_create(struct tool *t)
{
	const struct image_options *o = t->o;
	struct new_image n = {.format = o->format,
		.qcow2 = {.size = o->size, .cluster_bits = tool_cluster_bits(o)}};
	int rc = 0;

	if (!n.format)
		n.format = o->backing ? IMAGE_QCOW2 : IMAGE_RAW;
	if (!o->size && !o->backing)
		return fail(EINVAL, "how large? --size, or --backing with the file to stand on");
	if (o->backing_format && !o->backing)
		return fail(EINVAL, "--backing-format says something only of --backing");
	if (!n.qcow2.cluster_bits)
		return -EINVAL;
	if (o->backing && tool_check_name(o->backing))
		return -EINVAL;
	n.qcow2.backing = o->backing;
	rc = new_check(&n);
	if (!rc && o->backing)
		rc = look_at_backing(t, &n);
	return rc ? rc : make(t, &n);
}
