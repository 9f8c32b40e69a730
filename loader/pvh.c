// SPDX-License-Identifier: MIT
// hvm_start_info: what a kernel entered by the PVH boot ABI is told of the machine.
#include "hw/mem.h"
#include "loader/image.h"

/* Layout of the structures: Xen public/arch-x86/hvm/start_info.h, version 1. All addresses are
 * physical. */
#define START_MAGIC 0x336ec578 /* "xEn3" with the top bit of the E set */

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct module_entry {
	uint64_t addr, size, cmdline, reserved;
};

struct start_memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

/* All of it, in one page. */
struct start_page {
	struct start_info info;
	struct module_entry initrd;
	struct start_memmap_entry map[MEMMAP_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "as the ABI has it");
_Static_assert(sizeof(struct start_page) <= LAYOUT_ZERO_PAGE - LAYOUT_PVH_INFO, "fits in its page");

int pvh_write_info(struct image *img, struct mem *m, const struct boot_extras *x)
{
	struct memmap_entry map[MEMMAP_MAX];
	unsigned n = memmap_build(m, x, map);
	struct start_page page = {
		.info = {.magic = START_MAGIC,
			.version = 1,
			.cmdline = LAYOUT_CMDLINE,
			.rsdp = x->rsdp,
			.memmap = LAYOUT_PVH_INFO + offsetof(struct start_page, map),
			.memmap_entries = n},
	};

	if (x->initrd_size) {
		page.info.nr_modules = 1;
		page.info.modlist = LAYOUT_PVH_INFO + offsetof(struct start_page, initrd);
		page.initrd.addr = x->initrd;
		page.initrd.size = x->initrd_size;
	}
	for (unsigned i = 0; i < n; i++)
		page.map[i] = (struct start_memmap_entry){
			.addr = map[i].addr, .size = map[i].size, .type = map[i].type};
	img->entry.info = LAYOUT_PVH_INFO;
	return mem_write(m, LAYOUT_PVH_INFO, &page, sizeof(page));
}
