// SPDX-License-Identifier: MIT
// kvick-net: bridges of the host and NICs of VMs on them, for a monitor that has no power over
// either.
#include "base/log.h"
#include "net/bridge/command.h"
#include "net/bridge/guard.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* "guard", with an enum jail_mode and a socket as standard input, is how a monitor starts it. */
int main(int argc, char **argv)
{
	prctl(PR_SET_NAME, "kvick-net"); /* it was started by the number of a descriptor */
	clearenv();
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	umask(022); /* dnsmasq reads its files as a user of its own */
	if (argc == 3 && !strcmp(argv[1], "guard"))
		return guard_run((enum jail_mode)atoi(argv[2])) ? EXIT_FAILURE : EXIT_SUCCESS;
	return command_run(argc - 1, argv + 1);
}
