// SPDX-License-Identifier: MIT
// Disks of the files of a chain, from the last backing file up.
#include "blk/chain_parts.h"

#include "base/util.h"
#include "blk/qcow2.h"

#include <stdlib.h>

struct make {
	struct chain *chain;
	struct blk_engine *engine;
	struct decompressor *decompressor;
};

/* A file's disk has its descriptors and its name from now on. */
static int make_file(
	const struct make *m, unsigned n, bool read_only, bool holds_format, struct blk **out)
{
	struct chain_file *f = &m->chain->file[n];
	const struct raw_config raw = {.name = f->name,
		.own_name = f->name,
		.fd = f->fd,
		.lock_fd = f->lock,
		.read_only = read_only,
		.cache = m->chain->o.cache,
		.holds_format = holds_format};
	int rc = raw_create(out, m->engine, &raw);

	if (rc)
		return rc;
	f->fd = -1;
	f->lock = 0;
	f->name = NULL;
	return 0;
}

/* *b is its backing file's disk, and its own on success. */
static int make_qcow2(
	const struct make *m, const struct chain_image *i, bool read_only, struct blk **b)
{
	const struct qcow2_config c = {.read_only = read_only, .decompressor = m->decompressor};
	struct blk *file;
	int rc = make_file(m, i->own, read_only, true, &file);

	if (rc)
		return rc;
	rc = qcow2_open(b, file, *b, &c);
	if (rc)
		blk_destroy(file);
	return rc;
}

static int make_extents(
	const struct make *m, const struct chain_image *i, bool read_only, struct blk **extents)
{
	unsigned named = i->own;
	int rc = 0;

	for (unsigned n = 0; n < i->vmdk->count && !rc; n++) {
		const struct vmdk_extent *x = &i->vmdk->extent[n];

		if (x->kind != VMDK_ZERO && x->name[0])
			rc = make_file(m, ++named, read_only || x->read_only,
				x->kind == VMDK_SPARSE, &extents[n]);
	}
	return rc;
}

static int make_vmdk(
	const struct make *m, const struct chain_image *i, bool read_only, struct blk **b)
{
	const struct vmdk_config c = {.read_only = read_only, .decompressor = m->decompressor};
	struct blk *file, *extents[VMDK_EXTENTS_MAX] = {NULL};
	int rc = make_file(m, i->own, read_only, true, &file);

	if (rc)
		return rc;
	rc = make_extents(m, i, read_only, extents);
	rc = rc ? rc : vmdk_open(b, file, i->vmdk, extents, &c);
	if (!rc)
		return 0;
	for (unsigned n = 0; n < i->vmdk->count; n++)
		blk_destroy(extents[n]);
	blk_destroy(file);
	return rc;
}

static int make_image(const struct make *m, unsigned n, struct blk **b)
{
	const struct chain_image *i = &m->chain->image[n];
	bool read_only = n || m->chain->o.read_only;

	if (i->format == IMAGE_QCOW2)
		return make_qcow2(m, i, read_only, b);
	if (i->format == IMAGE_VMDK)
		return make_vmdk(m, i, read_only, b);
	return make_file(m, i->own, read_only, false, b);
}

int chain_create(struct blk **out, struct chain *c, struct blk_engine *e, struct decompressor *d)
{
	const struct make m = {c, e, d};
	struct blk *b = NULL;
	int rc = 0;

	if (c->left)
		rc = c->o.instead(&b);
	for (unsigned n = c->images; n-- && !rc;)
		rc = make_image(&m, n, &b);
	if (rc)
		blk_destroy(b);
	else
		*out = b;
	chain_close(c);
	return rc;
}
