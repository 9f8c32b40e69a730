// SPDX-License-Identifier: MIT
// kvick image convert
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/now.h"
#include "cli/image/new.h"
#include "cli/image/squeeze.h"
#include "cli/image/target.h"

#include <errno.h>
#include <sys/stat.h>

/* What a new file allocates at once. */
static uint64_t grain(const struct new_image *n, const struct blk *to)
{
	if (n->format == IMAGE_QCOW2)
		return 1ull << n->qcow2.cluster_bits;
	if (n->format == IMAGE_VMDK)
		return KIB(64);
	return MAX(to->physical_block, BLK_SECTOR);
}

static int copy(struct tool *t, struct copy *c)
{
	int rc;

	progress_start(&c->progress, c->from->size, !t->o->json);
	rc = t->o->compress ? squeeze_run(c, t, t->o->compress) : copy_run(c, t);
	rc = rc ? rc : blk_flush_now(c->to);
	progress_end(&c->progress);
	return rc;
}

static int report(
	struct tool *t, const struct target *to, const struct new_image *n, uint64_t moved)
{
	json_t *o = json_object();
	struct stat st;

	if (!t->o->json) {
		json_decref(o);
		return 0;
	}
	if (fstat(to->fd, &st) < 0)
		return failno(errno, "%s", to->name);
	json_add_string(&o, "filename", to->name);
	json_add_string(&o, "format", image_format_names[n->format]);
	json_add_uint(&o, "virtual-size", n->qcow2.size);
	json_add_uint(&o, "actual-size", (uint64_t)st.st_blocks * 512);
	json_add_uint(&o, "written", moved);
	return tool_print(o);
}

static int convert_to(struct tool *t, struct blk *from, const struct new_image *n)
{
	struct target to;
	struct copy c = {.from = from};
	int rc = target_open(&to, t->o->words.items[1], true);

	to.no_sync = t->o->no_sync;
	rc = rc ? rc : new_make(t, &to, n, &c.to);
	if (!rc && c.to) {
		c.fd = to.no_sync ? -1 : to.fd;
		c.grain = grain(n, c.to);
		rc = copy(t, &c);
	}
	blk_destroy(c.to);
	rc = rc ? rc : target_finish(&to);
	rc = rc ? rc : report(t, &to, n, c.written);
	target_close(&to);
	return rc;
}

int image_convert(struct tool *t)
{
	const struct image_options *o = t->o;
	const struct tool_image i = {.path = o->words.items[0], .format = o->from};
	struct new_image n = {.format = o->to ? o->to : IMAGE_RAW,
		.qcow2 = {.cluster_bits = tool_cluster_bits(o),
			.zstd = o->compress == COMPRESS_ZSTD}};
	struct blk *from;
	int rc;

	if (!n.qcow2.cluster_bits)
		return -EINVAL;
	if (o->compress && n.format != IMAGE_QCOW2)
		return fail(EINVAL, "--compress is for --to qcow2");
	rc = tool_open(t, &from, &i);
	if (rc)
		return rc;
	n.qcow2.size = from->size;
	rc = new_check(&n);
	rc = rc ? rc : convert_to(t, from, &n);
	blk_destroy(from);
	return rc;
}
