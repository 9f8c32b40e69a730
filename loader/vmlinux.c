// SPDX-License-Identifier: MIT
// An ELF kernel as a file of its own: read segment by segment straight to where it runs.
#include "base/log.h"
#include "hw/mem.h"
#include "loader/elf.h"
#include "loader/image.h"

static int read_file(void *arg, uint64_t off, void *buf, size_t len)
{
	return image_read(arg, off, buf, len);
}

static int load_segment(const struct image *img, struct mem *m, const struct elf_segment *s)
{
	int rc = image_read_to_guest(img, m, s->off, s->paddr, s->filesz);

	if (!rc && !img->zeroed)
		image_clear(m, s->paddr + s->filesz, s->memsz - s->filesz);
	return rc;
}

int elf_load(struct image *img, struct mem *m)
{
	struct elf_source src = {.read = read_file, .arg = img, .size = img->size};
	struct elf_file elf;
	int rc = elf_parse(&src, true, &elf);

	for (unsigned i = 0; !rc && i < elf.count; i++)
		rc = image_check_room(
			m, "its segment", elf.seg[i].paddr, elf.seg[i].paddr + elf.seg[i].memsz);
	for (unsigned i = 0; !rc && i < elf.count; i++)
		rc = load_segment(img, m, &elf.seg[i]);
	if (rc)
		return rc;
	img->entry.mode = elf.pvh_entry ? BOOT_PVH : BOOT_LONG64;
	img->entry.entry = elf.pvh_entry ? elf.pvh_entry : elf.entry;
	img->start = elf.start;
	img->end = elf.end;
	return 0;
}
