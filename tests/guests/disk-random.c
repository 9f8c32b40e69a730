// SPDX-License-Identifier: MIT
// Random requests to a disk, many at a time but never two to the same place, against a shadow of
// it.
//
// A sector's shadow is a stamp: 0 where it reads as zeroes, ANY where a discard has left it to the
// device, else the number of the write that it is from, which with the sector's own number says
// what each of its words is. So data that is stale, or of another place, is noticed. At the end all
// of the disk is read and compared, and its CRC is printed for the host to compare with the file.
//
// Words of the command line: seed=N, requests=N, queues=N, and events for EVENT_IDX. With
// `until-told` it goes on until a byte comes by the serial port; with `as-it-is` the disk has
// something at first.
#include "tests/guests/disk.h"

#include <string.h>

#define SLOTS 32u
#define DATA_MAX KIB(64)
#define SECTORS_MAX (DATA_MAX / DISK_SECTOR)
#define ROOM (DATA_MAX + DISK_SECTOR) /* for data that begins at an odd place */
#define ANY UINT32_MAX
#define WORDS (DISK_SECTOR / 8)

struct flight {
	bool busy;
	uint32_t type, sectors, stamp;
	uint64_t sector;
	uint8_t *data;
};

static struct disk disk;
static struct flight flights[DISK_QUEUES_MAX][SLOTS];
static uint8_t *buffers;
static uint32_t *shadow;
static uint8_t *in_use; /* sectors that a request is under way to */
static unsigned under_way, depth = 1;
static uint32_t stamp;
static uint64_t state; /* of the generator */

/* Marsaglia's xorshift64*, whose upper half is the good one. */
static uint32_t any(uint32_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)((state * 0x2545f4914f6cdd1dull >> 32) % below);
}

/* ---- What data is to be ---- */

static uint64_t first_word(uint64_t sector, uint32_t of)
{
	return (sector << 32 | of) * 0x9e3779b97f4a7c15ull;
}

static void fill(uint8_t *data, uint64_t sector, uint32_t of)
{
	uint64_t w = first_word(sector, of);

	for (unsigned i = 0; i < WORDS; i++, w += 0x632be59bd9b4e019ull)
		((uint64_t *)data)[i] = w;
}

/* What a sector that was read holds, against its shadow. */
static void compare(const uint8_t *data, uint64_t sector)
{
	uint64_t step = shadow[sector] ? 0x632be59bd9b4e019ull : 0;
	uint64_t w = shadow[sector] ? first_word(sector, shadow[sector]) : 0;

	if (shadow[sector] == ANY)
		return;
	for (unsigned i = 0; i < WORDS; i++, w += step) {
		if (((const uint64_t *)data)[i] == w)
			continue;
		print("\nsector ");
		print_number(sector);
		print(", word ");
		print_number(i);
		print(", stamp ");
		print_number(shadow[sector]);
		fail(__FILE__, __LINE__, "the disk has something else",
			((const uint64_t *)data)[i]);
	}
}

/* ---- Requests ---- */

/* Of a thousand, 450 write and 50 each write zeroes and discard; 3 flush, which takes long, and 7
 * ask for the name. Mostly small, and a few as large as they come. */
static void choose(struct flight *f)
{
	static const struct {
		unsigned below;
		uint32_t type;
	} kinds[] = {{440, VIRTIO_BLK_T_IN}, {890, VIRTIO_BLK_T_OUT},
		{940, VIRTIO_BLK_T_WRITE_ZEROES}, {990, VIRTIO_BLK_T_DISCARD},
		{993, VIRTIO_BLK_T_FLUSH}, {1000, VIRTIO_BLK_T_GET_ID}};
	unsigned n = any(1000), kind = 0;

	while (n >= kinds[kind].below)
		kind++;
	f->type = kinds[kind].type;
	f->sectors = 1 + any(any(16) ? 16 : SECTORS_MAX);
	if (f->type == VIRTIO_BLK_T_FLUSH || f->type == VIRTIO_BLK_T_GET_ID)
		f->sectors = 0;
	f->sector = any((uint32_t)disk.sectors - f->sectors + 1);
}

static bool is_free(const struct flight *f)
{
	uint8_t used = 0;

	for (uint32_t i = 0; i < f->sectors; i++)
		used |= in_use[f->sector + i];
	return !used;
}

static void mark(const struct flight *f, bool used)
{
	memset(in_use + f->sector, used, f->sectors);
}

/* Data in up to four pieces, cut anywhere. */
static void add_data(struct disk_slot *s, const struct flight *f, unsigned flags)
{
	uint32_t left = f->sectors * DISK_SECTOR;
	uint8_t *at = f->data;

	for (unsigned cuts = any(4) ? 0 : any(4); cuts; cuts--) {
		uint32_t part = 1 + any(left / 2);

		disk_piece(s, at, part, flags);
		at += part;
		left -= part;
	}
	disk_piece(s, at, left, flags);
}

static void add_range(struct disk_slot *s, const struct flight *f)
{
	bool unmap = f->type == VIRTIO_BLK_T_WRITE_ZEROES && any(2);

	s->range = (struct virtio_blk_discard_write_zeroes){.sector = f->sector,
		.num_sectors = f->sectors,
		.flags = unmap ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0};
	disk_piece(s, &s->range, sizeof(s->range), 0);
}

static void build(struct disk_slot *s, struct flight *f)
{
	switch (f->type) {
	case VIRTIO_BLK_T_OUT:
		f->stamp = ++stamp;
		for (uint32_t i = 0; i < f->sectors; i++)
			fill(f->data + i * DISK_SECTOR, f->sector + i, f->stamp);
		add_data(s, f, 0);
		break;
	case VIRTIO_BLK_T_IN:
		add_data(s, f, VRING_DESC_F_WRITE);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		f->stamp = f->type == VIRTIO_BLK_T_DISCARD ? ANY : 0;
		add_range(s, f);
		break;
	case VIRTIO_BLK_T_GET_ID:
		disk_piece(s, f->data, VIRTIO_BLK_ID_BYTES, VRING_DESC_F_WRITE);
		break;
	default:
		break;
	}
}

static void start(unsigned queue, unsigned slot)
{
	struct flight *f = &flights[queue][slot];
	struct disk_slot *s;

	do
		choose(f);
	while (!is_free(f));
	f->busy = true;
	f->data = buffers + (queue * SLOTS + slot) % SLOTS * ROOM + (any(8) ? 0 : any(DISK_SECTOR));
	s = disk_prepare(&disk, queue, slot, f->type);
	/* Unused by the others, and what a device is to ignore there. */
	s->hdr.sector = f->type <= VIRTIO_BLK_T_OUT ? f->sector : any(2) * f->sector;
	build(s, f);
	mark(f, true);
	disk_offer(&disk, queue, slot, any(2));
	under_way++;
}

static void finish(unsigned queue, unsigned slot)
{
	const struct disk_slot *s = &disk.queue[queue].slot[slot];
	struct flight *f = &flights[queue][slot];
	uint32_t want = 1;

	CHECK(f->busy);
	CHECK_EQUAL(s->status, VIRTIO_BLK_S_OK);
	if (f->type == VIRTIO_BLK_T_IN)
		want += f->sectors * DISK_SECTOR;
	if (f->type == VIRTIO_BLK_T_GET_ID)
		want += VIRTIO_BLK_ID_BYTES;
	CHECK_EQUAL(s->written, want);
	for (uint32_t i = 0; i < f->sectors; i++) {
		if (f->type == VIRTIO_BLK_T_IN)
			compare(f->data + i * DISK_SECTOR, f->sector + i);
		else
			shadow[f->sector + i] = f->stamp;
	}
	mark(f, false);
	f->busy = false;
	under_way--;
}

/* ---- All of it ---- */

static bool reap_all(void)
{
	bool any_came = false;
	unsigned slot;

	for (unsigned q = 0; q < disk.queues; q++)
		while (disk_reap(&disk, q, &slot)) {
			finish(q, slot);
			any_came = true;
		}
	return any_came;
}

/* Slots share the buffers of those with the same number in other queues. */
static bool slot_is_free(unsigned slot)
{
	bool busy = false;

	for (unsigned q = 0; q < disk.queues; q++)
		busy |= flights[q][slot].busy;
	return !busy;
}

static unsigned fill_up(void)
{
	unsigned started = 0;

	for (unsigned slot = 0; slot < SLOTS && under_way < depth; slot++) {
		if (!slot_is_free(slot))
			continue;
		start(any(disk.queues), slot);
		started++;
	}
	for (unsigned q = 0; started && q < disk.queues; q++)
		disk_kick(&disk, q);
	if (started && !any(16))
		depth = 1 + any(SLOTS);
	return started;
}

static void drain(void)
{
	while (under_way)
		if (!reap_all())
			relax();
}

static bool is_told(void)
{
	return in8(PORT_COM1 + 5) & 1;
}

static uint64_t run(uint64_t requests)
{
	bool until_told = told("until-told");
	uint64_t n = 0;

	for (unsigned rounds = 0; until_told || n < requests; rounds++) {
		n += fill_up();
		if (!reap_all())
			relax();
		if (until_told && rounds % 64 == 0 && is_told())
			break;
	}
	drain();
	return n;
}

/* As zlib's crc32. */
static uint32_t crc(uint32_t sum, const uint8_t *data, size_t len)
{
	static uint32_t table[256];

	for (uint32_t i = 0; i < 256 && !table[255]; i++) {
		table[i] = i;
		for (unsigned bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
	}
	sum = ~sum;
	while (len--)
		sum = table[(sum ^ *data++) & 0xff] ^ sum >> 8;
	return ~sum;
}

static void read_all(void)
{
	uint32_t sum = 0;

	for (uint64_t at = 0, n; at < disk.sectors; at += n) {
		n = disk.sectors - at < SECTORS_MAX ? disk.sectors - at : SECTORS_MAX;
		CHECK_EQUAL(disk_do(&disk, VIRTIO_BLK_T_IN, at, buffers, (uint32_t)n * DISK_SECTOR),
			VIRTIO_BLK_S_OK);
		for (uint64_t i = 0; i < n; i++)
			compare(buffers + i * DISK_SECTOR, at + i);
		sum = crc(sum, buffers, n * DISK_SECTOR);
	}
	print("crc32 ");
	print_number(sum);
	print("\n");
}

void guest_main(void)
{
	uint64_t requests = told_number("requests=", 10000);
	uint64_t ring = RING_INDIRECT | (told("events") ? RING_EVENT : 0);

	state = told_number("seed=", 0) + 0x9e3779b97f4a7c15ull;
	disk_find(&disk);
	disk_start(&disk, disk_features(&disk) | ring, (unsigned)told_number("queues=", 1), 256,
		SLOTS);
	shadow = alloc(disk.sectors * sizeof(*shadow), 16);
	for (uint64_t i = 0; told("as-it-is") && i < disk.sectors; i++)
		shadow[i] = ANY;
	in_use = alloc(disk.sectors, 16);
	buffers = alloc(SLOTS * ROOM, 4096);
	print("READY seed=");
	print_number(told_number("seed=", 0));
	print("\n");
	requests = run(requests);
	read_all();
	print("requests ");
	print_number(requests);
	print("\n");
}
