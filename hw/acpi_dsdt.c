// SPDX-License-Identifier: MIT
// The DSDT: which devices there are and what they use.
//
// Interrupts are extended descriptors with global numbers: the 8259's lines that the short ones
// name do not exist in a hardware-reduced machine. CPUs are in the MADT only; a device for each
// would carry nothing but its number and cost the guest's interpreter its time.
#include "hw/acpi_dsdt.h"

#include "hw/acpi.h"
#include "hw/aml.h"
#include "hw/layout.h"
#include "hw/pci.h"
#include "hw/pm.h"

#include <stdio.h>

#define NOTIFY_DEVICE_CHECK 1u /* ACPI 6.4, 5.6.6 */
#define NOTIFY_EJECT 3u
#define NOTIFY_BUTTON 0x80u /* pressed (4.8.3.2) */

static void serial_port(struct aml *a)
{
	aml_device(a, "COM1");
	aml_name_eisaid(a, "_HID", "PNP0501");
	aml_name_int(a, "_UID", 1);
	aml_resources(a);
	aml_res_io(a, PORT_COM1, 8);
	aml_res_irq(a, GSI_COM1, 0);
	aml_end(a);
	aml_end(a);
}

static void clock_device(struct aml *a)
{
	aml_device(a, "RTC");
	aml_name_eisaid(a, "_HID", "PNP0B00");
	aml_resources(a);
	aml_res_io(a, PORT_RTC, 2);
	aml_res_irq(a, GSI_RTC, 0);
	aml_end(a);
	aml_end(a);
}

static void panic_device(struct aml *a)
{
	aml_device(a, "PEVT");
	aml_name_string(a, "_HID", "QEMU0001");
	aml_resources(a);
	aml_res_io(a, PORT_PVPANIC, 1);
	aml_end(a);
	aml_end(a);
}

static void power_button(struct aml *a)
{
	aml_device(a, "PWRB");
	aml_name_eisaid(a, "_HID", "PNP0C0C");
	aml_name_int(a, "_UID", 0);
	aml_end(a);
}

#define NAME_SLOT 16u

/* Within PCI0, or from anywhere with what is in front. */
static const char *slot_name(char name[NAME_SLOT], const char *front, unsigned n)
{
	static const char digits[] = "0123456789ABCDEF";
	unsigned slot = PCI_HOT_FIRST + n;

	snprintf(name, NAME_SLOT, "%sS%c%c", front, digits[slot >> 4], digits[slot & 15]);
	return name;
}

static void notify_if(struct aml *a, uint32_t event, const char *object, unsigned value)
{
	aml_if(a);
	aml_and_local(a, 0, event);
	aml_notify(a);
	aml_ref(a, object);
	aml_int(a, value);
	aml_end(a);
}

static void notify_slots(struct aml *a)
{
	char name[NAME_SLOT];

	for (unsigned n = 0; n < PCI_HOT_SLOTS; n++) {
		slot_name(name, "\\_SB.PCI0.", n);
		notify_if(a, PM_EVENT_ADDED(n), name, NOTIFY_DEVICE_CHECK);
		notify_if(a, PM_EVENT_WANTED(n), name, NOTIFY_EJECT);
	}
}

/* Its interrupt says that the event register holds something; reading that clears it (5.6.9). */
static void event_device(struct aml *a, bool hot_plug)
{
	aml_device(a, "GED");
	aml_name_string(a, "_HID", "ACPI0013");
	aml_name_int(a, "_UID", 0);
	aml_resources(a);
	aml_res_irq(a, GSI_GED, 0);
	aml_end(a);
	aml_region_io(a, "EREG", PORT_GED, 4);
	aml_field(a, "EREG");
	aml_field_unit(a, "EVNT", 32);
	aml_end(a);
	aml_method(a, "_EVT", 1);
	aml_store(a);
	aml_ref(a, "EVNT");
	aml_local(a, 0);
	notify_if(a, PM_EVENT_POWER, "PWRB", NOTIFY_BUTTON);
	if (hot_plug)
		notify_slots(a);
	aml_end(a);
	aml_end(a);
}

static int is_shared(const struct acpi_config *cfg, unsigned n)
{
	for (unsigned i = 0; i < cfg->mmio_count; i++)
		if (i != n && cfg->mmio[i].gsi == cfg->mmio[n].gsi)
			return 1;
	return 0;
}

static void virtio_device(struct aml *a, const struct acpi_config *cfg, unsigned n)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const char name[] = {'V', 'I', 'O', digits[n], '\0'};

	aml_device(a, name);
	aml_name_string(a, "_HID", "LNRO0005");
	aml_name_int(a, "_UID", n);
	aml_name_int(a, "_CCA", 1);
	aml_resources(a);
	aml_res_mem32(a, (uint32_t)cfg->mmio[n].base, (uint32_t)cfg->mmio[n].size);
	aml_res_irq(a, cfg->mmio[n].gsi, is_shared(cfg, n));
	aml_end(a);
	aml_end(a);
}

/*
 * Slots that the guest's kernel is to watch (6.3): it takes a device for one because it can be
 * ejected. Eight cost a
 * stock kernel's start 16 exits of 1380, and no time that can be told from chance.
 */
static void hot_slots(struct aml *a)
{
	char name[NAME_SLOT];

	aml_region_io(a, "EJRG", PORT_PCI_EJECT, 4);
	aml_field(a, "EJRG");
	aml_field_unit(a, "EJCT", 32);
	aml_end(a);
	for (unsigned n = 0; n < PCI_HOT_SLOTS; n++) {
		aml_device(a, slot_name(name, "", n));
		aml_name_int(a, "_ADR", (uint64_t)(PCI_HOT_FIRST + n) << 16);
		aml_name_int(a, "_SUN", PCI_HOT_FIRST + n);
		aml_method(a, "_EJ0", 1);
		aml_store(a);
		aml_int(a, 1u << n);
		aml_ref(a, "EJCT");
		aml_end(a);
		aml_end(a);
	}
}

/*
 * PCI interrupts are MSI-X: there is no routing of pins to tell. _CBA would repeat what the MCFG
 * says. The data port's neighbours are the bridge's own, the window is what it hands on.
 */
static void host_bridge(struct aml *a, unsigned buses)
{
	aml_device(a, "PCI0");
	aml_name_eisaid(a, "_HID", "PNP0A08");
	aml_name_eisaid(a, "_CID", "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_SEG", 0);
	aml_name_int(a, "_BBN", 0);
	aml_name_int(a, "_CCA", 1);
	aml_resources(a);
	aml_res_bus(a, 0, (uint16_t)(buses - 1));
	aml_res_io(a, PORT_PCI_ADDRESS, 8);
	aml_res_window32(a, LAYOUT_PCI_WINDOW, LAYOUT_PCI_WINDOW_SIZE);
	aml_end(a);
	hot_slots(a);
	aml_end(a);
}

/* Linux does not use configuration space in memory unless it is somebody's. */
static void pci_reserved(struct aml *a, unsigned buses)
{
	aml_device(a, "ECAM");
	aml_name_eisaid(a, "_HID", "PNP0C02");
	aml_name_int(a, "_UID", 0);
	aml_resources(a);
	aml_res_mem32(a, LAYOUT_PCI_ECAM, buses << LAYOUT_PCI_BUS_SHIFT);
	aml_end(a);
	aml_end(a);
}

/* Only "off" exists. The second value is for a register that a hardware-reduced machine has not. */
static void sleep_states(struct aml *a)
{
	aml_name(a, "_S5");
	aml_package(a, 2);
	aml_int(a, PM_SLEEP_TYPE_S5);
	aml_int(a, 0);
	aml_end(a);
}

void acpi_dsdt(struct aml *a, const struct acpi_config *cfg)
{
	aml_scope(a, "\\_SB");
	if (cfg->serial)
		serial_port(a);
	clock_device(a);
	panic_device(a);
	power_button(a);
	event_device(a, cfg->pci_buses);
	for (unsigned i = 0; i < cfg->mmio_count; i++)
		virtio_device(a, cfg, i);
	if (cfg->pci_buses) {
		pci_reserved(a, cfg->pci_buses);
		host_bridge(a, cfg->pci_buses);
	}
	aml_end(a);
	sleep_states(a);
}
