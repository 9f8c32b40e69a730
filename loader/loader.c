// SPDX-License-Identifier: MIT
// The order in which a guest is put into memory: kernel, command line, initrd, description.
#include "loader/loader.h"

#include "base/log.h"
#include "hw/mem.h"
#include "loader/elf.h"
#include "loader/image.h"

#include <errno.h>
#include <sys/stat.h>

#define HEAD_SIZE 0x210      /* enough to tell the kinds apart */
#define CMDLINE_DEFAULT 2047 /* Linux's COMMAND_LINE_SIZE, less the NUL */
#define CMDLINE_ROOM KIB(64) /* at LAYOUT_CMDLINE */
#define PAGE 4096u

static int open_image(struct image *img, const struct loader_config *cfg)
{
	struct stat st;

	*img = (struct image){
		.name = cfg->kernel_name,
		.fd = cfg->kernel_fd,
		.zeroed = cfg->zeroed,
		.unpacker = cfg->unpacker,
		.cmdline_max = CMDLINE_DEFAULT,
		.initrd_end_max = LAYOUT_HOLE_START,
	};
	if (fstat(img->fd, &st) < 0)
		return failno(errno, "fstat");
	if (!S_ISREG(st.st_mode))
		return fail(EINVAL, "not a regular file");
	img->size = (uint64_t)st.st_size;
	return img->size ? 0 : fail(EINVAL, "the file is empty");
}

static int load_kernel(struct image *img, struct mem *m)
{
	uint8_t head[HEAD_SIZE];
	size_t len = MIN(sizeof(head), img->size);
	int rc = image_read(img, 0, head, len);

	if (rc)
		return rc;
	if (elf_is(head, len))
		return elf_load(img, m);
	if (bzimage_is(head, len))
		return bzimage_load(img, m);
	return fail(EINVAL, "neither an ELF kernel (vmlinux) nor a bzImage (vmlinuz)");
}

static int place_cmdline(struct mem *m, const struct image *img, const char *text, uint32_t *len)
{
	size_t n = strlen(text), max = MIN(img->cmdline_max, CMDLINE_ROOM - 1);

	if (n > max)
		return fail(E2BIG, "the command line has %zu bytes, kernel %s takes at most %zu", n,
			img->name, max);
	*len = (uint32_t)n;
	return mem_write(m, LAYOUT_CMDLINE, text, n + 1);
}

/* As high as it may be, out of the way of a kernel that takes memory next to itself; 0: no room. */
static uint64_t find_place(const struct mem *m, const struct image *img, uint64_t size)
{
	unsigned n;
	const struct mem_region *r = mem_regions(m, &n);
	uint64_t top = align_down(MIN(r[0].size, img->initrd_end_max), PAGE);
	uint64_t floor = img->end <= r[0].size ? align_up(img->end, PAGE) : LAYOUT_HIGH_RAM;

	if (floor <= top && size <= top - floor)
		return align_down(top - size, PAGE);
	if (n < 2 || !img->initrd_above_4g || size > r[1].size)
		return 0;
	floor = MAX(r[1].gpa, img->end);
	top = r[1].gpa + r[1].size;
	return floor <= top && size <= top - floor ? align_down(top - size, PAGE) : 0;
}

static int no_room(const struct mem *m, const struct image *img, const struct loader_initrd *rd)
{
	uint64_t need = align_up(img->end, PAGE) + align_up(rd->size, PAGE);

	if (rd->size > LAYOUT_HOLE_START || need > img->initrd_end_max)
		return fail(EFBIG, "initrd %s: %llu MiB are more than kernel %s can be given",
			rd->name, (ull)(rd->size >> 20), img->name);
	return fail(ENOMEM,
		"initrd %s: its %llu MiB do not fit beside the kernel in %llu MiB of memory; it "
		"needs at least %llu MiB, and as much again to unpack it",
		rd->name, (ull)(align_up(rd->size, MIB(1)) >> 20), (ull)(mem_size(m) >> 20),
		(ull)(align_up(need, MIB(1)) >> 20));
}

static int place_initrd(struct mem *m, const struct image *img, const struct loader_initrd *rd,
	struct boot_extras *x)
{
	uint64_t at = find_place(m, img, rd->size);
	int rc;

	if (!at)
		return no_room(m, img, rd);
	rc = rd->fill(rd->arg, mem_get(m, at, rd->size), rd->size);
	mem_dirty(m, at, rd->size);
	if (rc)
		return fail_context(rc, "initrd %s", rd->name);
	x->initrd = at;
	x->initrd_size = rd->size;
	return 0;
}

int loader_load(struct mem *m, const struct loader_config *cfg, struct boot_entry *out)
{
	struct boot_extras x = {.rsdp = cfg->rsdp, .pci = cfg->pci};
	struct image img;
	int rc = open_image(&img, cfg);

	if (!rc)
		rc = load_kernel(&img, m);
	if (rc)
		return fail_context(rc, "kernel %s", cfg->kernel_name);
	rc = place_cmdline(m, &img, cfg->cmdline ? cfg->cmdline : "", &x.cmdline_len);
	if (!rc && cfg->initrd && cfg->initrd->size)
		rc = place_initrd(m, &img, cfg->initrd, &x);
	if (!rc)
		rc = img.entry.mode == BOOT_PVH ? pvh_write_info(&img, m, &x)
						: linux_write_zero_page(&img, m, &x);
	if (!rc)
		*out = img.entry;
	return rc;
}
