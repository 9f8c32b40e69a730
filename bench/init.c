// SPDX-License-Identifier: MIT
// The guest's /init of the boot bench: it has been reached, so the machine may end.
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
