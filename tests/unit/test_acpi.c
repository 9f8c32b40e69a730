// SPDX-License-Identifier: MIT
// The ACPI tables: structure and checksums by our own walk, meaning by ACPICA's compiler and
// interpreter.
#include "tests/unit/test.h"

#include "base/util.h"
#include "hw/acpi.h"
#include "hw/aml.h"
#include "hw/layout.h"
#include "hw/mem.h"
#include "hw/pm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct acpi_mmio mmio[] = {
	{LAYOUT_VIRTIO_MMIO, 0x1000, GSI_VIRTIO},
	{LAYOUT_VIRTIO_MMIO + 0x1000, 0x1000, GSI_VIRTIO + 1},
	{LAYOUT_VIRTIO_MMIO + 0x2000, 0x1000, GSI_VIRTIO + 1},
};

static const struct acpi_config full = {
	.cpus = 300, .serial = true, .mmio = mmio, .mmio_count = ARRAY_SIZE(mmio)};

static const struct acpi_config with_pci = {.cpus = 2, .serial = true, .pci_buses = 1};

static uint8_t buf[ACPI_ROOM];

static void *zeroed(void)
{
	return memset(buf, 0, sizeof(buf));
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s += *p++;
	return s;
}

/* The table at the guest's address `at`, checked. */
static const uint8_t *table(const uint8_t *all, size_t len, uint64_t at, const char *sig)
{
	const uint8_t *t = all + (at - LAYOUT_ACPI);

	assert_true(at >= LAYOUT_ACPI && range_ok(at - LAYOUT_ACPI, 36, len));
	assert_memory_equal(t, sig, 4);
	assert_true(range_ok(at - LAYOUT_ACPI, get_le32(t + 4), len));
	assert_int_equal(sum(t, get_le32(t + 4)), 0);
	return t;
}

struct found {
	const uint8_t *fadt, *madt, *dsdt, *mcfg; /* mcfg: NULL where there is none */
};

static struct found walk(const uint8_t *all, size_t len)
{
	const uint8_t *xsdt;
	struct found f;

	assert_memory_equal(all, "RSD PTR ", 8);
	assert_int_equal(sum(all, 20), 0);
	assert_int_equal(sum(all, 36), 0);
	assert_int_equal(all[15], 2);
	xsdt = table(all, len, get_le64(all + 24), "XSDT");
	assert_true(get_le32(xsdt + 4) == 36 + 2 * 8 || get_le32(xsdt + 4) == 36 + 3 * 8);
	f.mcfg = get_le32(xsdt + 4) > 36 + 2 * 8 ? table(all, len, get_le64(xsdt + 52), "MCFG")
						 : NULL;
	f.fadt = table(all, len, get_le64(xsdt + 36), "FACP");
	f.madt = table(all, len, get_le64(xsdt + 44), "APIC");
	f.dsdt = table(all, len, get_le64(f.fadt + 140), "DSDT");
	assert_int_equal(get_le32(f.fadt + 40), get_le64(f.fadt + 140));
	return f;
}

static void test_fadt(void **state)
{
	size_t len;
	const uint8_t *f;

	assert_int_equal(acpi_tables(&full, LAYOUT_ACPI, zeroed(), &len), 0);
	f = walk(buf, len).fadt;
	assert_int_equal(get_le32(f + 4), 276);
	assert_true(get_le32(f + 112) & 1u << 20);     /* hardware-reduced */
	assert_true(get_le32(f + 112) & 1u << 10);     /* reset register */
	assert_int_equal(get_le16(f + 109) & 0x22, 0); /* no 8042, but an RTC */
	assert_int_equal(f[108], 0x32);
	assert_int_equal(f[116], 1);
	assert_int_equal(get_le64(f + 120), PORT_RESET);
	assert_int_equal(f[128], 1);
	assert_int_equal(get_le64(f + 248), PORT_SLEEP_CONTROL);
	assert_int_equal(get_le64(f + 260), PORT_SLEEP_STATUS);
}

/* Each CPU once, in the form that its id wants, and the IOAPIC. */
static void test_madt(void **state)
{
	const uint8_t *m, *e;
	unsigned cpus = 0, ioapics = 0, nmis = 0;
	size_t len;

	assert_int_equal(acpi_tables(&full, LAYOUT_ACPI, zeroed(), &len), 0);
	m = walk(buf, len).madt;
	assert_int_equal(get_le32(m + 36), LAYOUT_LAPIC);
	for (e = m + 44; e < m + get_le32(m + 4); e += e[1]) {
		assert_true(e[1] >= 2);
		if (e[0] == 0) {
			assert_int_equal(e[3], cpus++);
			assert_int_equal(get_le32(e + 4), 1);
		} else if (e[0] == 9) {
			assert_true(cpus >= 255);
			assert_int_equal(get_le32(e + 4), cpus++);
			assert_int_equal(get_le32(e + 8), 1);
		} else if (e[0] == 1) {
			assert_int_equal(get_le32(e + 4), LAYOUT_IOAPIC);
			assert_int_equal(get_le32(e + 8), 0);
			ioapics++;
		} else {
			assert_true(e[0] == 4 || e[0] == 10);
			nmis++;
		}
	}
	assert_ptr_equal(e, m + get_le32(m + 4));
	assert_int_equal(cpus, 300);
	assert_int_equal(ioapics, 1);
	assert_int_equal(nmis, 2);
}

static void test_mcfg(void **state)
{
	size_t len;
	const uint8_t *m;

	assert_int_equal(acpi_tables(&full, LAYOUT_ACPI, zeroed(), &len), 0);
	assert_null(walk(buf, len).mcfg);
	assert_int_equal(acpi_tables(&with_pci, LAYOUT_ACPI, zeroed(), &len), 0);
	m = walk(buf, len).mcfg;
	assert_non_null(m);
	assert_int_equal(get_le32(m + 4), 60);
	assert_true(get_le64(m + 44) == LAYOUT_PCI_ECAM);
	assert_int_equal(get_le16(m + 52), 0);
	assert_int_equal(m[54], 0);
	assert_int_equal(m[55], 0);
}

static void test_memory(void **state)
{
	struct acpi_config cfg = full;
	static uint8_t copy[LAYOUT_ACPI_END - LAYOUT_ACPI];
	uint64_t rsdp = 0;
	struct mem *m;

	assert_int_equal(mem_create(&m, MIB(2), MEM_PRIVATE), 0);
	assert_int_equal(acpi_build(m, &cfg, &rsdp), 0);
	assert_int_equal(pm_write_reset_vector(m), 0);
	assert_int_equal(rsdp, LAYOUT_ACPI);
	assert_int_equal(mem_read(m, LAYOUT_ACPI, copy, sizeof(copy)), 0);
	walk(copy, sizeof(copy));
	/* Behind them, where Linux jumps to the BIOS: mov, mov, out to the reset register. */
	assert_int_equal(mem_read(m, 0xffff0, copy, 16), 0);
	assert_memory_equal(copy, "\xba\x02\x06\xb0\x01\xee\xf4\xeb\xfd", 9);
	cfg.cpus = 10000;
	assert_int_equal(acpi_build(m, &cfg, &rsdp), -ENOSPC);
	mem_destroy(m);
}

static void test_bad_config(void **state)
{
	struct acpi_mmio high = {.base = GIB(4), .size = 0x1000}, none = {.base = MIB(1)};
	struct acpi_config cfg = {.cpus = 1, .mmio = &high, .mmio_count = 1};
	size_t len;

	assert_int_equal(acpi_tables(&cfg, LAYOUT_ACPI, zeroed(), &len), -EINVAL);
	cfg.mmio = &none;
	assert_int_equal(acpi_tables(&cfg, LAYOUT_ACPI, zeroed(), &len), -EINVAL);
	cfg.mmio_count = 37;
	assert_int_equal(acpi_tables(&cfg, LAYOUT_ACPI, zeroed(), &len), -EINVAL);
}

/* Lengths at the edges of one, two and three bytes: each counts itself. */
static void test_lengths(void **state)
{
	static const size_t sizes[] = {1, 56, 57, 58, 59, 60, 4085, 4086, 4087, 4088, 4089, 70000};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct aml a;
		size_t length, bytes;

		aml_init(&a);
		aml_scope(&a, "\\_SB");
		for (size_t n = 5; n < sizes[i] + 5; n++)
			aml_int(&a, 0);
		aml_end(&a);
		assert_int_equal(a.err, 0);
		bytes = 1 + (a.buf[1] >> 6);
		length = bytes == 1 ? a.buf[1] & 0x3f : a.buf[1] & 0x0f;
		for (size_t b = 1; b < bytes; b++)
			length |= (size_t)a.buf[1 + b] << (8 * b - 4);
		assert_int_equal(length, a.len - 1);
		assert_int_equal(length, bytes + 5 + sizes[i]);
		assert_memory_equal(a.buf + 1 + bytes, "\\_SB_", 5);
		aml_finish(&a);
	}
}

static void test_mistakes(void **state)
{
	static const char *const names[] = {
		"", "1ABC", "TOOLONG", "A.", "lower", "A.B.C.D.E", "A..B", "\\"};
	struct aml a;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		aml_init(&a);
		aml_ref(&a, names[i]);
		assert_int_equal(a.err, -EINVAL);
		aml_finish(&a);
	}
	aml_init(&a);
	for (int i = 0; i <= AML_DEPTH; i++)
		aml_device(&a, "DEEP");
	assert_int_equal(a.err, -EOVERFLOW);
	aml_finish(&a);
	aml_end(&a);
	assert_int_equal(a.err, -EINVAL);
	aml_finish(&a);
}

/* ---- With ACPICA's tools ---- */

struct dir {
	char path[64];
};

static void write_file(const struct dir *d, const char *name, const uint8_t *data)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.aml", d->path, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(data, get_le32(data + 4), 1, f), 1);
	assert_int_equal(fclose(f), 0);
}

/* The output of a command run in the directory; the caller frees. */
static char *output_of(const struct dir *d, const char *command)
{
	char line[256];
	char *text = calloc(1, 1 << 20);
	FILE *p;

	snprintf(line, sizeof(line), "cd %s && { %s; } 2>&1", d->path, command);
	p = popen(line, "re");
	assert_non_null(p);
	text[fread(text, 1, (1 << 20) - 1, p)] = '\0';
	pclose(p);
	return text;
}

static void assert_says(const char *text, const char *what, int yes)
{
	if (!strstr(text, what) == !yes)
		return;
	print_error("%s\n%s \"%s\"\n", text, yes ? "no" : "unexpected", what);
	assert_int_equal(yes, !yes);
}

static void with_tables(const struct acpi_config *cfg, void (*check)(const struct dir *d))
{
	struct dir d = {"/tmp/test_acpi.XXXXXX"};
	struct found f;
	size_t len;

	if (system("command -v iasl acpiexec >/dev/null") != 0) {
		print_message("iasl and acpiexec (package acpica-tools) are missing\n");
		skip();
	}
	assert_non_null(mkdtemp(d.path));
	assert_int_equal(acpi_tables(cfg, LAYOUT_ACPI, zeroed(), &len), 0);
	f = walk(buf, len);
	write_file(&d, "dsdt", f.dsdt);
	write_file(&d, "facp", f.fadt);
	write_file(&d, "apic", f.madt);
	if (f.mcfg)
		write_file(&d, "mcfg", f.mcfg);
	check(&d);
	free(output_of(&d, "rm -rf $PWD"));
}

/* Disassembled and compiled again, a table is the same but for who made it: that is in the header.
 */
static void check_round_trip(const struct dir *d, const char *name)
{
	char command[256], *text;

	snprintf(command, sizeof(command), "iasl -d %s.aml", name);
	text = output_of(d, command);
	assert_says(text, "Error", 0);
	assert_says(text, "Warning", 0);
	assert_says(text, "Incorrect", 0);
	free(text);
	snprintf(command, sizeof(command), "grep Invalid %s.dsl; iasl -oa -p again %s.dsl", name,
		name);
	text = output_of(d, command);
	assert_says(text, "Error ", 0);
	assert_says(text, "Warning ", 0);
	assert_says(text, "Invalid", 0);
	free(text);
	snprintf(command, sizeof(command),
		"tail -c +37 %s.aml >x; tail -c +37 again.aml >y; cmp x y && echo same", name);
	text = output_of(d, command);
	assert_says(text, "same", 1);
	free(text);
}

static void check_iasl(const struct dir *d)
{
	char *text;

	check_round_trip(d, "dsdt");
	check_round_trip(d, "facp");
	check_round_trip(d, "apic");
	text = output_of(d, "cat facp.dsl");
	assert_says(text, "Hardware Reduced (V5) : 1", 1);
	free(text);
}

static void test_iasl_full(void **state)
{
	with_tables(&full, check_iasl);
}

static void test_iasl_least(void **state)
{
	struct acpi_config cfg = {.cpus = 1};

	with_tables(&cfg, check_iasl);
}

static void check_pci(const struct dir *d)
{
	char *text;

	check_iasl(d);
	check_round_trip(d, "mcfg");
	text = output_of(d, "acpiexec -b 'resources \\_SB.PCI0' dsdt.aml");
	assert_says(text, "Exception", 0);
	assert_says(text, "Bus Number Range", 1);
	assert_says(text, "Address Minimum : C0000000", 1);
	assert_says(text, "Address Maximum : CFFFFFFF", 1);
	assert_says(text, "Address Length : 10000000", 1);
	assert_says(text, "Address Minimum : 0CF8", 1);
	free(text);
	text = output_of(d, "acpiexec -b 'resources \\_SB.ECAM' dsdt.aml");
	assert_says(text, "Address : E0000000", 1);
	free(text);
}

static void test_pci(void **state)
{
	with_tables(&with_pci, check_pci);
}

/* -fv is what each byte of the ports reads as: an event of the same slot in each of them. */
static void check_slots(const struct dir *d)
{
	char *text = output_of(d, "acpiexec -fv 1 -b 'evaluate \\_SB.GED._EVT 9' dsdt.aml");

	assert_says(text, "Notify on [S03_]", 1);
	assert_says(text, "Notify on [S04_]", 0);
	assert_says(text, "Value 0x01", 1);
	assert_says(text, "Value 0x03", 1);
	assert_says(text, "AE_", 0);
	free(text);
	text = output_of(d, "acpiexec -fv 128 -b 'evaluate \\_SB.GED._EVT 9' dsdt.aml");
	assert_says(text, "Notify on [S0A_]", 1);
	assert_says(text, "Notify on [PWRB]", 0);
	assert_says(text, "AE_", 0);
	free(text);
	text = output_of(d, "acpiexec -b 'evaluate \\_SB.PCI0.S0A._EJ0 1' dsdt.aml");
	assert_says(text, "AE_", 0);
	assert_says(text, "No object was returned", 1);
	free(text);
	text = output_of(d, "acpiexec -b 'evaluate \\_SB.PCI0.S0A._ADR' dsdt.aml");
	assert_says(text, "00000000000A0000", 1);
	free(text);
}

static void test_slots(void **state)
{
	with_tables(&with_pci, check_slots);
}

static void check_buses(const struct dir *d)
{
	char *text = output_of(d, "acpiexec -b 'resources \\_SB.PCI0' dsdt.aml");

	assert_says(text, "Address Maximum : 0003", 1);
	free(text);
	text = output_of(d, "acpiexec -b 'resources \\_SB.ECAM' dsdt.aml");
	assert_says(text, "Address Length : 00400000", 1);
	free(text);
}

static void test_buses(void **state)
{
	const struct acpi_config cfg = {.cpus = 1, .pci_buses = 4};
	size_t len;

	assert_int_equal(acpi_tables(&cfg, LAYOUT_ACPI, zeroed(), &len), 0);
	assert_int_equal(walk(buf, len).mcfg[55], 3);
	with_tables(&cfg, check_buses);
}

/* The interpreter that Linux has, over a simulated port: the button's event comes out of _EVT. */
static void check_exec(const struct dir *d)
{
	char *text = output_of(d, "acpiexec -b 'namespace' dsdt.aml");

	assert_says(text, "COM1", 1);
	assert_says(text, "VIO2", 1);
	assert_says(text, "Exception", 0);
	free(text);
	/* -fv is what the simulated ports read as. */
	text = output_of(d, "acpiexec -fv 0 -b 'evaluate \\_SB.GED._EVT 9' dsdt.aml");
	assert_says(text, "Notify", 0);
	assert_says(text, "AE_", 0);
	free(text);
	text = output_of(d, "acpiexec -fv 1 -b 'evaluate \\_SB.GED._EVT 9' dsdt.aml");
	assert_says(text, "Notify on [PWRB]", 1);
	assert_says(text, "Value 0x80", 1);
	assert_says(text, "AE_", 0);
	free(text);
	text = output_of(d, "acpiexec -b 'resources \\_SB.VIO2' dsdt.aml");
	assert_says(text, "Address : D0002000", 1);
	assert_says(text, "Sharing : Shared", 1);
	assert_says(text, "Dword00 : 00000011", 1);
	free(text);
	text = output_of(d, "acpiexec -b 'evaluate \\_S5' dsdt.aml");
	assert_says(text, "0000000000000005", 1);
	free(text);
}

static void test_exec(void **state)
{
	with_tables(&full, check_exec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fadt),
		cmocka_unit_test(test_madt),
		cmocka_unit_test(test_mcfg),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_bad_config),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_iasl_full),
		cmocka_unit_test(test_iasl_least),
		cmocka_unit_test(test_pci),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_buses),
		cmocka_unit_test(test_exec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
