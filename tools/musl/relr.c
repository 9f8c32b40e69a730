// SPDX-License-Identifier: MIT
// The program's relative relocations in their short form, applied before anything else runs.
//
// A position-independent program has one for each pointer in its tables: 24 bytes as RELA, a few
// bits as RELR (the generic ELF specification, "Relative Relocation Table"). musl's own start code
// applies RELR from 1.2.4 on; here it is done for every version, and none finds any left to do.
#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#ifndef DT_RELR // musl's header, before 1.2.4
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

#define EARLY __attribute__((no_stack_protector)) // there is no guard yet, and no C library
#define HIDDEN __attribute__((visibility("hidden")))

/* From the linker. The program is linked at address 0. */
extern HIDDEN char __ehdr_start[];
extern HIDDEN Elf64_Dyn _DYNAMIC[];

/* Called by the assembly below alone. */
EARLY __attribute__((used)) void relr_apply(void);

EARLY static void apply(const uint64_t *entry, size_t n)
{
	const uint64_t base = (uintptr_t)__ehdr_start;
	uint64_t *word = NULL;

	for (; n; entry++, n--) {
		if (*entry & 1) { // which of the next 63 words hold one
			for (uint64_t bits = *entry >> 1, *w = word; bits; bits >>= 1, w++)
				if (bits & 1)
					*w += base;
			word += 63;
		} else { // the address of a word that does
			word = (void *)(base + *entry);
			*word++ += base;
		}
	}
}

void relr_apply(void)
{
	const uint64_t *table = NULL;
	Elf64_Dyn *size = NULL;

	for (Elf64_Dyn *d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_RELR)
			table = (void *)(__ehdr_start + d->d_un.d_ptr);
		if (d->d_tag == DT_RELRSZ)
			size = d;
	}
	if (!table || !size)
		return;
	apply(table, size->d_un.d_val / sizeof(*table));
	size->d_un.d_val = 0;
}

/* The entry point: the kernel's stack is aligned, and as it was when _start begins. */
__asm__(".section .text.relr_start, \"ax\", @progbits\n"
	".globl relr_start\n"
	".hidden relr_start\n"
	".type relr_start, @function\n"
	"relr_start:\n"
	"	xor %ebp, %ebp\n"
	"	call relr_apply\n"
	"	xor %edx, %edx\n"
	"	jmp _start\n"
	".size relr_start, . - relr_start\n"
	".text\n");
