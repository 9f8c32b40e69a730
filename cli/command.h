// SPDX-License-Identifier: MIT
// The frame of a command about a device of a running VM: options, words and help.
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "base/field.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Which options it has beside --help. */
enum command_kind {
	COMMAND_ASKS = 1,     /* none */
	COMMAND_WAITS = 2,    /* --timeout */
	COMMAND_SWITCHES = 4, /* --switch */
};

struct command_options {
	bool help;
	uint64_t timeout_ns; /* COMMAND_WAITS */
	bool takes_over;     /* COMMAND_SWITCHES */
	struct field_list words;
};

struct command {
	enum command_kind kind;
	unsigned more;       /* how many words may follow the VM and its device */
	const char *missing; /* said where there are fewer or more */
	const char *usage;
	int (*act)(const struct command_options *o); /* 0, or -errno with a message */
	void (*more_help)(FILE *out);                /* NULL: none */
};

/* Returns the process's exit status. */
int command_run(const struct command *c, int argc, char **argv);

#endif
