// SPDX-License-Identifier: MIT
// Writes to and reads from every port; only what ends the machine by design is left out. Where
// devices are, in all widths and with all values.
#include "tests/guests/guest.h"

#define EVERY_END 0x10000u
#define DEVICES_END 0x700u /* where ports are tried in all widths */

/* What a port may not be given: a reset, power-off, a panic, or the way to them. */
static bool ends(unsigned port, uint32_t v)
{
	switch (port) {
	case PORT_I8042_DATA: /* may be the output port, of which bit 0 is the reset line */
		return !(v & 1);
	case PORT_I8042_CMD: /* pulses that line, or writes the output port */
		return (v >= 0xf0 && !(v & 1)) || v == 0xd1;
	case PORT_PVPANIC:
		return v & 1;
	case PORT_SLEEP_CONTROL:
		return v & 0x20;
	case PORT_RESET:
		return v == 1;
	default:
		return false;
	}
}

/* An access of more than a byte may reach a port that ends the machine by one of its bytes. */
static bool near_an_end(unsigned port, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		if (ends(port + i, 0xff) || ends(port + i, 0) || ends(port + i, 1))
			return true;
	return false;
}

static void touch(uint16_t port)
{
	if (!ends(port, 0xff))
		out8(port, 0xff);
	if (port >= DEVICES_END) {
		if (port % 4 == 0)
			CHECK_EQUAL(in32(port), 0xffffffff);
		return;
	}
	in8(port);
	in16(port);
	in32(port);
	if (near_an_end(port, 4))
		return;
	out16(port, 0xffff);
	out32(port, 0xffffffff);
	out32(port, 0);
}

static void every_value(uint16_t port)
{
	for (unsigned v = 0; v < 256; v++) {
		if (!ends(port, v))
			out8(port, (uint8_t)v);
		in8(port);
	}
}

void guest_main(void)
{
	static const struct {
		uint16_t port, count;
	} devices[] = {{PORT_I8042_DATA, 1}, {PORT_I8042_CMD, 1}, {PORT_RTC, 2}, {PORT_COM1, 8},
		{PORT_PVPANIC, 1}, {PORT_SLEEP_CONTROL, 8}};

	for (unsigned port = 0; port < EVERY_END; port++)
		touch((uint16_t)port);
	for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		for (unsigned k = 0; k < devices[i].count; k++)
			every_value((uint16_t)(devices[i].port + k));
	serial_init();
	CHECK_EQUAL(in8(0x5ff), 0xff); /* nobody's */
	CHECK_EQUAL(in16(0x6fe), 0xffff);
	CHECK_EQUAL(in32(0x6fc), 0xffffffff);
}
