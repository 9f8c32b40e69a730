// SPDX-License-Identifier: MIT
// Halts with interrupts off, at once: nothing will ever happen again.
#include "tests/guests/guest.h"

void guest_kernel(unsigned cpu)
{
	print("halting\n");
	__asm__ volatile("cli; hlt");
	STOP("still here");
}

void guest_main(void)
{
}
