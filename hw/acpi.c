// SPDX-License-Identifier: MIT
// The ACPI tables (ACPI 6.4, chapter 5).
//
// All of them are put one after the other where the guest finds them. A table is opened, filled and
// closed; closing sets its length and checksum. The XSDT comes last, when everybody's address is
// known; the RSDP's place at the front is kept for it.
#include "hw/acpi.h"

#include "base/log.h"
#include "base/util.h"
#include "hw/acpi_dsdt.h"
#include "hw/aml.h"
#include "hw/layout.h"
#include "hw/mem.h"
#include "hw/pm.h"
#include "hw/rtc.h"

#include <errno.h>

#define RSDP_SIZE 36u
#define HEADER_SIZE 36u
#define HEADER_LENGTH 4u
#define HEADER_CHECKSUM 9u
#define MMIO_MAX 36u /* as many as the DSDT has names for */

/* FADT, 5.2.9: offsets and the values that go there. */
#define FADT_SIZE 276u
#define TABLES_SIZE (ACPI_ROOM - FADT_SIZE)
#define FADT_DSDT 40u
#define FADT_CENTURY 108u
#define FADT_BOOT_FLAGS 109u
#define FADT_FLAGS 112u
#define FADT_RESET_REG 116u
#define FADT_RESET_VALUE 128u
#define FADT_MINOR 131u
#define FADT_X_DSDT 140u
#define FADT_SLEEP_CONTROL 244u
#define FADT_SLEEP_STATUS 256u
#define FADT_HYPERVISOR 268u

#define BOOT_LEGACY_DEVICES 0x01u
#define BOOT_NO_VGA 0x04u
#define BOOT_NO_ASPM 0x10u
/* Not set: 8042 (0x02), so that it is not probed; "no CMOS RTC" (0x20). */

#define FLAG_WBINVD (1u << 0)
#define FLAG_C1 (1u << 2)
#define FLAG_NO_POWER_BUTTON_REG (1u << 4) /* it is a device in the DSDT */
#define FLAG_NO_SLEEP_BUTTON_REG (1u << 5)
#define FLAG_NO_RTC_WAKE_REG (1u << 6)
#define FLAG_RESET_REG (1u << 10)
#define FLAG_HW_REDUCED (1u << 20)

/* MADT, 5.2.12. */
#define MADT_PCAT_COMPAT 1u /* the in-kernel interrupt controllers include the two 8259s */
#define MADT_LAPIC 0u
#define MADT_IOAPIC 1u
#define MADT_LAPIC_NMI 4u
#define MADT_X2APIC 9u
#define MADT_X2APIC_NMI 10u
#define LAPIC_ENABLED 1u
#define LAPIC_ID_MAX 254u /* 255 means all of them */

/* MCFG: eight bytes that are reserved, then segment 0's entry. */
#define MCFG_REST 24u
#define MCFG_BASE 44u
#define MCFG_LAST_BUS 55u

#define XSDT_ENTRIES 3u

struct tables {
	uint64_t base; /* the guest's address of buf */
	uint8_t *buf;  /* zeroes at first; after TABLES_SIZE bytes there is room for the largest
			  piece  that is written in place, which goes there where it does not fit */
	size_t len;
	size_t open;   /* where the open table starts */
	bool overflow; /* something did not fit */
};

static uint8_t *extend(struct tables *t, size_t len)
{
	uint8_t *p = t->buf + t->len;

	if (!range_ok(t->len, len, TABLES_SIZE)) {
		t->overflow = true;
		return t->buf + TABLES_SIZE;
	}
	t->len += len;
	return p;
}

static void put(struct tables *t, const void *data, size_t len)
{
	if (range_ok(t->len, len, TABLES_SIZE))
		memcpy(extend(t, len), data, len);
	else
		t->overflow = true;
}

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return (uint8_t)-sum;
}

/* 5.2.6; `rest` bytes of zeroes follow the header and are returned. */
static uint8_t *open_table(struct tables *t, const char *sig, uint8_t revision, size_t rest)
{
	uint8_t *h;

	t->len = align_up(t->len, 16);
	t->open = t->len;
	h = extend(t, HEADER_SIZE + rest);
	memcpy(h, sig, 4);
	h[8] = revision;
	memcpy(h + 10, "KVICK ", 6);
	memcpy(h + 16, "KVICKVM ", 8);
	put_le32(h + 24, 1);
	memcpy(h + 28, "KVCK", 4);
	put_le32(h + 32, 1);
	return h;
}

/* The table's address. */
static uint64_t close_table(struct tables *t)
{
	uint8_t *h = t->buf + t->open;

	if (t->overflow)
		return 0;
	put_le32(h + HEADER_LENGTH, (uint32_t)(t->len - t->open));
	h[HEADER_CHECKSUM] = checksum(h, t->len - t->open);
	return t->base + t->open;
}

/* A byte-wide register in the port space (5.2.3.2). */
static void put_register(uint8_t *p, uint16_t port)
{
	p[0] = 1; /* system I/O */
	p[1] = 8; /* bits */
	p[3] = 1; /* accessed by bytes */
	put_le64(p + 4, port);
}

static int dsdt(struct tables *t, const struct acpi_config *cfg, uint64_t *addr)
{
	struct aml a;
	int rc;

	aml_init(&a);
	acpi_dsdt(&a, cfg);
	rc = a.err;
	if (!rc) {
		open_table(t, "DSDT", 2, 0);
		put(t, a.buf, a.len);
		*addr = close_table(t);
	}
	aml_finish(&a);
	return rc;
}

static uint64_t fadt(struct tables *t, const struct acpi_config *cfg, uint64_t dsdt_addr)
{
	uint8_t *f = open_table(t, "FACP", 6, FADT_SIZE - HEADER_SIZE);

	put_le32(f + FADT_DSDT, (uint32_t)dsdt_addr);
	put_le64(f + FADT_X_DSDT, dsdt_addr);
	f[FADT_CENTURY] = RTC_REG_CENTURY;
	put_le16(f + FADT_BOOT_FLAGS,
		BOOT_NO_VGA | BOOT_NO_ASPM | (cfg->serial ? BOOT_LEGACY_DEVICES : 0));
	put_le32(f + FADT_FLAGS, FLAG_WBINVD | FLAG_C1 | FLAG_NO_POWER_BUTTON_REG |
					 FLAG_NO_SLEEP_BUTTON_REG | FLAG_NO_RTC_WAKE_REG |
					 FLAG_RESET_REG | FLAG_HW_REDUCED);
	put_register(f + FADT_RESET_REG, PORT_RESET);
	f[FADT_RESET_VALUE] = PM_RESET_VALUE;
	f[FADT_MINOR] = 4;
	put_register(f + FADT_SLEEP_CONTROL, PORT_SLEEP_CONTROL);
	put_register(f + FADT_SLEEP_STATUS, PORT_SLEEP_STATUS);
	memcpy(f + FADT_HYPERVISOR, "KVICK", 5);
	return close_table(t);
}

/* Processor and NMI entry come in two sizes: the short one's id is a byte. */
static void madt_cpu(struct tables *t, uint32_t id)
{
	uint8_t local[8] = {MADT_LAPIC, 8, (uint8_t)id, (uint8_t)id, LAPIC_ENABLED};
	uint8_t x2[16] = {MADT_X2APIC, 16, [8] = LAPIC_ENABLED};

	if (id <= LAPIC_ID_MAX) {
		put(t, local, sizeof(local));
		return;
	}
	put_le32(x2 + 4, id);
	put_le32(x2 + 12, id);
	put(t, x2, sizeof(x2));
}

static uint64_t madt(struct tables *t, const struct acpi_config *cfg)
{
	static const uint8_t nmi[6] = {MADT_LAPIC_NMI, 6, 0xff, [5] = 1};
	static const uint8_t x2nmi[12] = {
		MADT_X2APIC_NMI, 12, [4] = 0xff, [5] = 0xff, [6] = 0xff, [7] = 0xff, [8] = 1};
	uint8_t ioapic[12] = {MADT_IOAPIC, 12};
	uint8_t *h = open_table(t, "APIC", 5, 8);

	put_le32(h + 36, LAYOUT_LAPIC);
	put_le32(h + 40, MADT_PCAT_COMPAT);
	for (uint32_t id = 0; id < cfg->cpus && !t->overflow; id++)
		madt_cpu(t, id);
	put_le32(ioapic + 4, LAYOUT_IOAPIC);
	put(t, ioapic, sizeof(ioapic));
	/* No overrides: every line is as on the ISA bus, edge triggered, active high, its own
	 * number. */
	put(t, nmi, sizeof(nmi));
	if (cfg->cpus > LAPIC_ID_MAX + 1)
		put(t, x2nmi, sizeof(x2nmi));
	return close_table(t);
}

/* PCI firmware specification 3.2, 4.1.2: where configuration space is in memory. */
static uint64_t mcfg(struct tables *t, unsigned buses)
{
	uint8_t *h = open_table(t, "MCFG", 1, MCFG_REST);

	put_le64(h + MCFG_BASE, LAYOUT_PCI_ECAM);
	h[MCFG_LAST_BUS] = (uint8_t)(buses - 1);
	return close_table(t);
}

/* 5.2.5.3: revision 2, without an RSDT */
static void rsdp(struct tables *t, uint64_t xsdt)
{
	uint8_t *r = t->buf;

	memcpy(r, "RSD PTR ", 8);
	memcpy(r + 9, "KVICK ", 6);
	r[15] = 2;
	put_le32(r + 20, RSDP_SIZE);
	put_le64(r + 24, xsdt);
	r[8] = checksum(r, 20);
	r[32] = checksum(r, RSDP_SIZE);
}

static int check_config(const struct acpi_config *cfg)
{
	if (cfg->mmio_count > MMIO_MAX)
		return fail(EINVAL, "ACPI: %u virtio-mmio devices, at most %u", cfg->mmio_count,
			MMIO_MAX);
	for (unsigned i = 0; i < cfg->mmio_count; i++)
		if (!range_ok(cfg->mmio[i].base, cfg->mmio[i].size, GIB(4)) || !cfg->mmio[i].size)
			return fail(EINVAL,
				"ACPI: virtio-mmio device %u at 0x%llx is not below 4 GiB", i,
				(unsigned long long)cfg->mmio[i].base);
	return 0;
}

static int build(struct tables *t, const struct acpi_config *cfg)
{
	uint8_t entries[XSDT_ENTRIES * 8];
	size_t len = 0;
	uint64_t code = 0;
	int rc;

	t->len = RSDP_SIZE;
	rc = dsdt(t, cfg, &code);
	if (rc)
		return rc;
	put_le64(entries + len, fadt(t, cfg, code));
	len += 8;
	put_le64(entries + len, madt(t, cfg));
	len += 8;
	if (cfg->pci_buses) {
		put_le64(entries + len, mcfg(t, cfg->pci_buses));
		len += 8;
	}
	open_table(t, "XSDT", 1, 0);
	put(t, entries, len);
	rsdp(t, close_table(t));
	if (t->overflow)
		return fail(ENOSPC, "ACPI: the tables of %u CPUs do not fit into %u KiB", cfg->cpus,
			TABLES_SIZE / 1024);
	return 0;
}

int acpi_tables(const struct acpi_config *cfg, uint64_t base, void *buf, size_t *len)
{
	struct tables t = {.base = base, .buf = buf};
	int rc = check_config(cfg);

	if (!rc)
		rc = build(&t, cfg);
	*len = t.len;
	return rc;
}

int acpi_build(struct mem *m, const struct acpi_config *cfg, uint64_t *rsdp_addr)
{
	void *buf = mem_get(m, LAYOUT_ACPI, ACPI_ROOM);
	size_t len = 0;
	int rc = buf ? acpi_tables(cfg, LAYOUT_ACPI, buf, &len) : fail(EFAULT, "ACPI: no memory");

	if (!rc) {
		mem_dirty(m, LAYOUT_ACPI, len);
		*rsdp_addr = LAYOUT_ACPI;
	}
	return rc;
}
