// SPDX-License-Identifier: MIT
// Who takes compressed kernels and modules apart for the loader.
//
// The loader links no decompressor. A running monitor has none of them in it, and what a stranger
// has packed is unpacked by a process that can do nothing else (vmm/unpack_helper.h).
#ifndef LOADER_UNPACKER_H
#define LOADER_UNPACKER_H

#include <stddef.h>
#include <stdint.h>

struct unpacker {
	/*
	 * Unpacks [off, off + len) of the file `fd`, which is borrowed for the call. What comes
	 * after the packed data is ignored: kernels have their unpacked size there. Bytes made, at
	 * most `max`; -ENOTSUP where the format is not known or there is nothing to unpack it with;
	 * -ENOSPC where there are more than `max`; -EINVAL where the data is broken. Each with a
	 * message.
	 */
	int64_t (*begin)(void *arg, int fd, uint64_t off, uint64_t len, uint64_t max);
	/* Copies [off, off + len) of the bytes made to `to`. 0 or -errno with a message. */
	int (*read)(void *arg, uint64_t off, void *to, size_t len);
	/* Gives back the memory they take. Due after each begin that made some. */
	void (*end)(void *arg);
	void *arg;
};

#endif
