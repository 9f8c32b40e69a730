// SPDX-License-Identifier: MIT
// A disk's configuration space: read and written in every width at every place, its cache switched
// on and off, and drivers that know fewer features than it has (virtio 1.2, 5.2.4 to 5.2.6).
#include "tests/guests/disk.h"

#include <string.h>

#define CONFIG sizeof(struct virtio_blk_config)
#define WCE offsetof(struct virtio_blk_config, wce)
#define TAKEN (CONFIG + 16) /* and read and written, past its end too */
#define BIT(feature) (1ull << (feature))

static struct disk disk;
static uint8_t *data;

static uint64_t read_width(uint64_t at, unsigned width)
{
	uint64_t v;

	if (width == 8) {
		__asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(at) : "memory");
		return v;
	}
	return width == 1 ? mmio_read8(at) : width == 2 ? mmio_read16(at) : mmio_read(at);
}

static void write_width(uint64_t at, unsigned width, uint64_t v)
{
	if (width == 8)
		__asm__ volatile("movq %0, (%1)" : : "r"(v), "r"(at) : "memory");
	else if (width == 4)
		mmio_write(at, (uint32_t)v);
	else if (width == 2)
		mmio_write16(at, (uint16_t)v);
	else
		mmio_write8(at, (uint8_t)v);
}

static void take(uint8_t *to)
{
	for (unsigned i = 0; i < TAKEN; i += 4) {
		uint32_t word = mmio_read(virtio_config(&disk.v) + i);

		memcpy(to + i, &word, sizeof(word));
	}
}

static void start(uint64_t features)
{
	disk_start(&disk, features, 1, 64, 16);
}

/* 5.2.5.2: who may switch the cache and cannot flush it has none. */
static void has_cache_or_not(uint64_t features)
{
	bool none =
		features & BIT(VIRTIO_BLK_F_CONFIG_WCE) && !(features & BIT(VIRTIO_BLK_F_FLUSH));

	CHECK_EQUAL(mmio_read8(virtio_config(&disk.v) + WCE), !none);
}

static void works(void)
{
	static uint8_t n;

	memset(data, ++n, 4096);
	CHECK_EQUAL(disk_do(&disk, VIRTIO_BLK_T_OUT, 8, data, 4096), VIRTIO_BLK_S_OK);
	CHECK_EQUAL(disk_do(&disk, VIRTIO_BLK_T_IN, 8, data + 4096, 4096), VIRTIO_BLK_S_OK);
	CHECK(!memcmp(data, data + 4096, 4096));
	CHECK(!virtio_broken(&disk.v));
}

/* What is read in one is what is read byte by byte; past the end there is nothing. */
static void reads(void)
{
	uint8_t bytes[TAKEN];

	take(bytes);
	for (unsigned i = CONFIG; i < sizeof(bytes); i++)
		CHECK_EQUAL(bytes[i], 0);
	for (unsigned width = 1; width <= 8; width *= 2)
		for (unsigned at = 0; at + width <= sizeof(bytes); at++) {
			uint64_t want = 0;

			memcpy(&want, bytes + at, width);
			CHECK_EQUAL(read_width(virtio_config(&disk.v) + at, width), want);
		}
}

/* Nothing but the cache's byte takes anything, and that only by itself, and where the driver said
 * that it would. */
static void writes(bool may)
{
	uint8_t before[TAKEN], after[TAKEN];

	for (unsigned width = 1; width <= 8; width *= 2)
		for (unsigned at = 0; at + width <= sizeof(before); at++) {
			take(before);
			write_width(virtio_config(&disk.v) + at, width, 0);
			write_width(virtio_config(&disk.v) + at, width, 0xf5f4f3f2f1f0efeeull);
			take(after);
			if (may && width == 1 && at == WCE)
				before[WCE] = 1;
			CHECK(!memcmp(before, after, sizeof(before)));
		}
	works();
}

static void cache(void)
{
	uint64_t at = virtio_config(&disk.v) + WCE;

	for (unsigned i = 0; i < 10; i++) {
		mmio_write8(at, i & 1);
		CHECK_EQUAL(mmio_read8(at), i & 1);
		works();
	}
	CHECK_EQUAL(disk_do(&disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
}

/* Each feature alone, and all but it. What a driver has not asked for it may still find working, or
 * not supported. */
static void features(void)
{
	uint64_t all = disk_features(&disk) | RING_INDIRECT | RING_EVENT;

	for (unsigned bit = 0; bit < 32; bit++) {
		uint8_t status;

		if (!(all & BIT(bit)))
			continue;
		start(BIT(bit));
		has_cache_or_not(BIT(bit));
		works();
		start(all & ~BIT(bit));
		has_cache_or_not(all & ~BIT(bit));
		works();
		status = disk_range(&disk, VIRTIO_BLK_T_DISCARD, 64, 8, 0);
		CHECK(status == VIRTIO_BLK_S_OK ||
			(bit == VIRTIO_BLK_F_DISCARD && status == VIRTIO_BLK_S_UNSUPP));
		works();
	}
	start(0);
	works();
}

void guest_main(void)
{
	disk_find(&disk);
	data = alloc(8192, 4096);
	start(0);
	reads();
	writes(false);
	start(BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_FLUSH));
	reads();
	writes(true);
	cache();
	features();
}
