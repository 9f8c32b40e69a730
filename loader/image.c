// SPDX-License-Identifier: MIT
// What all kinds of kernel share: reads of the file, checks of the memory, the memory map.
#include "loader/image.h"

#include "base/fd.h"
#include "base/log.h"
#include "hw/mem.h"

#include <errno.h>

int image_read(const struct image *img, uint64_t off, void *buf, size_t len)
{
	ssize_t n = fd_pread_full(img->fd, buf, len, off);

	if (n < 0)
		return failno((int)-n, "reading %zu bytes at offset %llu", len, (ull)off);
	if ((size_t)n < len)
		return fail(EINVAL, "truncated: %zu bytes wanted at offset %llu, %zd are there",
			len, (ull)off, n);
	return 0;
}

int image_read_to_guest(
	const struct image *img, struct mem *m, uint64_t off, uint64_t gpa, uint64_t len)
{
	void *to = mem_get(m, gpa, len);
	int rc;

	if (len == 0)
		return 0;
	if (!to)
		return fail(EFAULT, "0x%llx-0x%llx is not RAM", (ull)gpa, (ull)(gpa + len));
	rc = image_read(img, off, to, len);
	mem_dirty(m, gpa, len);
	return rc;
}

void image_clear(struct mem *m, uint64_t gpa, uint64_t len)
{
	void *p = mem_get(m, gpa, len);

	if (!p)
		return;
	memset(p, 0, len);
	mem_dirty(m, gpa, len);
}

/* The least memory with which [start, end) is RAM, or 0 where no amount makes it so. */
static uint64_t memory_for(uint64_t start, uint64_t end)
{
	if (end <= LAYOUT_HOLE_START)
		return end;
	return start >= LAYOUT_HOLE_END ? end - LAYOUT_HOLE_END + LAYOUT_HOLE_START : 0;
}

int image_check_room(const struct mem *m, const char *what, uint64_t start, uint64_t end)
{
	uint64_t least = memory_for(start, end);

	if (end > start && start >= LAYOUT_HIGH_RAM && mem_get(m, start, end - start))
		return 0;
	if (least <= mem_size(m))
		return fail(EINVAL, "%s (0x%llx-0x%llx) lies where this machine has no RAM", what,
			(ull)start, (ull)end);
	return fail(ENOMEM,
		"%s (0x%llx-0x%llx) does not fit in %llu MiB of memory; it needs at least %llu MiB",
		what, (ull)start, (ull)end, (ull)(mem_size(m) >> 20),
		(ull)(align_up(least, MIB(1)) >> 20));
}

unsigned memmap_build(
	const struct mem *m, const struct boot_extras *x, struct memmap_entry map[MEMMAP_MAX])
{
	unsigned n = 0, regions;
	const struct mem_region *r = mem_regions(m, &regions);

	map[n++] = (struct memmap_entry){0, LAYOUT_EBDA, MEMMAP_RAM};
	map[n++] = (struct memmap_entry){LAYOUT_EBDA, 0xa0000 - LAYOUT_EBDA, MEMMAP_RESERVED};
	map[n++] =
		(struct memmap_entry){LAYOUT_ACPI, LAYOUT_ACPI_END - LAYOUT_ACPI, MEMMAP_RESERVED};
	if (r[0].size > LAYOUT_HIGH_RAM)
		map[n++] = (struct memmap_entry){
			LAYOUT_HIGH_RAM, r[0].size - LAYOUT_HIGH_RAM, MEMMAP_RAM};
	if (x->pci)
		map[n++] = (struct memmap_entry){
			LAYOUT_PCI_ECAM, LAYOUT_PCI_ECAM_SIZE, MEMMAP_RESERVED};
	if (regions > 1)
		map[n++] = (struct memmap_entry){r[1].gpa, r[1].size, MEMMAP_RAM};
	return n;
}
