// SPDX-License-Identifier: MIT
// How the first vCPU enters what a loader has put into memory.
#ifndef HW_BOOT_H
#define HW_BOOT_H

#include <stdint.h>

enum boot_mode {
	BOOT_PVH, /* 32-bit protected mode, paging off, flat segments, EBX = info (PVH boot ABI) */
	BOOT_LONG64, /* 64-bit, identity map of the first 4 GiB, RSI = info (Linux boot, 64-bit) */
};

struct boot_entry {
	enum boot_mode mode;
	uint64_t entry; /* guest physical = virtual address of the first instruction */
	uint64_t info;  /* hvm_start_info or boot_params; 0 where there is none */
};

#endif
