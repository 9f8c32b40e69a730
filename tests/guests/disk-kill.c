// SPDX-License-Identifier: MIT
// Writes numbered records to a disk, round and round, until its machine is killed, and tells the
// host what it may rely on: "done N" where all records below N have been completed, "kept N" where
// they have been flushed as well.
//
// A record is 4 KiB: its number and words that follow from it; record N is at place N modulo the
// places. Its first number is told by first=N on the command line.
#include "tests/guests/disk.h"

#define RECORD 4096u
#define SLOTS 16u
#define BATCH 64u /* records between two flushes */

static struct disk disk;
static uint64_t *records[SLOTS];
static uint64_t places;

static void fill(uint64_t *record, uint64_t number)
{
	for (unsigned i = 0; i < RECORD / 8; i++)
		record[i] = number ^ 0x9e3779b97f4a7c15ull;
}

static void start(unsigned slot, uint64_t number)
{
	struct disk_slot *s = disk_prepare(&disk, 0, slot, VIRTIO_BLK_T_OUT);

	fill(records[slot], number);
	s->hdr.sector = number % places * (RECORD / DISK_SECTOR);
	disk_piece(s, records[slot], RECORD, 0);
	disk_offer(&disk, 0, slot, true);
	disk_kick(&disk, 0);
}

static unsigned wait_for_one(void)
{
	unsigned slot;

	while (!disk_reap(&disk, 0, &slot))
		relax();
	CHECK_EQUAL(disk.queue[0].slot[slot].status, VIRTIO_BLK_S_OK);
	return slot;
}

static void write_batch(uint64_t from)
{
	for (unsigned i = 0; i < BATCH; i++)
		start(i < SLOTS ? i : wait_for_one(), from + i);
	for (unsigned i = 0; i < SLOTS; i++)
		wait_for_one();
}

static void tell(const char *what, uint64_t number)
{
	print(what);
	print_number(number);
	print("\n");
}

void guest_main(void)
{
	uint64_t at = told_number("first=", 0);

	disk_find(&disk);
	disk_start(&disk, 1ull << VIRTIO_BLK_F_FLUSH | RING_INDIRECT | RING_EVENT, 1, SLOTS, SLOTS);
	places = disk.sectors * DISK_SECTOR / RECORD;
	for (unsigned i = 0; i < SLOTS; i++)
		records[i] = alloc(RECORD, 4096);
	for (;; at += BATCH) {
		write_batch(at);
		tell("done ", at + BATCH);
		CHECK_EQUAL(disk_do(&disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
		tell("kept ", at + BATCH);
	}
}
