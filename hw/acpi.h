// SPDX-License-Identifier: MIT
// The ACPI tables that describe the machine to its guest: hardware-reduced, RSDP XSDT FADT MADT
// DSDT, and MCFG where there is PCI.
#ifndef HW_ACPI_H
#define HW_ACPI_H

#include "hw/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem;

/* A virtio-mmio device; its place lies below 4 GiB. */
struct acpi_mmio {
	uint64_t base, size;
	uint32_t gsi;
};

struct acpi_config {
	uint32_t cpus; /* APIC ids are 0 to cpus - 1 */
	bool serial;   /* there is a COM1 */
	const struct acpi_mmio *mmio;
	unsigned mmio_count; /* 36 at most */
	unsigned pci_buses;  /* 0: there is no PCI (hw/pci.h) */
};

#define ACPI_ROOM (LAYOUT_RESET_VECTOR - LAYOUT_ACPI) /* bytes */

/*
 * Writes the tables into ACPI_ROOM bytes at LAYOUT_ACPI, which are zeroes as yet and which the
 * memory map must call reserved, or ACPI's; *rsdp becomes the address of the first table. -ENOSPC
 * where they do not fit, or another -errno. Their readers expect code at the vector: see
 * pm_write_reset_vector.
 */
int acpi_build(struct mem *m, const struct acpi_config *cfg, uint64_t *rsdp);

/* The same bytes as they would stand at `base` (RSDP first), in ACPI_ROOM bytes of zeroes at `buf`;
 * *len of them are used. */
int acpi_tables(const struct acpi_config *cfg, uint64_t base, void *buf, size_t *len);

#endif
