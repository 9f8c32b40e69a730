// SPDX-License-Identifier: MIT
// kvick image: all of it is kvick-image's, which has tools and compression.
#include "base/log.h"
#include "cli/cli.h"
#include "cli/kernel.h"

#include <errno.h>
#include <unistd.h>

int cmd_image(int argc, char **argv)
{
	int program = helper_open("kvick-image");

	if (program < 0)
		return cli_failed();
	fexecve(program, argv, environ);
	failno(errno, "kvick-image");
	return cli_failed();
}
