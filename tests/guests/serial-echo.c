// SPDX-License-Identifier: MIT
// Sends back what it receives, by polling, until a byte 4 (end of transmission) comes.
#include "tests/guests/guest.h"

void guest_main(void)
{
	uint64_t count = 0;
	char c;

	serial_init();
	print("READY\n");
	for (;;) {
		while (!(in8(PORT_COM1 + 5) & 1))
			relax();
		CHECK(!(in8(PORT_COM1 + 5) & 2)); /* no overrun */
		c = (char)in8(PORT_COM1);
		if (c == 4)
			break;
		print_char(c);
		count++;
	}
	print("\nbytes: ");
	print_number(count);
}
