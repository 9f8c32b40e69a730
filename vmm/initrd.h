// SPDX-License-Identifier: MIT
// The guest's initial RAM disk: a file as it is, or a root directory with our init packed on the
// way.
#ifndef VMM_INITRD_H
#define VMM_INITRD_H

#include <stdbool.h>
#include <stdint.h>

struct initrd;
struct loader_initrd;

/* A file. `fd` is taken, also on failure; `name` is borrowed. 0 or -errno. */
int initrd_from_file(struct initrd **out, int fd, const char *name);

/* What makes a directory bootable. Descriptors and strings are borrowed until initrd_destroy. */
struct initrd_root {
	int root_fd; /* -1: the root is elsewhere, and this is what leads there */
	const char *root_name;
	int init_fd; /* the guest's init, which becomes process 1 */
	int kernel_fd;
	const char *kernel_path; /* modules are searched beside it, and it is named in messages */
	const char *modules;     /* the directory of modules the user named; NULL: search */
	bool disks;              /* there are some */
	bool nics;               /* there are some, or may be */
	bool nics_wanted;        /* they were asked for: a kernel without their driver is refused */
	bool pci;                /* virtio devices are on a PCI bus */
	const struct unpacker *unpacker; /* of packed modules; NULL: they are refused */
};

/* A root directory, with init and the modules that this kernel needs in /.kvick. 0 or -errno. */
int initrd_from_root(struct initrd **out, const struct initrd_root *r);

/* NULL is fine. */
void initrd_destroy(struct initrd *i);

uint64_t initrd_size(const struct initrd *i);

/* Valid as long as `i`. */
const struct loader_initrd *initrd_loader(const struct initrd *i);

#endif
