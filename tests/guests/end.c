// SPDX-License-Identifier: MIT
// Ends in the way that its command line says.
#include "tests/guests/guest.h"

static void pulse_reset(void)
{
	out8(PORT_I8042_CMD, 0xfe);
}

static void acpi_reset(void)
{
	out8(PORT_RESET, 1);
}

/* As Linux does where nothing else is left. */
static void output_port_reset(void)
{
	out8(PORT_I8042_CMD, 0xd1);
	out8(PORT_I8042_DATA, 0xfe);
}

static void pvpanic(void)
{
	CHECK(in8(PORT_PVPANIC) & 1);
	out8(PORT_PVPANIC, 1);
}

/* What Linux prints, and then it stops. */
static void console_panic(void)
{
	print("\n[    0.1] Kernel panic - not syncing: no working init found\n"
	      "[    0.2] CPU: 0 PID: 1 Comm: swapper\n"
	      "[    0.3] ---[ end Kernel panic - not syncing: no working init found ]---\n");
	spin();
}

static void panic_and_reset(void)
{
	print("\nKernel panic - not syncing: again\n");
	acpi_reset();
}

/* A program may print that too, but not at the start of a line. */
static void quoted_panic(void)
{
	print("\ninit: Kernel panic - not syncing: is what it said\n");
	power_off();
}

static const struct {
	const char *name;
	void (*end)(void);
} ends[] = {
	{"power-off", power_off},
	{"i8042", pulse_reset},
	{"output-port", output_port_reset},
	{"acpi", acpi_reset},
	{"pvpanic", pvpanic},
	{"console-panic", console_panic},
	{"panic-and-reset", panic_and_reset},
	{"quoted-panic", quoted_panic},
	{"spin", spin},
};

void guest_main(void)
{
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (told(ends[i].name)) {
			print("READY\n");
			ends[i].end();
			print("an instruction after the end\n");
			STOP(ends[i].name);
		}
	}
	STOP("the command line names no end");
}
