// SPDX-License-Identifier: MIT
// A disk that changes under its guest. A word of the command line says what is looked at:
//   fill  every sector is written, then read; errors are told, and what was written must be there
//   read  everything is read, round and round, until the disk has an error
//   grow  the disk becomes larger, and its new end can be used
//   rate  50 reads are a round, which is told; until the machine is ended
#include "tests/guests/disk.h"

#define BYTES KIB(64)
#define SECTORS (BYTES / DISK_SECTOR)
#define ROUND 50u

static struct disk disk;
static uint64_t *data;

static void tell(const char *what, uint64_t number)
{
	print(what);
	print_number(number);
	print("\n");
}

static void pattern(uint64_t sector)
{
	for (unsigned i = 0; i < BYTES / 8; i++)
		data[i] = (sector + i) * 0x9e3779b97f4a7c15ull;
}

static void check_pattern(uint64_t sector)
{
	for (unsigned i = 0; i < BYTES / 8; i++)
		CHECK_EQUAL(data[i], (sector + i) * 0x9e3779b97f4a7c15ull);
}

static bool transfer(uint32_t type, uint64_t sector)
{
	uint8_t status = disk_do(&disk, type, sector, data, BYTES);

	if (status != VIRTIO_BLK_S_OK)
		CHECK_EQUAL(status, VIRTIO_BLK_S_IOERR);
	return status == VIRTIO_BLK_S_OK;
}

static void fill(void)
{
	unsigned errors = 0;

	for (uint64_t at = 0; at < disk.sectors; at += SECTORS) {
		pattern(at);
		if (!transfer(VIRTIO_BLK_T_OUT, at) && !errors++)
			tell("first error: ", at);
	}
	tell("errors: ", errors);
	for (uint64_t at = 0; !errors && at < disk.sectors; at += SECTORS) {
		CHECK(transfer(VIRTIO_BLK_T_IN, at));
		if (!told("lost"))
			check_pattern(at);
	}
}

static void read_on(void)
{
	uint64_t at = 0;

	while (transfer(VIRTIO_BLK_T_IN, at))
		at = (at + SECTORS) % disk.sectors;
	tell("first error: ", at);
	CHECK(transfer(VIRTIO_BLK_T_IN, 0));
}

static uint64_t sectors(void)
{
	return virtio_get(&disk.v, VIRTIO_MMIO_CONFIG) |
	       (uint64_t)virtio_get(&disk.v, VIRTIO_MMIO_CONFIG + 4) << 32;
}

static void grow(void)
{
	uint64_t before = disk.sectors, now;

	CHECK(!transfer(VIRTIO_BLK_T_OUT, before));
	while ((now = sectors()) == before)
		relax();
	tell("sectors: ", now);
	CHECK(now > before);
	pattern(now);
	CHECK(transfer(VIRTIO_BLK_T_OUT, now - SECTORS));
	data[0] = 0;
	CHECK(transfer(VIRTIO_BLK_T_IN, now - SECTORS));
	check_pattern(now);
	CHECK(!transfer(VIRTIO_BLK_T_OUT, now));
}

static void rate(void)
{
	for (uint64_t n = 1;; n++) {
		for (unsigned i = 0; i < ROUND; i++)
			CHECK(transfer(VIRTIO_BLK_T_IN, 0));
		tell("round ", n);
	}
}

void guest_main(void)
{
	disk_find(&disk);
	disk_start(&disk, 1ull << VIRTIO_BLK_F_FLUSH, 1, 16, 1);
	data = alloc(BYTES, 4096);
	print("READY\n");
	if (told("fill"))
		fill();
	else if (told("read"))
		read_on();
	else if (told("grow"))
		grow();
	else if (told("rate"))
		rate();
	else
		STOP("what is to be done?");
}
