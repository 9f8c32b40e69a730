// SPDX-License-Identifier: MIT
// The words of the kernel's command line, each with its reason.
#include "vmm/cmdline.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	ALWAYS = 1,
	WITH_SERIAL = 2,
	WITHOUT_SERIAL = 4,
	WITH_INIT = 8,
	WITHOUT_PCI = 16,
	WITH_PCI = 32,
	ALONE = 64
};

static const struct {
	unsigned when;
	const char *word;
} words[] = {
	{WITH_SERIAL, "console=ttyS0"},
	/* A panic is an end, which comes at once as a reset where nothing else tells of it. */
	{ALWAYS, "panic=-1"},
	/* The other three would be probed in vain. */
	{WITH_SERIAL, "8250.nr_uarts=1"},
	/* Else the driver makes the port its console unseen: three exits a letter, read by no one.
	 */
	{WITHOUT_SERIAL, "8250.nr_uarts=0"},
	/* There is no PCI bus; without this its configuration ports are searched for one. */
	{WITHOUT_PCI, "pci=off"},
	/* Else every slot is looked into for chipsets with known faults, before the bus is known.
	 */
	{WITH_PCI, "pci=noearly"},
	/* Grace periods while booting are waited for, and there is nothing yet to disturb. */
	{ALWAYS, "rcupdate.rcu_expedited=1"},
	/* The kernel's tests of its own ciphers, a fifth of a stock kernel's start. Under fips=1
	   they run. */
	{ALWAYS, "cryptomgr.notests"},
	/*
	 * No device here needs a bounce buffer. A guest with memory above 4 GiB would set 64 MiB
	 * aside for them and touch it all.
	 */
	{ALWAYS, "swiotlb=noforce"},
	/*
	 * On one processor Linux takes the lock prefix from each of thousands of instructions while
	 * it starts, which is a tenth of the small kernel's start. Kept, they cost what they cost
	 * every guest of two.
	 */
	{ALONE, "noreplace-smp"},
	{WITH_INIT, "rdinit=" CMDLINE_INIT},
};

char *cmdline_compose(const struct cmdline_config *c)
{
	unsigned when = ALWAYS | (c->serial ? WITH_SERIAL : WITHOUT_SERIAL) |
			(c->init ? WITH_INIT : 0u) | (c->pci ? WITH_PCI : WITHOUT_PCI) |
			(c->alone ? ALONE : 0u);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (words[i].when & when)
			fprintf(out, "%s%s", ftell(out) ? " " : "", words[i].word);
	}
	if (c->root_device && *c->root_device)
		fprintf(out, " %sroot=%s", c->init ? "kvick." : "", c->root_device);
	if (c->append && *c->append)
		fprintf(out, " %s", c->append);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
