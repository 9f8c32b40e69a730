// SPDX-License-Identifier: MIT
// Power management of hardware-reduced ACPI: sleep registers, reset register, the register behind
// the generic event device through which the power button is pressed and slots are said to change,
// and the one by which the guest ejects what was in a slot
// (ACPI 6.4, 4.8.3.7, 4.8.3.6, 5.6.9, 6.3.3).
#ifndef HW_PM_H
#define HW_PM_H

#include <stdint.h>

struct bus;
struct irq;
struct mem;
struct pm;
struct stream_in;
struct stream_out;

#define PM_SLEEP_TYPE_S5 5u  /* what _S5 in the DSDT says */
#define PM_RESET_VALUE 1u    /* what the FADT says */
#define PM_EVENT_POWER 0x01u /* bits of the event register, as _EVT in the DSDT reads them */
#define PM_EVENT_ADDED(n) (0x100u << (n))    /* in the n-th hot-plug slot there is something */
#define PM_EVENT_WANTED(n) (0x10000u << (n)) /* what is there is wanted back */

struct pm_config {
	struct bus *pio;       /* gets the ports; outlives the device */
	const struct irq *irq; /* GSI_GED; outlives the device */

	/* What the guest asked for; on a vCPU's thread, nothing locked. */
	void (*power_off)(void *arg);
	void (*reset)(void *arg);
	void (*ejected)(void *arg, unsigned slots); /* a bit each; NULL: there is no hot-plug */
	void *arg;
};

/* `cfg` is copied. 0 or -errno. */
int pm_create(struct pm **out, const struct pm_config *cfg);

/* NULL is fine. */
void pm_destroy(struct pm *p);

/* Tells the guest of an event. From any thread. */
void pm_raise(struct pm *p, uint32_t event);

/*
 * Writes code to LAYOUT_RESET_VECTOR that resets the machine by the reset register. Linux takes a
 * hardware-reduced machine for one with EFI and does not use the register by itself: finding no EFI
 * it jumps to the BIOS in real mode, where without this it would run through zeroes. 0 or -errno.
 */
int pm_write_reset_vector(struct mem *m);

/* vCPUs are parked for these. */
void pm_reset(struct pm *p);
void pm_save(struct pm *p, struct stream_out *out);
int pm_load(struct pm *p, struct stream_in *in);

#endif
