// SPDX-License-Identifier: MIT
// What the lab's guests run besides busybox: one static program, the first argument says what it
// is to be. Some of it runs on the host, too, so that both ends make the same bytes.
#include "tests/vm/lab/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int report(const char *what)
{
	fprintf(stderr, "lab-guest: %s: %s\n", what, strerror(errno));
	return 1;
}

static const struct {
	const char *name;
	int (*run)(char **argv);
	int args; /* at least */
} tools[] = {
	{"pattern", tool_pattern, 2},
	{"check", tool_check, 2},
	{"button", tool_button, 0},
	{"serve", tool_serve, 1},
	{"connect", tool_connect, 3},
	{"evil", tool_evil, 1},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		if (argc > 1 && !strcmp(argv[1], tools[i].name) && argc >= 2 + tools[i].args)
			return tools[i].run(argv + 2);
	fprintf(stderr,
		"usage: lab-guest pattern SEED BYTES | check SEED BYTES [BYTES-A-SECOND] |\n"
		"       button | serve PORT | connect PORT STREAMS BYTES | evil HOW\n");
	return 2;
}
