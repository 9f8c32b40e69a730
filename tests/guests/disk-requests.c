// SPDX-License-Identifier: MIT
// Each kind of request to a disk, cut into descriptors in every way, and each way to get one wrong
// (virtio 1.2, 5.2.6): what is answered, that nothing else is changed, and that the disk goes on.
//
// The disk has 2 MiB. Words of the command line: `ro` where it is read-only, `pieces` for all ways
// to cut a request.
#include "tests/guests/disk.h"

#include <string.h>

#define SIZE 256u /* of the ring, the device's largest */
#define CHUNK KIB(64)
#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP
#define IN VIRTIO_BLK_T_IN
#define OUT VIRTIO_BLK_T_OUT
#define DISCARD VIRTIO_BLK_T_DISCARD
#define ZEROES VIRTIO_BLK_T_WRITE_ZEROES
#define UNMAP VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define W VRING_DESC_F_WRITE

static struct disk disk;
static uint8_t *data, *was; /* CHUNK bytes each */
static bool read_only;

/* ---- A chain by hand, in the ring or in a table ---- */

static struct {
	struct virtio_blk_outhdr hdr;
	struct virtio_blk_discard_write_zeroes range[3];
	uint8_t status;
	struct vring_desc *table; /* VIRTIO_SIZE_MAX of them */
	unsigned n;
} hand;

static void begin(uint32_t type, uint64_t sector)
{
	hand.hdr = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	hand.status = DISK_NO_STATUS;
	hand.n = 0;
}

static void piece(const void *at, uint32_t len, unsigned flags)
{
	CHECK(hand.n < VIRTIO_SIZE_MAX);
	if (hand.n)
		hand.table[hand.n - 1].flags |= VRING_DESC_F_NEXT;
	hand.table[hand.n] = (struct vring_desc){.addr = (uint64_t)at,
		.len = len,
		.flags = (uint16_t)flags,
		.next = (uint16_t)(hand.n + 1)};
	hand.n++;
}

static void header(void)
{
	piece(&hand.hdr, sizeof(hand.hdr), 0);
}

static void status(void)
{
	piece(&hand.status, 1, W);
}

/* `len` bytes in pieces of `most` at most. */
static void pieces(void *at, uint32_t len, uint32_t most, unsigned flags)
{
	char *p = at;

	while (len) {
		uint32_t part = len < most ? len : most;

		piece(p, part, flags);
		p += part;
		len -= part;
	}
}

static void offer(bool indirect)
{
	struct ring *r = &disk.queue[0].ring;

	if (indirect)
		ring_desc(r, 0, hand.table, hand.n * (uint32_t)sizeof(hand.table[0]),
			VRING_DESC_F_INDIRECT);
	else
		memcpy(r->desc, hand.table, hand.n * sizeof(hand.table[0]));
	ring_offer(r, 0);
	ring_kick(r);
}

static uint8_t send(bool indirect)
{
	uint32_t head;

	offer(indirect);
	ring_wait(&disk.queue[0].ring, &head);
	return hand.status;
}

/* ---- The disk as it should be ---- */

static void start(void)
{
	disk_start(&disk, disk_features(&disk) | RING_INDIRECT | RING_EVENT, 1, SIZE, 1);
}

static void fill(uint8_t *to, size_t len, uint8_t from)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(from + i * 7 + i / 251);
}

/* All that a request which fails may touch is as before. */
static void unchanged(void)
{
	CHECK_EQUAL(disk_do(&disk, IN, 0, data, CHUNK), OK);
	CHECK(!memcmp(data, was, CHUNK));
}

/* Also where a request was made that has changed the data in memory. */
static void answers(uint8_t got, uint8_t want)
{
	CHECK_EQUAL(got, want);
	CHECK(!virtio_broken(&disk.v));
	unchanged();
}

/* The device gives up, and nothing is told of the request but that. */
static void gives_up(bool indirect)
{
	uint16_t used = disk.queue[0].ring.used->idx;

	offer(indirect);
	while (!virtio_broken(&disk.v))
		relax();
	CHECK_EQUAL(hand.status, DISK_NO_STATUS);
	CHECK_EQUAL(disk.queue[0].ring.used->idx, used);
	start();
	unchanged();
}

/* ---- What is right ---- */

static void written_is_read(void)
{
	for (uint64_t at = 0; at < disk.sectors; at += CHUNK / DISK_SECTOR) {
		fill(data, CHUNK, (uint8_t)(at / 128));
		CHECK_EQUAL(disk_do(&disk, OUT, at, data, CHUNK), OK);
	}
	for (uint64_t at = 0; at < disk.sectors; at += CHUNK / DISK_SECTOR) {
		fill(was, CHUNK, (uint8_t)(at / 128));
		CHECK_EQUAL(disk_do(&disk, IN, at, data, CHUNK), OK);
		CHECK_EQUAL(disk.queue[0].slot[0].written, CHUNK + 1);
		CHECK(!memcmp(data, was, CHUNK));
	}
	CHECK_EQUAL(disk_do(&disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), OK);
	fill(was, CHUNK, 0);
}

static void restore(void)
{
	memcpy(data, was, CHUNK);
	CHECK_EQUAL(disk_do(&disk, OUT, 0, data, CHUNK), OK);
}

/* What lies beside the range is as it was. */
static void zeroes(void)
{
	const uint32_t from = 3 * DISK_SECTOR;

	for (uint32_t n = 1; n < 100; n += 5) {
		uint32_t to = from + n * DISK_SECTOR;

		CHECK_EQUAL(disk_range(&disk, ZEROES, 3, n, n % 2 ? UNMAP : 0), OK);
		CHECK_EQUAL(disk_do(&disk, IN, 0, data, CHUNK), OK);
		CHECK(!memcmp(data, was, from));
		for (uint32_t i = from; i < to; i++)
			CHECK_EQUAL(data[i], 0);
		CHECK(!memcmp(data + to, was + to, CHUNK - to));
		restore();
	}
}

static void discard(void)
{
	CHECK_EQUAL(disk_range(&disk, DISCARD, 5, 50, 0), OK);
	CHECK_EQUAL(disk_do(&disk, IN, 0, data, CHUNK), OK);
	CHECK(!memcmp(data, was, 5 * DISK_SECTOR));
	CHECK(!memcmp(data + 55 * DISK_SECTOR, was + 55 * DISK_SECTOR, CHUNK - 55 * DISK_SECTOR));
	CHECK_EQUAL(disk_range(&disk, DISCARD, 0, (uint32_t)disk.sectors, 0), OK);
	restore();
	unchanged();
}

static void name(void)
{
	static const char serial[VIRTIO_BLK_ID_BYTES] = "serial-of-the-disk";

	for (uint32_t room = 1; room <= 64; room++) {
		uint32_t n = room < sizeof(serial) ? room : (uint32_t)sizeof(serial);

		memset(data, 0x55, 80);
		CHECK_EQUAL(disk_do(&disk, VIRTIO_BLK_T_GET_ID, 0, data, room), OK);
		CHECK(!memcmp(data, serial, n));
		CHECK_EQUAL(data[n], 0x55);
	}
}

/* ---- Cut anywhere: 2.7.4.1 ---- */

#define BYTES (3 * DISK_SECTOR)
#define ELSEWHERE (CHUNK / DISK_SECTOR + 1) /* a sector that unchanged() does not look at */

/* The header in pieces of `cut` bytes, the data in pieces of `part`. */
static void read_cut(uint32_t cut, uint32_t part, bool indirect)
{
	memset(data, 0, BYTES);
	begin(IN, 1);
	pieces(&hand.hdr, sizeof(hand.hdr), cut, 0);
	pieces(data, BYTES, part, W);
	status();
	CHECK_EQUAL(send(indirect), OK);
	CHECK(!memcmp(data, was + DISK_SECTOR, BYTES));
}

static void write_cut(uint32_t cut, uint32_t part, bool indirect)
{
	fill(data, BYTES, (uint8_t)(cut * 31 + part));
	begin(OUT, ELSEWHERE);
	pieces(&hand.hdr, sizeof(hand.hdr), cut, 0);
	pieces(data, BYTES, part, 0);
	status();
	CHECK_EQUAL(send(indirect), OK);
	CHECK_EQUAL(disk_do(&disk, IN, ELSEWHERE, data + BYTES, BYTES), OK);
	CHECK(!memcmp(data, data + BYTES, BYTES));
}

static void cut_anywhere(void)
{
	for (uint32_t cut = 1; cut <= sizeof(hand.hdr); cut++)
		for (uint32_t part = 7; part <= BYTES; part += told("pieces") ? 1 : 101) {
			read_cut(cut, part, part % 2);
			if (!read_only)
				write_cut(cut, part, part % 2);
		}
}

/* Header and data of a write in one, data and status of a read in one. */
static void joined(void)
{
	begin(IN, 1);
	header();
	piece(data, DISK_SECTOR + 1, W);
	data[DISK_SECTOR] = DISK_NO_STATUS;
	send(false);
	CHECK_EQUAL(data[DISK_SECTOR], OK);
	CHECK(!memcmp(data, was + DISK_SECTOR, DISK_SECTOR));
	begin(OUT, 1);
	memcpy(data, &hand.hdr, sizeof(hand.hdr));
	memcpy(data + sizeof(hand.hdr), was + DISK_SECTOR, DISK_SECTOR);
	piece(data, DISK_SECTOR + sizeof(hand.hdr), 0);
	status();
	answers(send(false), read_only ? IOERR : OK);
}

/* As many pieces as seg_max says and the ring has, and one more, which no ring can have. */
static void longest(void)
{
	uint32_t seg_max = mmio_read(virtio_config(&disk.v) + 12);
	uint32_t len = seg_max * DISK_SECTOR;

	CHECK_EQUAL(seg_max, SIZE - 2);
	for (unsigned indirect = 0; indirect < 2; indirect++) {
		begin(IN, 0);
		header();
		for (uint32_t i = 0; i < seg_max; i++)
			piece(data + i % 100 * DISK_SECTOR, DISK_SECTOR, W);
		status();
		answers(send(indirect), OK);
	}
	CHECK(len <= disk.sectors * DISK_SECTOR);
	begin(IN, 0);
	header();
	for (uint32_t i = 0; i < seg_max + 1; i++)
		piece(data, DISK_SECTOR, W);
	status();
	gives_up(true);
}

static void segment_cut_anywhere(void)
{
	for (uint32_t part = 1; part <= sizeof(hand.range[0]); part++) {
		begin(ZEROES, 0);
		hand.range[0] =
			(struct virtio_blk_discard_write_zeroes){.sector = 1, .num_sectors = 1};
		header();
		pieces(&hand.range[0], sizeof(hand.range[0]), part, 0);
		status();
		CHECK_EQUAL(send(part % 2), OK);
	}
	memset(was + DISK_SECTOR, 0, DISK_SECTOR);
	unchanged();
}

/* ---- What is wrong ---- */

static void unknown_types(void)
{
	const uint32_t types[] = {
		2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 16, 0x80000000, 0x80000001, UINT32_MAX};

	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		answers(disk_do(&disk, types[i], 0, data, DISK_SECTOR), UNSUPP);
		answers(disk_do(&disk, types[i], 0, NULL, 0), UNSUPP);
	}
}

static void no_header(void)
{
	for (uint32_t len = 1; len < sizeof(hand.hdr); len++) {
		begin(IN, 0);
		piece(&hand.hdr, len, 0);
		status();
		gives_up(false);
	}
	begin(IN, 0);
	status();
	gives_up(false);
}

static void no_status(void)
{
	begin(OUT, 0);
	header();
	gives_up(false);
	begin(OUT, 0);
	header();
	piece(data, DISK_SECTOR, 0);
	gives_up(true);
}

static void bad_lengths(void)
{
	const uint32_t lengths[] = {0, 1, 511, 513, 1023, CHUNK - 1};

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		answers(disk_do(&disk, IN, 0, data, lengths[i]), IOERR);
		answers(disk_do(&disk, OUT, 0, data, lengths[i]), IOERR);
	}
}

static void wrong_directions(void)
{
	for (uint32_t type = IN; type <= OUT; type++)
		for (unsigned which = 1; which < 4; which++) {
			if (which == (type == IN ? 2 : 1))
				continue;
			begin(type, 0);
			header();
			if (which & 1)
				piece(data, DISK_SECTOR, 0);
			if (which & 2)
				piece(data + DISK_SECTOR, DISK_SECTOR, W);
			status();
			answers(send(false), IOERR);
		}
}

static void past_the_end(void)
{
	const uint64_t sectors[] = {disk.sectors - 1, disk.sectors, disk.sectors + 1, 1ull << 32,
		1ull << 54, (1ull << 55) - 1, 1ull << 55, (1ull << 55) + 1, 1ull << 63,
		UINT64_MAX - 1, UINT64_MAX};

	for (unsigned i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
		answers(disk_do(&disk, IN, sectors[i], data, 2 * DISK_SECTOR), IOERR);
		answers(disk_do(&disk, OUT, sectors[i], data, 2 * DISK_SECTOR), IOERR);
		if (read_only)
			continue;
		answers(disk_range(&disk, ZEROES, sectors[i], 2, 0), IOERR);
		answers(disk_range(&disk, DISCARD, sectors[i], 2, 0), IOERR);
	}
}

static void bad_ranges(void)
{
	for (uint32_t type = DISCARD; type <= ZEROES; type += ZEROES - DISCARD) {
		answers(disk_range(&disk, type, 0, 0, 0), IOERR);
		answers(disk_range(&disk, type, 0, UINT32_MAX, 0), IOERR);
		answers(disk_range(&disk, type, 1, (uint32_t)disk.sectors, 0), IOERR);
		answers(disk_range(&disk, type, UINT64_MAX, UINT32_MAX, 0), IOERR);
		for (unsigned bit = type == DISCARD ? 0 : 1; bit < 32; bit++)
			answers(disk_range(&disk, type, 0, 1, 1u << bit), UNSUPP);
	}
}

/* More segments than one, which is the most that this device says it takes; parts of one; and data
 * beside it. */
static void bad_segments(void)
{
	const uint32_t lengths[] = {1, 8, 15, 17, 31, 32, 48};

	for (uint32_t type = DISCARD; type <= ZEROES; type += ZEROES - DISCARD)
		for (unsigned i = 0; i <= sizeof(lengths) / sizeof(lengths[0]); i++) {
			begin(type, 0);
			memset(hand.range, 0, sizeof(hand.range));
			hand.range[0].num_sectors = hand.range[1].num_sectors = 1;
			header();
			piece(hand.range, i ? lengths[i - 1] : 16, 0);
			if (!i)
				piece(data, 16, W);
			status();
			answers(send(false), IOERR);
		}
}

static void refused_if_read_only(void)
{
	memset(data, 0x11, DISK_SECTOR);
	answers(disk_do(&disk, OUT, 0, data, DISK_SECTOR), IOERR);
	answers(disk_range(&disk, DISCARD, 0, 1, 0), IOERR);
	answers(disk_range(&disk, ZEROES, 0, 1, 0), IOERR);
	answers(disk_do(&disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), OK);
}

/* ---- A reset with requests under way: afterwards nothing is written to memory. ---- */

static void reset_under_way(void)
{
	for (unsigned round = 0; round < 100; round++) {
		disk_start(&disk, RING_INDIRECT, 1, SIZE, SIZE);
		for (unsigned i = 0; i < SIZE; i++) {
			struct disk_slot *s = disk_prepare(&disk, 0, i, IN);

			disk_piece(s, data + i % 128 * DISK_SECTOR, DISK_SECTOR, W);
			disk_offer(&disk, 0, i, true);
		}
		disk_kick(&disk, 0);
		for (unsigned n = round * 40; n; n--)
			relax();
		virtio_reset(&disk.v);
		memset(data, 0x77, CHUNK);
		for (unsigned n = 1000; n; n--)
			relax();
		for (size_t i = 0; i < CHUNK; i++)
			CHECK_EQUAL(data[i], 0x77);
	}
	start();
	unchanged();
}

#define CASE(what, writes)                                                                         \
	{                                                                                          \
#what, what, writes                                                                \
	}
static const struct {
	const char *name;
	void (*run)(void);
	bool writes;
} cases[] = {CASE(written_is_read, true), CASE(zeroes, true), CASE(discard, true),
	CASE(name, false), CASE(cut_anywhere, false), CASE(joined, false), CASE(longest, false),
	CASE(segment_cut_anywhere, true), CASE(unknown_types, false), CASE(no_header, false),
	CASE(no_status, false), CASE(bad_lengths, false), CASE(wrong_directions, false),
	CASE(past_the_end, false), CASE(bad_ranges, true), CASE(bad_segments, true),
	CASE(reset_under_way, false)};

void guest_main(void)
{
	disk_find(&disk);
	read_only = told("ro");
	data = alloc(2 * CHUNK, 4096);
	was = alloc(CHUNK, 4096);
	hand.table = alloc(VIRTIO_SIZE_MAX * sizeof(hand.table[0]), 16);
	start();
	CHECK_EQUAL(read_only, disk.features >> VIRTIO_BLK_F_RO & 1);
	CHECK_EQUAL(disk_do(&disk, IN, 0, was, CHUNK), OK);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (read_only && cases[i].writes)
			continue;
		print(cases[i].name);
		cases[i].run();
		print(": ok\n");
	}
	if (read_only)
		refused_if_read_only();
}
