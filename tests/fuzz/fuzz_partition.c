// SPDX-License-Identifier: MIT
// Partition tables of random bytes: what is found lies within the disk, and the search ends.
//
// The input is a header (the partition, what to put right) and the disk from its start; its last
// sectors, where a GPT has its second copy, are the disk's last.
#include "base/log.h"
#include "base/loop.h"
#include "blk/engine.h"
#include "blk/partition.h"
#include "blk/raw.h"
#include "tests/unit/partition_table.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE MIB(1)
#define TAIL KIB(8)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static uint8_t *make_disk(struct blk **b)
{
	struct raw_config c = {.name = "disk", .fd = memfd_create("disk", MFD_CLOEXEC)};
	struct blk_engine *engine = NULL;
	struct loop *loop = NULL;
	uint8_t *p;

	log_set_level(LOG_LEVEL_ERROR);
	check(c.fd >= 0 && ftruncate(c.fd, (off_t)SIZE) == 0);
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, c.fd, 0);
	check(p != MAP_FAILED);
	check(!loop_create(&loop, "fuzz") && !engine_create(&engine, loop, ENGINE_SYNC));
	check(!raw_create(b, engine, &c));
	return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *disk;
	static struct blk *b;
	struct partition p;
	struct gpt table;
	size_t len = size > 2 ? MIN(size - 2, SIZE) : 0, tail = MIN(len, TAIL);

	if (!len)
		return 0;
	if (!disk)
		disk = make_disk(&b);
	table = (struct gpt){disk, SIZE, data[1] & 8 ? 4096 : 512};
	memcpy(disk, data + 2, len);
	memcpy(disk + SIZE - tail, data + 2 + len - tail, tail);
	/* Else no table of random bytes would get past its sums. */
	if (data[1] & 1)
		mbr_sign(disk);
	if (data[1] & 2)
		gpt_seal(&table, 1);
	if (data[1] & 4)
		gpt_seal(&table, gpt_last(&table));
	if (partition_find(&p, b, 1 + data[0] % PARTITION_MAX) == 0) {
		check(p.off && p.len && range_ok(p.off, p.len, SIZE));
		check(p.sector == 512 || p.sector == 4096);
		check((p.off | p.len) % p.sector == 0);
	}
	memset(disk, 0, len);
	memset(disk + SIZE - TAIL, 0, TAIL);
	return 0;
}
