// SPDX-License-Identifier: MIT
// Writes ACPI's byte code (ACPI 6.4, chapter 20) and resource descriptors (6.4), a term after the
// other.
//
// Terms that hold others are opened and closed with aml_end, which writes their lengths. Errors are
// sticky: look at `err` once. Names are what ASL calls name strings, of up to
// four segments: "COM1", "\\_SB", "\\_SB.PWRB".
#ifndef HW_AML_H
#define HW_AML_H

#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH 8

struct aml {
	uint8_t *buf; /* malloc'd; owned */
	size_t len, cap;
	int err; /* 0 or -errno: out of memory, nested too deep, too long, a bad name */
	struct {
		size_t at; /* where the length goes */
		uint8_t kind;
	} open[AML_DEPTH];
	unsigned depth;
};

void aml_init(struct aml *a);
void aml_finish(struct aml *a);

/* Terms that are opened. */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args); /* serialized */
void aml_package(struct aml *a, uint8_t count);
void aml_if(struct aml *a);                        /* its condition follows, then its body */
void aml_field(struct aml *a, const char *region); /* of double words; aml_field_unit follows */
void aml_end(struct aml *a);

/* Values. */
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id); /* "PNP0501" */
void aml_ref(struct aml *a, const char *name);
void aml_local(struct aml *a, unsigned n);

/* Name(name, ...) with its value; aml_name is followed by a value or an opened package. */
void aml_name(struct aml *a, const char *name);
void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_string(struct aml *a, const char *name, const char *s);
void aml_name_eisaid(struct aml *a, const char *name, const char *id);

/* OperationRegion(name, SystemIO, port, len), and a unit of a field in it. */
void aml_region_io(struct aml *a, const char *name, uint16_t port, uint8_t len);
void aml_field_unit(struct aml *a, const char *name, unsigned bits);

/* Operators; for two of them the operands follow: Store(value, target), Notify(object, value). */
void aml_store(struct aml *a);
void aml_notify(struct aml *a);
void aml_and_local(struct aml *a, unsigned n, uint64_t mask); /* And(LocalN, mask) */

/* Name(_CRS, ResourceTemplate() { ... }), opened; the descriptors it may hold. */
void aml_resources(struct aml *a);
void aml_res_io(struct aml *a, uint16_t port, uint8_t len);
void aml_res_mem32(struct aml *a, uint32_t base, uint32_t size);
void aml_res_bus(struct aml *a, uint16_t first, uint16_t last);     /* bus numbers, produced */
void aml_res_window32(struct aml *a, uint32_t base, uint32_t size); /* of memory, produced */
void aml_res_irq(struct aml *a, uint32_t gsi, int shared); /* edge triggered, active high */

#endif
