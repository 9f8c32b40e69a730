// SPDX-License-Identifier: MIT
// A vmdk's files, opened from the working directory, and zlib for those that are compressed.
#ifndef TESTS_UNIT_VMDK_OPEN_H
#define TESTS_UNIT_VMDK_OPEN_H

#include "tests/unit/image_file.h"

#include "base/util.h"
#include "blk/decompress.h"
#include "blk/layer.h"
#include "blk/vmdk.h"

#include <errno.h>
#include <sys/mman.h>
#include <zlib.h>

/* Jobs wait until the loop's turn, or until they are drained. */
struct unzip {
	struct decompressor decompressor;
	struct loop *loop;
	struct timer timer;
	struct decompress_job *first;
	void *given[64];
	size_t given_len[64];
	unsigned count;
	unsigned jobs; /* done */
};

static inline int unzip_drain(struct decompressor *d)
{
	struct unzip *u = container_of(d, struct unzip, decompressor);
	struct decompress_job *j;

	while ((j = u->first)) {
		uLongf len = j->to_len;
		int rc;

		u->first = j->next;
		u->jobs++;
		assert_int_equal(j->kind, DECOMPRESS_ZLIB);
		rc = uncompress(j->to, &len, j->from, j->from_len);
		j->done(j, rc == Z_OK && len == j->to_len ? 0 : -EINVAL);
	}
	return 0;
}

static inline void unzip_fired(void *arg)
{
	struct unzip *u = arg;

	unzip_drain(&u->decompressor);
}

static inline void unzip_submit(struct decompressor *d, struct decompress_job *j)
{
	struct unzip *u = container_of(d, struct unzip, decompressor);

	j->next = u->first;
	u->first = j;
	if (!u->timer.at_ns)
		loop_arm(u->loop, &u->timer, 0);
}

static inline void *unzip_buffer(struct decompressor *d, size_t len)
{
	struct unzip *u = container_of(d, struct unzip, decompressor);
	void *p;

	if (u->count == ARRAY_SIZE(u->given))
		return NULL;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(p != MAP_FAILED);
	u->given_len[u->count] = len;
	u->given[u->count++] = p;
	return p;
}

static inline void unzip_init(struct unzip *u, struct loop *loop)
{
	*u = (struct unzip){
		.decompressor = {unzip_submit, unzip_drain, unzip_buffer}, .loop = loop};
	u->timer = TIMER_INIT(unzip_fired, u);
}

static inline void unzip_finish(struct unzip *u)
{
	loop_disarm(u->loop, &u->timer);
	while (u->count--)
		munmap(u->given[u->count], u->given_len[u->count]);
}

/* 0 or what failed. */
static inline int vmdk_open_files(
	struct blk **out, struct blk_engine *e, const char *name, const struct vmdk_config *c)
{
	static struct vmdk_info info;
	struct blk *file = image_file(e, name, true, 0), *extents[VMDK_EXTENTS_MAX] = {NULL};
	int rc = vmdk_look(&info, file);

	for (unsigned i = 0; !rc && i < info.count; i++)
		if (*info.extent[i].name)
			extents[i] = image_file(
				e, info.extent[i].name, info.extent[i].kind != VMDK_FLAT, 0);
	rc = rc ? rc : vmdk_open(out, file, &info, extents, c);
	if (!rc)
		return 0;
	blk_destroy(file);
	for (unsigned i = 0; i < ARRAY_SIZE(extents); i++)
		blk_destroy(extents[i]);
	return rc;
}

#endif
