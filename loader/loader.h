// SPDX-License-Identifier: MIT
// From a kernel's file to guest memory and the first instruction: the loader's one entry.
#ifndef LOADER_LOADER_H
#define LOADER_LOADER_H

#include "hw/boot.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem;
struct unpacker;

/*
 * An initial ramdisk from wherever: a file (loader_initrd_from_fd) or a directory packed on the way
 * (loader/initramfs.h). `fill` writes exactly `size` bytes to `dst`, which is guest memory, the
 * padding included; it may be called again when a machine starts over in place. 0 or -errno.
 */
struct loader_initrd {
	const char *name; /* for messages; borrowed */
	uint64_t size;    /* bytes */
	int (*fill)(void *arg, void *dst, uint64_t size);
	void *arg;
};

struct loader_config {
	int kernel_fd;                      /* borrowed; a regular file */
	const char *kernel_name;            /* for messages */
	const struct loader_initrd *initrd; /* NULL: none */
	const char *cmdline;                /* NULL: empty */
	uint64_t rsdp;                      /* guest address of the ACPI tables' root; 0: none */
	bool pci;                           /* there is configuration space in memory */
	/*
	 * The guest's memory is as mem_create made it, so nothing needs clearing. False is always
	 * right, and touches every page of the kernel's bss.
	 */
	bool zeroed;
	const struct unpacker *unpacker; /* NULL: a packed kernel unpacks itself */
};

/*
 * Loads an ELF kernel (PVH where it has the note, else the 64-bit entry) or a bzImage (the 64-bit
 * Linux boot protocol, its payload unpacked on the way where it can be) with its initrd, command
 * line and memory map, and says how the first vCPU enters it. What it uses of low memory is in
 * hw/layout.h. May be called again on the same memory. 0, or -errno with a message that names the
 * file and what is wrong.
 */
int loader_load(struct mem *m, const struct loader_config *cfg, struct boot_entry *out);

/* An initrd that is read from a regular file. `fd` and `name` are borrowed for as long as `out` is
 * used. */
int loader_initrd_from_fd(struct loader_initrd *out, int fd, const char *name);

/*
 * The kernel's release, as `uname -r` gives it in the guest: from the header of a bzImage, or the
 * banner in a vmlinux. 0; -ENOENT (with a message) where the file is sound but does not say;
 * -errno.
 */
int loader_version(int fd, const char *name, char *buf, size_t len);

#endif
