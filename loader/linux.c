// SPDX-License-Identifier: MIT
// The zero page: what a Linux kernel entered by its boot protocol is told of the machine.
#include "hw/mem.h"
#include "loader/image.h"

#define HDR_MAGIC 0x53726448 /* "HdrS" */
#define LOADER_UNDEFINED 0xff

static void fill_header(struct setup_header *h, const struct boot_extras *x)
{
	h->boot_flag = 0xaa55;
	h->header = HDR_MAGIC;
	if (!h->version) { /* an ELF kernel brings none of its own */
		h->version = 0x20c;
		h->kernel_alignment = (uint32_t)MIB(2);
		h->cmdline_size = x->cmdline_len;
	}
	h->type_of_loader = LOADER_UNDEFINED;
	h->loadflags = (uint8_t)((h->loadflags | LOADED_HIGH) & ~(CAN_USE_HEAP | KASLR_FLAG));
	h->vid_mode = 0xffff; /* as it is: there is no screen */
	h->heap_end_ptr = 0;
	h->ext_loader_ver = 0;
	h->ext_loader_type = 0;
	h->setup_data = 0;
	h->cmd_line_ptr = LAYOUT_CMDLINE;
	h->ramdisk_image = (uint32_t)x->initrd;
	h->ramdisk_size = (uint32_t)x->initrd_size;
}

static uint8_t fill_e820(struct boot_params *bp, const struct mem *m, const struct boot_extras *x)
{
	struct memmap_entry map[MEMMAP_MAX];
	unsigned n = memmap_build(m, x, map);

	for (unsigned i = 0; i < n; i++) {
		bp->e820_table[i].addr = map[i].addr;
		bp->e820_table[i].size = map[i].size;
		bp->e820_table[i].type = map[i].type;
	}
	return (uint8_t)n;
}

int linux_write_zero_page(struct image *img, struct mem *m, const struct boot_extras *x)
{
	struct boot_params bp = {.hdr = img->hdr, .acpi_rsdp_addr = x->rsdp};

	fill_header(&bp.hdr, x);
	bp.hdr.code32_start = (uint32_t)img->start;
	bp.ext_ramdisk_image = (uint32_t)(x->initrd >> 32);
	bp.ext_ramdisk_size = (uint32_t)(x->initrd_size >> 32);
	bp.e820_entries = fill_e820(&bp, m, x);
	img->entry.info = LAYOUT_ZERO_PAGE;
	return mem_write(m, LAYOUT_ZERO_PAGE, &bp, sizeof(bp));
}
