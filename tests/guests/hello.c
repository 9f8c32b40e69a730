// SPDX-License-Identifier: MIT
// Is entered with what it was to be told: the command line, by PVH or by the 64-bit protocol.
#include "tests/guests/guest.h"

#define PVH_MAGIC 0x336ec578u
#define LINUX_MAGIC 0x53726448u /* "HdrS" at 0x202 of boot_params */

void guest_main(void)
{
	if (boot_pvh_info)
		CHECK_EQUAL(*(const uint32_t *)boot_pvh_info, PVH_MAGIC);
	else
		CHECK_EQUAL(*(const uint32_t *)(boot_linux_params + 0x202), LINUX_MAGIC);
	print(boot_pvh_info ? "entered by PVH: " : "entered in 64-bit mode: ");
	print(cmdline());
	CHECK(!told("greetin") && !told("greetings"));
	CHECK(told("greeting"));
}
