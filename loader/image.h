// SPDX-License-Identifier: MIT
// Private to loader/: a kernel on its way into guest memory.
#ifndef LOADER_IMAGE_H
#define LOADER_IMAGE_H

#include "hw/boot.h"
#include "hw/layout.h"

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem;
struct unpacker;

/* What is said of addresses and sizes in messages. */
typedef unsigned long long ull;

struct image {
	/* Given. Messages of what works on an image leave out its name; loader_load puts it before
	 * them. */
	const char *name;
	int fd;
	uint64_t size;                   /* of the file, bytes */
	bool zeroed;                     /* guest memory holds zeroes */
	const struct unpacker *unpacker; /* NULL: what is packed unpacks itself */

	/* Found out by loading it. */
	struct boot_entry entry; /* .info is set by who writes the info */
	uint64_t start, end;     /* guest memory it occupies, bss and work space included */
	uint32_t cmdline_max;    /* bytes, without the final NUL */
	uint64_t initrd_end_max; /* the initrd must end at or below this */
	bool initrd_above_4g;    /* or may be there */
	struct setup_header hdr; /* the bzImage's, else zeroes */
};

/* Copies [off, off + len) of the kernel's file; -EINVAL "truncated" where it ends before. */
int image_read(const struct image *img, uint64_t off, void *buf, size_t len);

/* The same, straight into guest memory at `gpa`. */
int image_read_to_guest(
	const struct image *img, struct mem *m, uint64_t off, uint64_t gpa, uint64_t len);

/* Zeroes guest memory, in [gpa, gpa + len), which must be RAM. len 0 is fine. */
void image_clear(struct mem *m, uint64_t gpa, uint64_t len);

/* -ENOMEM, saying how much memory would do, unless [start, end) is RAM that a kernel may use. */
int image_check_room(const struct mem *m, const char *what, uint64_t start, uint64_t end);

/* Each loads the kernel, found to be one of its kind, and fills what of `img` is found out. 0 or
 * -errno. */
int elf_load(struct image *img, struct mem *m);
int bzimage_load(struct image *img, struct mem *m);

/*
 * Unpacks [off, off + len) of the file and loads the ELF kernel in it. -ENOTSUP where the packing
 * is unknown, or there is nothing to unpack it with, or there is something else inside: the guest
 * can unpack it itself.
 */
int payload_load(struct image *img, struct mem *m, uint64_t off, uint64_t len);

/* Write the description of the machine that the kernel gets and set img->entry.info. 0 or -errno.
 */
struct boot_extras {
	uint32_t cmdline_len;
	uint64_t initrd, initrd_size; /* guest address; 0, 0: none */
	uint64_t rsdp;
	bool pci;
};
int linux_write_zero_page(struct image *img, struct mem *m, const struct boot_extras *x);
int pvh_write_info(struct image *img, struct mem *m, const struct boot_extras *x);

/* The memory map that both of them pass on: what is not in it is not RAM. */
enum memmap_type { MEMMAP_RAM = 1, MEMMAP_RESERVED = 2 };
struct memmap_entry {
	uint64_t addr, size;
	enum memmap_type type;
};
#define MEMMAP_MAX 6
unsigned memmap_build(
	const struct mem *m, const struct boot_extras *x, struct memmap_entry map[MEMMAP_MAX]);

/* The header of a bzImage, copied with the length it declares and judged; pm is the protected-mode
 * part. */
struct bzimage {
	struct setup_header hdr;
	uint64_t pm_off, pm_size; /* in the file */
};
bool bzimage_is(const void *head, size_t len);
int bzimage_parse(const struct image *img, struct bzimage *bz);

#endif
