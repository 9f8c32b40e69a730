// SPDX-License-Identifier: MIT
// How many requests a second: keeps `depth` under way for a while, and polls. No interrupt is asked
// for, and nothing is done with the data, so that what is left is the device's.
//
// Words of the command line: `write` (else reads), `sequential` (else random places), bytes=N,
// depth=N and ticks=N of the processor's clock. Says READY, waits for a byte from the host; says
// how many, and waits for another.
#include "tests/guests/disk.h"

#define SLOTS_MAX 64u

static struct disk disk;
static uint8_t *buffers;
static uint64_t bytes, places, place;
static uint32_t type;
static bool sequential;

/* The lower bits of such a generator are poor, so that the upper ones choose. */
static uint64_t next_place(void)
{
	static uint64_t state = 1;

	if (sequential)
		return place++ % places;
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (state >> 32) % places;
}

static void start(unsigned slot)
{
	struct disk_slot *s = disk_prepare(&disk, 0, slot, type);

	s->hdr.sector = next_place() * (bytes / DISK_SECTOR);
	disk_piece(s, buffers + slot * bytes, (uint32_t)bytes,
		type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0);
	disk_offer(&disk, 0, slot, true);
}

/* Each that has come back is sent again; the device is told once of all that came together. */
static uint64_t turn_round(void)
{
	uint64_t n = 0;
	unsigned slot;

	while (disk_reap(&disk, 0, &slot)) {
		CHECK_EQUAL(disk.queue[0].slot[slot].status, VIRTIO_BLK_S_OK);
		start(slot);
		n++;
	}
	if (n)
		disk_kick(&disk, 0);
	else
		relax();
	return n;
}

static void wait_for_host(void)
{
	while (!(in8(PORT_COM1 + 5) & 1))
		relax();
	in8(PORT_COM1);
}

void guest_main(void)
{
	unsigned depth = (unsigned)told_number("depth=", 1);
	uint64_t ticks = told_number("ticks=", 1000000000), end, n = 0;

	bytes = told_number("bytes=", 4096);
	type = told("write") ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	sequential = told("sequential");
	disk_find(&disk);
	disk_start(&disk, 1ull << VIRTIO_BLK_F_FLUSH | RING_INDIRECT | RING_EVENT, 1, SLOTS_MAX,
		SLOTS_MAX);
	places = disk.sectors * DISK_SECTOR / bytes;
	buffers = alloc(depth * bytes, 4096);
	print("READY\n");
	wait_for_host();
	end = rdtsc() + ticks;
	for (unsigned i = 0; i < depth; i++)
		start(i);
	disk_kick(&disk, 0);
	while (rdtsc() < end || !n)
		n += turn_round();
	print("requests ");
	print_number(n);
	print("\n");
	wait_for_host();
}
