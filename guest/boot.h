// SPDX-License-Identifier: MIT
// What stands between the kernel's start of init and its connection to the host.
#ifndef GUEST_BOOT_H
#define GUEST_BOOT_H

#include <stdbool.h>

/* What went wrong without ending the boot; told to the host, or on the console. */
struct trouble {
	const char *what; /* "module" */
	char name[64];    /* "virtio_net.ko" */
	int error;        /* errno */
};

#define BOOT_TROUBLES 16

struct boot {
	unsigned int port;       /* kvick.port= */
	char root[32];           /* kvick.root= */
	bool root_in_memory;     /* nothing of it has to be written out */
	unsigned int n_troubles; /* may exceed what the table holds */
	struct trouble troubles[BOOT_TROUBLES];
};

void boot_trouble(struct boot *b, const char *what, const char *name, int error);
/* /dev, /proc, /sys and what belongs into /dev. */
void boot_mount_system(struct boot *b);
/* Reads the parameters meant for us from the kernel's command line; the defaults stand otherwise.
 */
void boot_parameters(struct boot *b);
/* Finds and mounts the root that the parameters name. 0 or -errno. */
int boot_mount_root(struct boot *b);
/* The directories for what shall not outlive the run, where the root would keep it. */
void boot_mount_scratch(struct boot *b);
/* Loads what DIR/list names, in that order, and removes it: its memory is the guest's. */
void boot_load_modules(struct boot *b, const char *dir);
void boot_loopback(struct boot *b);
/* A stream to the host, close-on-exec; -errno. */
int boot_connect(const struct boot *b);

#endif
