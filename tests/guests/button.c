// SPDX-License-Identifier: MIT
// Powers off when the power button is pressed, which it hears of by an interrupt; or counts the
// presses and stays, where it is told to be stubborn.
#include "tests/guests/guest.h"

#define PRESSED 1u

void guest_main(void)
{
	bool stubborn = told("stubborn");

	irq_init();
	irq_route(GSI_GED, VECTOR_IRQ);
	irq_enable();
	print("READY\n");
	for (uint32_t seen = 0;;) {
		while (irq_count(VECTOR_IRQ) == seen)
			relax();
		seen = irq_count(VECTOR_IRQ);
		CHECK_EQUAL(in32(PORT_GED), PRESSED);
		CHECK_EQUAL(in32(PORT_GED), 0);
		print("pressed\n");
		if (!stubborn)
			return;
	}
}
