// SPDX-License-Identifier: MIT
// Program text is mapped from files and never written, so that dropping it loses nothing.
#include "base/shed.h"

#include "base/util.h"

#include <link.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/mman.h>

#define PAGE 4096u

static int shed_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t start = align_down(info->dlpi_addr + p->p_vaddr, PAGE);
		uintptr_t end = align_up(info->dlpi_addr + p->p_vaddr + p->p_memsz, PAGE);

		/* What is not writable has no private copy that could be lost. The vDSO refuses,
		 * harmlessly. */
		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && !(p->p_flags & PF_W))
			madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 0;
}

void shed_startup_memory(void)
{
#ifdef __GLIBC__
	malloc_trim(0); /* musl gives back what is freed */
#endif
	dl_iterate_phdr(shed_text, NULL);
}
