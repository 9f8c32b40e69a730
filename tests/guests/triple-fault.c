// SPDX-License-Identifier: MIT
// Its first processor shuts down: an exception, and no table to find a handler in.
#include "tests/guests/guest.h"

void guest_kernel(unsigned cpu)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) nothing;

	print("about to fault\n");
	__asm__ volatile("lidt %0; ud2" : : "m"(nothing));
	STOP("still here");
}

void guest_main(void)
{
}
