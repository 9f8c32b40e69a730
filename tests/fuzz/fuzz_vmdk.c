// SPDX-License-Identifier: MIT
// vmdk images of random bytes, which are opened, read and written: each request is completed once,
// and of an image that is as it should be what was written is read.
//
// The input is a header (what the file is, how many requests), requests of four bytes, and then the
// file as it is, or changes to one that is made here: to its header, descriptor, directories and
// tables, so that more than the first check is met.
#include "base/log.h"
#include "tests/fuzz/memory_file.h"
#include "tests/unit/vmdk_image.h"

#include <errno.h>
#include <stdlib.h>

#define ROOM KIB(256)
#define BASE_MAX KIB(128)
#define REQUESTS 24u
#define DATA_MAX KIB(48)
#define AT_ONCE 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct vmdk_shape shapes[] = {
	{1000, 8, 128, VMDK_REDUNDANT, false},
	{5000, 8, 128, VMDK_REDUNDANT | VMDK_ZEROED, true},
	{70000, 128, 512, 0, false},
	{3000, 16, 256, VMDK_COMPRESSED | VMDK_MARKERS, false},
};

struct one {
	struct blk_request r;
	struct iovec iov[2];
	bool busy;
	int rc;
	uint8_t data[DATA_MAX];
};

/* What is written to a sound image always finds room. */
static uint8_t image[ROOM + REQUESTS * KIB(128)], extent_image[ROOM], extent_bytes[2 * ROOM],
	room[MIB(4)];
static struct memory_file own_file = {.bytes = image, .room = sizeof(image)};
static struct memory_file extent_file = {.bytes = extent_bytes, .room = sizeof(extent_bytes)};
static size_t given, dirty; /* bytes: of `room`, and of `image` that may not be 0 */
static struct one ones[AT_ONCE];

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* ---- a decompressor that believes anything but what begins with an odd byte ---- */

static void unpack(struct decompressor *d, struct decompress_job *j)
{
	const uint8_t *from = j->from;
	bool bad = from[0] & 1;

	check(j->from_len > 0 && j->from_len <= sizeof(room) && j->to_len <= MIB(1));
	memset(j->to, from[j->from_len - 1], j->to_len);
	j->done(j, bad ? -EINVAL : 0);
}

static int unpack_drain(struct decompressor *d)
{
	return 0;
}

static void *unpack_buffer(struct decompressor *d, size_t len)
{
	uint8_t *p = room + given;

	if (len > sizeof(room) - given)
		return NULL;
	given += len;
	return p;
}

/* ---- the file ---- */

/* A change: what, where (16 bits), how many bytes, the bytes. Returns how long it was. */
static size_t change(const struct vmdk_shape *s, const uint8_t *data, size_t size)
{
	struct vmdk_places p = vmdk_places(s);
	uint32_t index = get_le16(data + 1), at = 0;
	size_t len = MIN(data[3], size - 4);

	switch (data[0] % 6) {
	case 0:
		at = index % 96;
		break;
	case 1:
		at = (uint32_t)p.gd * 512 + index % p.gdes * 4;
		break;
	case 2:
		at = (uint32_t)p.rgd * 512 + index % p.gdes * 4;
		break;
	case 3:
		at = (uint32_t)(p.gd + p.directory) * 512 + index % s->gtes * 4;
		break;
	case 4:
		at = 512 + index % 1024;
		break;
	default:
		at = index * 4 % ROOM;
	}
	memcpy(image + at, data + 4, MIN(len, ROOM - at));
	return 4 + len;
}

/* Grains are there up to some, each begins with a marker. */
static uint64_t make_base(const struct vmdk_shape *s)
{
	struct vmdk_places p = vmdk_places(s);
	uint64_t len = vmdk_put_image(image, s);

	for (unsigned i = 0; !s->no_tables && i < s->gtes && i < 8 && len < BASE_MAX; i += 2) {
		uint8_t *entry = image + (p.gd + p.directory) * 512 + i * 4;

		put_le32(entry, (uint32_t)(len / 512));
		if (s->flags & VMDK_COMPRESSED) {
			put_le64(image + len, (uint64_t)i * s->grain);
			put_le32(image + len + 8, 100);
		}
		len += s->grain * 512ull;
	}
	if (s->flags & VMDK_COMPRESSED)
		put_le16(image + 77, 1);
	return len;
}

static uint64_t make_file(uint8_t what, const uint8_t *data, size_t size)
{
	const struct vmdk_shape *s = &shapes[what >> 2 & 3];
	uint64_t len;

	memset(image, 0, MAX(dirty, own_file.len));
	if (what & 1) {
		len = MIN(size, ROOM);
		memcpy(image, data, len);
		dirty = len;
		return len;
	}
	len = make_base(s);
	dirty = size > 4 ? ROOM : len;
	while (size > 4) {
		size_t used = change(s, data, size);

		data += used;
		size -= used;
	}
	return MIN(ROOM, len + (what >> 4) * 512u);
}

/* NULL: it is none. */
static struct blk *open_image(bool read_only)
{
	static struct decompressor d = {unpack, unpack_drain, unpack_buffer};
	static struct vmdk_info info;
	const struct vmdk_config c = {read_only, &d};
	struct blk *file = memory_file_open(&own_file, true), *extents[VMDK_EXTENTS_MAX] = {NULL},
		   *b;
	int rc = vmdk_look(&info, file);

	given = 0;
	for (unsigned i = 0; !rc && i < info.count; i++) {
		check(info.extent[i].size > 0 && info.extent[i].size % BLK_SECTOR == 0);
		if (*info.extent[i].name)
			extents[i] =
				memory_file_open(&extent_file, info.extent[i].kind != VMDK_FLAT);
	}
	rc = rc ? rc : vmdk_open(&b, file, &info, extents, &c);
	if (!rc) {
		check(b->size == info.size);
		return b;
	}
	check(*last_error());
	blk_destroy(file);
	for (unsigned i = 0; i < VMDK_EXTENTS_MAX; i++)
		blk_destroy(extents[i]);
	return NULL;
}

/* ---- requests ---- */

static void done(struct blk_request *r, int rc)
{
	struct one *o = container_of(r, struct one, r);

	check(o->busy && rc <= 0);
	o->busy = false;
	o->rc = rc;
}

static void submit(struct blk *b, struct one *o, const uint8_t *data)
{
	static const enum blk_op ops[] = {
		BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES, BLK_WRITE, BLK_READ};
	enum blk_op op = ops[data[0] % ARRAY_SIZE(ops)];
	uint64_t sectors = b->size / BLK_SECTOR, at = get_le16(data + 1);

	/* Near the start, or anywhere. */
	at = data[0] & 128 ? sectors * at / 65536 : at % sectors;
	o->r = (struct blk_request){.op = op, .iov = o->iov, .done = done};
	if (op != BLK_FLUSH) {
		o->r.off = at * BLK_SECTOR;
		o->r.len = MIN(MIN(data[3] + 1u, sectors - at) * BLK_SECTOR, DATA_MAX);
	}
	if (op >= BLK_DISCARD && data[3] == 255)
		o->r.len = b->size - o->r.off;
	if (op <= BLK_WRITE) {
		o->r.iovcnt = 2;
		o->iov[0] = (struct iovec){o->data, o->r.len / 3};
		o->iov[1] = (struct iovec){o->data + o->r.len / 3, o->r.len - o->r.len / 3};
	}
	if (op == BLK_WRITE)
		memset(o->data, data[0] | 1, o->r.len);
	o->r.flags = data[0] & 64 ? BLK_FUA : 0;
	o->busy = true;
	blk_submit(b, &o->r);
}

static void settle(struct blk *b)
{
	blk_commit(b);
	check(blk_drain(b) == 0);
	for (unsigned i = 0; i < AT_ONCE; i++)
		check(!ones[i].busy);
}

static void read_back(struct blk *b, const struct one *o)
{
	static uint8_t written[DATA_MAX];

	memcpy(written, o->data, o->r.len);
	settle(b);
	check(o->rc == 0);
	ones[0].r.op = BLK_READ;
	ones[0].r.flags = 0;
	ones[0].busy = true;
	memset(ones[0].data, 0, o->r.len);
	blk_submit(b, &ones[0].r);
	settle(b);
	check(ones[0].rc == 0 && memcmp(ones[0].data, written, o->r.len) == 0);
}

static void use(struct blk *b, const uint8_t *data, unsigned n, bool sound)
{
	struct blk_extent e;
	uint64_t at = 0;

	for (unsigned i = 0; i < n; i++) {
		struct one *o = &ones[sound ? 0 : i % AT_ONCE];

		if (o->busy)
			settle(b);
		submit(b, o, data + 4 * i);
		if (sound && o->r.op == BLK_WRITE)
			read_back(b, o);
	}
	settle(b);
	for (unsigned i = 0; i < 50 && at < b->size; i++, at += e.len) {
		if (blk_map(b, at, b->size - at, &e))
			break;
		check(e.len > 0 && e.len <= b->size - at);
	}
}

static void begin(void)
{
	static bool begun;

	if (begun)
		return;
	begun = true;
	log_set_level(LOG_LEVEL_ERROR);
	vmdk_use_tools();
	check(vmdk_put_image(extent_image, &shapes[0]) <= ROOM);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned n;
	struct blk *b;

	if (size < 2)
		return 0;
	begin();
	n = MIN(data[1] % (REQUESTS + 1), (size - 2) / 4);
	own_file.len = make_file(data[0], data + 2 + 4 * n, size - 2 - 4 * n);
	own_file.backwards = data[1] & 128;
	if (data[0] & 1)
		memcpy(extent_bytes, extent_image, ROOM);
	extent_file.len = ROOM;
	b = open_image(data[0] & 2);
	if (b) {
		bool sound = !(data[0] & 1) && size <= 6 + 4 * n;

		use(b, data + 2, n, sound && !b->read_only);
		blk_destroy(b);
	}
	return 0;
}
