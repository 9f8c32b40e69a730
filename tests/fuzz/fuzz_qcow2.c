// SPDX-License-Identifier: MIT
// qcow2 images of random bytes: an image that has something of everything is patched as the input
// says, checked, opened, read, written, checked again, repaired, and has snapshots made and
// applied.
//
// What must hold: nothing crashes or goes on for long; a repair changes nothing twice; an image
// that a check calls sound is sound after any use of it. Checks cost the most by far: only some
// inputs ask for them, with the tools.
//
// The input: a byte of settings, a byte of which requests follow, then patches: a place as two
// bytes in units of two bytes, a length from 1 to 8 in the third, and as many bytes.
#include "tests/unit/qcow2_image.h"

#include "base/log.h"
#include "blk/decompress_here.h"
#include "blk/now.h"
#include "blk/qcow2_check.h"
#include "blk/qcow2_snapshot.h"
#include "tests/fuzz/memory_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUESTS 6u

/* What the first byte of an input asks for. Without TOOLS the image is used, and that is all. */
enum {
	LARGE = 1,
	READ_ONLY = 2,
	BACKWARDS = 4,
	TOOLS = 8,
	CHECK = 16,
	SNAPSHOTS = 32,
	USE = 64,
	REPAIR = 128,
};

static uint8_t bytes[2 * QI_BYTES];
static struct memory_file image_file = {.bytes = bytes, .room = sizeof(bytes)};
static struct decompressor *unpacker;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void start(void)
{
	if (unpacker)
		return;
	log_set_level(LOG_LEVEL_ERROR);
	check(decompress_here_create(&unpacker) == 0);
}

static struct blk *disk_of(void)
{
	return memory_file_open(&image_file, true);
}

static void print(void *arg, const char *line)
{
	fprintf(stderr, "%s: %s\n", (const char *)arg, line);
}

/* What is there that must not be; ends the program. */
static void complain(struct blk *file, const char *when)
{
	struct qcow2_report r = {.found = print, .arg = (void *)(uintptr_t)when};

	qcow2_check(&r, file, QCOW2_REPAIR_NOTHING);
	abort();
}

/* Whether it is sound; where it was before, it must be. */
static bool is_sound(bool before, const char *after)
{
	struct blk *file = disk_of();
	struct qcow2_report r = {0};
	int rc = qcow2_check(&r, file, QCOW2_REPAIR_NOTHING);
	bool sound = rc == 0 && !r.corruptions && !r.check_errors;

	if (before && !sound)
		complain(file, after);
	blk_destroy(file);
	return sound;
}

/* One may make room at the file's end for what the next then finds in the file; no more than that.
 */
static void repair(void)
{
	struct blk *file = disk_of();

	for (unsigned i = 0; i < 4; i++) {
		struct qcow2_report r = {0};
		int rc = qcow2_check(&r, file, QCOW2_REPAIR_ALL);

		/* A table that the file's end cut off may be in the file then, and refer to more
		 * than there is room for. */
		check(i == 0 || rc == 0 || rc == -EFBIG);
		if (rc || !(r.corruptions_fixed + r.leaks_fixed)) {
			blk_destroy(file);
			return;
		}
	}
	complain(file, "after four repairs");
}

static void request(struct blk *b, unsigned what, uint64_t where)
{
	static uint8_t buf[KIB(16)];
	uint64_t off = b->size ? where * 0x9e3779b97f4a7c15u % b->size & ~511ull : 0;
	uint64_t len = MIN(512 + (where * 512 & 0x3fff), MIN(sizeof(buf), b->size - off)) & ~511ull;

	switch (what % 6) {
	case 0:
	case 1:
		blk_read_now(b, off, buf, len);
		break;
	case 2:
		memset(buf, (int)where, len);
		blk_write_now(b, off, buf, len);
		break;
	case 3:
		blk_clear_now(b, BLK_WRITE_ZEROES, where & 1 ? BLK_UNMAP : 0, off, len);
		break;
	case 4:
		blk_clear_now(b, BLK_DISCARD, 0, off,
			MAX(len, KIB(4)) <= b->size - off ? MAX(len, KIB(4)) : len);
		break;
	default:
		blk_flush_now(b);
	}
}

/* The start and the end of the disk, where the tables are, and what the input says. */
static void use(const uint8_t *data, size_t size, bool read_only)
{
	const struct qcow2_config c = {.read_only = read_only, .decompressor = unpacker};
	struct blk *file = disk_of(), *b;

	if (qcow2_open(&b, file, NULL, &c)) {
		blk_destroy(file);
		return;
	}
	for (unsigned i = 0; i < 8; i++)
		request(b, 0, i);
	for (unsigned i = 0; i < REQUESTS && i < size; i++)
		request(b, data[i], data[i] / 6u);
	blk_destroy(b);
}

static void snapshots(unsigned what)
{
	struct blk *file = disk_of();
	struct qcow2_snapshots s;

	if (qcow2_snapshot_list(&s, file) == 0)
		qcow2_snapshot_finish(&s);
	if (what & 1)
		qcow2_snapshot_create(file, "new", 1, 2);
	if (what & 2)
		qcow2_snapshot_apply(file, "first");
	if (what & 4)
		qcow2_snapshot_delete(file, "first");
	blk_destroy(file);
}

static void patch(struct qcow2_image *image, const uint8_t *data, size_t size)
{
	size_t len = (size_t)QI_CLUSTERS << image->bits;

	while (size > 3) {
		size_t at = (data[0] | (size_t)data[1] << 8) * 2 % len;
		size_t n = MIN(1 + (data[2] & 7u), MIN(size - 3, len - at));

		memcpy(image->bytes + at, data + 3, n);
		data += 3 + n;
		size -= 3 + n;
	}
}

static void reduce(unsigned at, uint32_t limit)
{
	put_be32(bytes + at, get_be32(bytes + at) % limit);
}

/* Tables of millions of entries take their time, whatever is in them: one input in 16 may have
 * them. */
static void make_tables_small(void)
{
	reduce(QCOW2_AT_REFS_CLUSTERS, 16);
	reduce(QCOW2_AT_L1_ENTRIES, 1024);
	reduce(QCOW2_AT_SNAPSHOTS, 32);
}

static void use_with_tools(const uint8_t *data)
{
	bool sound = data[0] & CHECK && is_sound(false, NULL);

	if (data[0] & SNAPSHOTS)
		snapshots(data[1]);
	if (sound && data[0] & SNAPSHOTS)
		is_sound(sound, "after snapshots");
	if (data[0] & USE)
		use(data + 2, REQUESTS, data[0] & READ_ONLY);
	if (sound && data[0] & USE)
		is_sound(sound, "after use");
	if (data[0] & REPAIR)
		repair();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_image image = {bytes, 9};

	if (size < 2 + REQUESTS)
		return 0;
	start();
	image.bits = data[0] & LARGE ? 12 : 9;
	qi_make(&image);
	image_file.len = (size_t)QI_CLUSTERS << image.bits;
	image_file.backwards = data[0] & BACKWARDS;
	patch(&image, data + 2 + REQUESTS, size - 2 - REQUESTS);
	if (data[1] < 0xf0)
		make_tables_small();
	if (data[0] & TOOLS)
		use_with_tools(data);
	else
		use(data + 2, REQUESTS, data[0] & READ_ONLY);
	return 0;
}
