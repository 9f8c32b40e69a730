// SPDX-License-Identifier: MIT
// The port by which a guest's kernel says that it has panicked (QEMU's pvpanic interface).
#ifndef HW_PVPANIC_H
#define HW_PVPANIC_H

#include <stdint.h>

struct bus;
struct pvpanic;

#define PVPANIC_PANICKED 0x01u     /* it will do nothing more */
#define PVPANIC_CRASH_LOADED 0x02u /* it goes on to its crash kernel */

struct pvpanic_config {
	struct bus *pio; /* gets the port; outlives the device */

	/* PVPANIC_ bits, one at least; on a vCPU's thread, nothing locked. */
	void (*event)(void *arg, uint8_t events);
	void *arg;
};

/* `cfg` is copied. The device has no state to save or reset. 0 or -errno. */
int pvpanic_create(struct pvpanic **out, const struct pvpanic_config *cfg);

/* NULL is fine. */
void pvpanic_destroy(struct pvpanic *p);

#endif
