// SPDX-License-Identifier: MIT
// kvick net: bridges that stay. All of it is kvick-net's, which has the libraries for it.
#include "base/log.h"
#include "cli/cli.h"
#include "cli/kernel.h"

#include <errno.h>
#include <unistd.h>

int cmd_net(int argc, char **argv)
{
	int program = helper_open("kvick-net");

	if (program < 0)
		return cli_failed();
	fexecve(program, argv, environ);
	failno(errno, "kvick-net");
	return cli_failed();
}
