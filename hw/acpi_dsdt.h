// SPDX-License-Identifier: MIT
// The part of the ACPI tables that is code: which devices there are and what they use.
#ifndef HW_ACPI_DSDT_H
#define HW_ACPI_DSDT_H

struct acpi_config;
struct aml;

/* Writes the DSDT's contents, without the table's header. Errors are in a->err. */
void acpi_dsdt(struct aml *a, const struct acpi_config *cfg);

#endif
