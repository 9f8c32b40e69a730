// SPDX-License-Identifier: MIT
// Private to loader/: the segments of an ELF kernel, checked.
#ifndef LOADER_ELF_H
#define LOADER_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_MAX_SEGMENTS 32

/* Loads `filesz` bytes of the file to `paddr`, and zeroes up to `memsz`. */
struct elf_segment {
	uint64_t off, paddr, vaddr, filesz, memsz;
};

struct elf_file {
	struct elf_segment
		seg[ELF_MAX_SEGMENTS]; /* ascending by off; disjoint in memory, above 1 MiB */
	unsigned count;
	uint64_t entry;      /* physical; within a segment */
	uint64_t start, end; /* all segments lie within */
	uint64_t pvh_entry;  /* 0: no PVH note, or not looked for */
};

/* Where the bytes of a file come from: a descriptor, or the first part of what is being unpacked.
 */
struct elf_source {
	int (*read)(
		void *arg, uint64_t off, void *buf, size_t len); /* 0 or -errno with a message */
	void *arg;
	uint64_t size; /* of the whole file */
};

bool elf_is(const void *head, size_t len);

/* 0 or -EINVAL with a message that names the field. Notes are looked at only if `notes`. */
int elf_parse(const struct elf_source *src, bool notes, struct elf_file *elf);

/* The guest physical address of `addr`, which may be physical or virtual; 0 where no segment has
 * it. */
uint64_t elf_phys(const struct elf_file *elf, uint64_t addr);

#endif
