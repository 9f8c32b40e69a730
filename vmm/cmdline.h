// SPDX-License-Identifier: MIT
// The kernel's command line: the words that a quick boot wants, then the user's.
#ifndef VMM_CMDLINE_H
#define VMM_CMDLINE_H

#include <stdbool.h>

#define CMDLINE_INIT "/.kvick/init" /* where the guest's init is in the initramfs of run */

struct cmdline_config {
	bool serial;             /* there is a COM1 for messages */
	bool init;               /* our init is process 1 */
	bool pci;                /* there is a PCI bus */
	bool alone;              /* there is one vCPU, and never more */
	const char *root_device; /* what the guest is to make its root; NULL or "": nothing said */
	const char *append;      /* the user's words; NULL: none */
};

/* The line, malloc'd; NULL when out of memory. Later words win in Linux, so the user's come last.
 */
char *cmdline_compose(const struct cmdline_config *c);

#endif
