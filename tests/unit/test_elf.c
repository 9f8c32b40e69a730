// SPDX-License-Identifier: MIT
// ELF kernels: loaded where they say, described to by the right protocol, refused with the right
// words.
#include "tests/unit/kernel_image.h"

#include "loader/image.h"

#include <asm/bootparam.h>

static const struct test_segment layout[] = {
	{.off = 0x1000, .paddr = MIB(2), .filesz = 0x3000, .memsz = 0x3000},
	{.off = 0x4000, .paddr = MIB(2) + 0x8000, .filesz = 0x123, .memsz = 0x4567},
};

static struct mem *mem;

static int setup(void **state)
{
	return mem_create(&mem, MIB(16), MEM_PRIVATE);
}

static int teardown(void **state)
{
	mem_destroy(mem);
	return 0;
}

static struct blob small_elf(void)
{
	return test_elf(layout, ARRAY_SIZE(layout), 0x5000);
}

static void dirty_memory(void)
{
	memset(mem_get(mem, 0, MIB(16)), 0xa5, MIB(16));
}

static void test_64bit(void **state)
{
	struct blob b = small_elf();
	struct boot_entry e;
	struct boot_params bp;
	char cmdline[8];

	dirty_memory();
	assert_int_equal(test_load(mem, &b, &e), 0);
	assert_int_equal(e.mode, BOOT_LONG64);
	assert_int_equal(e.entry, MIB(2) + 0x10);
	for (unsigned i = 0; i < ARRAY_SIZE(layout); i++)
		test_segment_loaded(mem, &layout[i]);
	assert_int_equal(mem_read(mem, e.info, &bp, sizeof(bp)), 0);
	assert_int_equal(bp.hdr.boot_flag, 0xaa55);
	assert_int_equal(bp.acpi_rsdp_addr, 0xe0000);
	assert_int_equal(bp.sentinel, 0);
	assert_int_equal(bp.hdr.ramdisk_size, 0);
	assert_int_equal(mem_read(mem, bp.hdr.cmd_line_ptr, cmdline, 6), 0);
	assert_string_equal(cmdline, "quiet");
	free(b.p);
}

static void check_map(const struct boot_e820_entry *map, unsigned n, uint64_t low, uint64_t high)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < n; i++) {
		assert_true(map[i].addr >= end && map[i].size > 0);
		end = map[i].addr + map[i].size;
		if (map[i].type == 1 && map[i].addr < MIB(1))
			assert_int_equal(end, LAYOUT_EBDA);
		if (map[i].type == 1 && map[i].addr == MIB(1))
			assert_int_equal(end, low);
		if (map[i].addr <= LAYOUT_ACPI && LAYOUT_ACPI < end)
			assert_int_equal(map[i].type, 2);
	}
	assert_int_equal(end, high ? GIB(4) + high : low);
}

static void test_memory_map(void **state)
{
	static const uint64_t size[] = {
		MIB(8), LAYOUT_HOLE_START, LAYOUT_HOLE_START + MIB(1), GIB(5)};
	struct blob b = small_elf();

	for (unsigned i = 0; i < ARRAY_SIZE(size); i++) {
		struct boot_params bp;
		struct boot_entry e;
		struct mem *m;

		assert_int_equal(mem_create(&m, size[i], MEM_PRIVATE), 0);
		assert_int_equal(test_load(m, &b, &e), 0);
		assert_int_equal(mem_read(m, e.info, &bp, sizeof(bp)), 0);
		check_map(bp.e820_table, bp.e820_entries, MIN(size[i], LAYOUT_HOLE_START),
			size[i] - MIN(size[i], LAYOUT_HOLE_START));
		mem_destroy(m);
	}
	free(b.p);
}

/* With PCI its configuration space is reserved, in its place between the two pieces of RAM. */
static void test_memory_map_pci(void **state)
{
	struct memmap_entry map[MEMMAP_MAX], with[MEMMAP_MAX];
	const struct boot_extras none = {0}, pci = {.pci = true};
	struct mem *m;
	unsigned n, at = 0;

	assert_int_equal(mem_create(&m, GIB(5), MEM_PRIVATE), 0);
	n = memmap_build(m, &none, map);
	assert_int_equal(memmap_build(m, &pci, with), n + 1);
	while (with[at].addr != LAYOUT_PCI_ECAM && at < n)
		at++;
	assert_int_equal(at, n - 1);
	assert_int_equal(with[at].size, LAYOUT_PCI_ECAM_SIZE);
	assert_int_equal(with[at].type, MEMMAP_RESERVED);
	assert_true(with[n].addr == map[n - 1].addr && with[n].size == map[n - 1].size);
	mem_destroy(m);
}

static void test_pvh(void **state)
{
	struct blob b = small_elf();
	struct boot_entry e;
	uint8_t info[56];
	uint64_t first[3];

	test_pvh_note(&b, (uint32_t)MIB(2) + 0x100);
	dirty_memory();
	assert_int_equal(test_load(mem, &b, &e), 0);
	assert_int_equal(e.mode, BOOT_PVH);
	assert_int_equal(e.entry, MIB(2) + 0x100);
	assert_int_equal(mem_read(mem, e.info, info, sizeof(info)), 0);
	assert_int_equal(get_le32(info), 0x336ec578);
	assert_int_equal(get_le32(info + 4), 1);
	assert_int_equal(get_le32(info + 12), 0); /* no modules */
	assert_int_equal(get_le64(info + 32), 0xe0000);
	assert_int_equal(mem_read(mem, get_le64(info + 40), first, sizeof(first)), 0);
	assert_int_equal(first[0], 0);
	assert_int_equal(first[1], LAYOUT_EBDA);
	assert_int_equal(first[2], 1); /* RAM, and the reserved half is zero */

	test_pvh_note(&b, (uint32_t)MIB(7));
	test_refused(mem, &b, "PVH entry 0x700000 lies in none of its segments");
	free(b.p);
}

/* A note of 8 bytes, behind one of another owner with an odd length. */
static void test_pvh_second_note(void **state)
{
	struct blob b = small_elf();
	uint8_t *n = b.p + TEST_NOTE_OFF;
	struct boot_entry e;

	test_phdr(&b, 2)->p_filesz = 24 + 24;
	put_le32(n, 5);
	put_le32(n + 4, 3);
	put_le32(n + 8, 18);
	memcpy(n + 12, "Fake\0\0\0\0abc", 11);
	n += 24;
	put_le32(n, 4);
	put_le32(n + 4, 8);
	put_le32(n + 8, 18);
	memcpy(n + 12, "Xen", 4);
	put_le64(n + 16, MIB(2) + 0x20);
	assert_int_equal(test_load(mem, &b, &e), 0);
	assert_int_equal(e.mode, BOOT_PVH);
	assert_int_equal(e.entry, MIB(2) + 0x20);
	free(b.p);
}

static void test_virtual_entry(void **state)
{
	struct blob b = small_elf();
	struct boot_entry e;

	((Elf64_Ehdr *)(void *)b.p)->e_entry = KERNEL_VIRTUAL + MIB(2) + 0x8040;
	assert_int_equal(test_load(mem, &b, &e), 0);
	assert_int_equal(e.entry, MIB(2) + 0x8040);
	free(b.p);
}

static const struct {
	size_t off;
	unsigned bytes;
	uint64_t value;
	const char *says;
} spoilt[] = {
#define EH(field) offsetof(Elf64_Ehdr, field), sizeof(((Elf64_Ehdr *)0)->field)
#define PH(i, field)                                                                               \
	TEST_PHDR_OFF + (i) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field),                    \
		sizeof(((Elf64_Phdr *)0)->field)
	{EI_CLASS, 1, ELFCLASS32, "32-bit"},
	{EI_CLASS, 1, 7, "e_ident"},
	{EI_DATA, 1, ELFDATA2MSB, "little-endian"},
	{EI_VERSION, 1, 0, "ELF version"},
	{0, 1, 0, "neither an ELF kernel"},
	{EH(e_type), ET_REL, "e_type 1"},
	{EH(e_machine), EM_AARCH64, "e_machine 183"},
	{EH(e_version), 2, "e_version 2"},
	{EH(e_entry), 0x1234, "e_entry"},
	{EH(e_phoff), 0x4fff, "e_phoff"},
	{EH(e_phoff), UINT64_MAX - 8, "e_phoff"},
	{EH(e_ehsize), 52, "e_ehsize 52"},
	{EH(e_phentsize), 32, "e_phentsize 32"},
	{EH(e_phnum), 0, "e_phnum 0"},
	{EH(e_phnum), 0xffff, "e_phnum 65535"},
	{PH(0, p_offset), 0x3000, "truncated: segment 0"},
	{PH(0, p_offset), UINT64_MAX, "truncated: segment 0"},
	{PH(0, p_filesz), 0x3001, "p_filesz 12289 is more than p_memsz 12288"},
	{PH(0, p_memsz), 0x8001, "overlaps"},
	{PH(0, p_memsz), UINT64_MAX, "wraps"},
	{PH(0, p_paddr), 0xff000, "below 1 MiB"},
	{PH(1, p_paddr), MIB(16) - 0x2fff, "needs at least 17 MiB"},
	{PH(1, p_paddr), LAYOUT_HOLE_START, "has no RAM"},
	{PH(1, p_paddr), GIB(4), "needs at least 3073 MiB"},
	{PH(1, p_paddr), MIB(2) + 0x2fff, "segment 1 (0x202fff-0x207566) overlaps"},
	{PH(1, p_memsz), GIB(1), "does not fit in 16 MiB of memory; it needs at least 1027 MiB"},
	{PH(2, p_offset), 0x4ff0, "notes (PT_NOTE)"},
};

static void test_spoilt_fields(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(spoilt); i++) {
		struct blob b = small_elf();

		for (unsigned k = 0; k < spoilt[i].bytes; k++)
			b.p[spoilt[i].off + k] = (uint8_t)(spoilt[i].value >> (8 * k));
		test_refused(mem, &b, spoilt[i].says);
		free(b.p);
	}
}

static void test_no_segment(void **state)
{
	struct blob b = small_elf();

	test_phdr(&b, 0)->p_type = test_phdr(&b, 1)->p_type = PT_NULL;
	test_refused(mem, &b, "no PT_LOAD");
	b.len = 0;
	test_refused(mem, &b, "empty");
	free(b.p);
}

static void test_any_byte_any_length(void **state)
{
	struct blob b = small_elf();

	test_pvh_note(&b, (uint32_t)MIB(2) + 0x100);
	test_every_byte(mem, &b, 0, TEST_PHDR_OFF + 3 * sizeof(Elf64_Phdr));
	test_every_byte(mem, &b, TEST_NOTE_OFF, TEST_NOTE_OFF + TEST_NOTE_SIZE);
	test_every_length(mem, &b, 7);
	free(b.p);
}

static void test_command_line(void **state)
{
	struct blob b = small_elf();
	int fd CLEANUP_FD = test_fd(&b);
	char text[2049];
	struct loader_config cfg = {.kernel_fd = fd, .kernel_name = "k", .cmdline = text};
	struct boot_entry e;

	memset(text, 'x', sizeof(text));
	text[2047] = '\0';
	assert_int_equal(loader_load(mem, &cfg, &e), 0);
	assert_string_equal((char *)mem_get(mem, LAYOUT_CMDLINE, 4096), text);
	text[2047] = 'x';
	text[2048] = '\0';
	assert_int_equal(loader_load(mem, &cfg, &e), -E2BIG);
	assert_non_null(strstr(last_error(), "has 2048 bytes, kernel k takes at most 2047"));
	free(b.p);
}

static int fill_pattern(void *arg, void *dst, uint64_t size)
{
	memset(dst, 0x5a, size);
	return 0;
}

static int fill_failing(void *arg, void *dst, uint64_t size)
{
	return fail(EIO, "the disk has gone");
}

static int load_with_initrd(struct mem *m, const struct loader_initrd *rd, struct boot_params *bp)
{
	struct blob b = small_elf();
	int fd CLEANUP_FD = test_fd(&b);
	struct loader_config cfg = {.kernel_fd = fd, .kernel_name = "k", .initrd = rd};
	struct boot_entry e;
	int rc = loader_load(m, &cfg, &e);

	free(b.p);
	return rc ? rc : mem_read(m, e.info, bp, sizeof(*bp));
}

static void test_initrd(void **state)
{
	const uint64_t room = MIB(14) - 0xd000; /* from the end of bss, in pages */
	struct loader_initrd rd = {.name = "rd", .size = 5000, .fill = fill_pattern};
	struct boot_params bp;

	assert_int_equal(load_with_initrd(mem, &rd, &bp), 0);
	assert_int_equal(bp.hdr.ramdisk_size, 5000);
	assert_int_equal(bp.hdr.ramdisk_image, MIB(16) - 8192);
	assert_int_equal(((uint8_t *)mem_get(mem, bp.hdr.ramdisk_image, 5000))[4999], 0x5a);

	rd.size = room;
	assert_int_equal(load_with_initrd(mem, &rd, &bp), 0);
	assert_int_equal(bp.hdr.ramdisk_image, MIB(2) + 0xd000);
	test_segment_loaded(mem, &layout[1]);
	rd.size = room + 1;
	assert_int_equal(load_with_initrd(mem, &rd, &bp), -ENOMEM);
	assert_non_null(strstr(last_error(), "initrd rd: its 14 MiB do not fit"));
	assert_non_null(strstr(last_error(), "at least 17 MiB"));
	rd.size = UINT64_MAX - 5;
	assert_int_equal(load_with_initrd(mem, &rd, &bp), -EFBIG);

	rd = (struct loader_initrd){.name = "rd", .size = 1, .fill = fill_failing};
	assert_int_equal(load_with_initrd(mem, &rd, &bp), -EIO);
	assert_string_equal(last_error(), "initrd rd: the disk has gone");
}

static void test_initrd_below_the_hole(void **state)
{
	struct loader_initrd rd = {.name = "rd", .size = 1, .fill = fill_pattern};
	struct boot_params bp;
	struct mem *m;

	assert_int_equal(mem_create(&m, GIB(5), MEM_PRIVATE), 0);
	assert_int_equal(load_with_initrd(m, &rd, &bp), 0);
	assert_int_equal(bp.hdr.ramdisk_image, LAYOUT_HOLE_START - 4096);
	assert_int_equal(bp.ext_ramdisk_image, 0);
	mem_destroy(m);
}

static void test_initrd_file(void **state)
{
	struct blob b = {(uint8_t[]){1, 2, 3}, 3};
	int fd CLEANUP_FD = test_fd(&b);
	struct loader_initrd rd;
	struct boot_params bp;
	int p[2];

	assert_int_equal(loader_initrd_from_fd(&rd, fd, "rd"), 0);
	assert_int_equal(load_with_initrd(mem, &rd, &bp), 0);
	assert_memory_equal(mem_get(mem, bp.hdr.ramdisk_image, 3), b.p, 3);
	assert_int_equal(ftruncate(fd, 2), 0);
	assert_int_equal(load_with_initrd(mem, &rd, &bp), -EIO);
	assert_non_null(strstr(last_error(), "initrd rd: it has shrunk"));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(loader_initrd_from_fd(&rd, fd, "rd"), -EINVAL);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(loader_initrd_from_fd(&rd, p[0], "rd"), -EINVAL);
	close(p[0]);
	close(p[1]);
}

/* What the loader writes is known to a snapshot that is being taken of the difference. */
static void test_marks_pages(void **state)
{
	struct blob b = small_elf();
	uint64_t *bits = calloc(1, mem_bitmap_size(mem, 0));
	struct boot_entry e;

	assert_int_equal(mem_track_start(mem), 0);
	assert_int_equal(test_load(mem, &b, &e), 0);
	mem_track_take(mem, 0, bits);
	mem_track_stop(mem);
	for (unsigned page = 0x200; page < 0x20d; page++)
		assert_int_equal(bits[page / 64] >> (page % 64) & 1, page < 0x203 || page > 0x207);
	assert_true(bits[0] >> (LAYOUT_ZERO_PAGE >> 12) & 1);
	assert_true(bits[0] >> (LAYOUT_CMDLINE >> 12) & 1);
	free(bits);
	free(b.p);
}

static void test_version(void **state)
{
	struct blob b = test_elf(layout, ARRAY_SIZE(layout), MIB(1));
	char buf[80];
	int fd;

	/* Across the border of two pieces of what is read at a time; the format string comes first.
	 */
	memcpy(b.p + 0x4000, "Linux version %s (%s)", 22);
	memcpy(b.p + KIB(256) - 20, "Linux version 6.12.1-x (you@there)", 35);
	fd = test_fd(&b);
	assert_int_equal(loader_version(fd, "k", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "6.12.1-x");
	assert_int_equal(loader_version(fd, "k", buf, 5), -ENOENT);
	close(fd);
	b.p[KIB(256) - 20] = 'X';
	fd = test_fd(&b);
	assert_int_equal(loader_version(fd, "k", buf, sizeof(buf)), -ENOENT);
	assert_string_equal(last_error(), "kernel k: it has no Linux version banner");
	close(fd);
	free(b.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_64bit),
		cmocka_unit_test(test_memory_map),
		cmocka_unit_test(test_memory_map_pci),
		cmocka_unit_test(test_pvh),
		cmocka_unit_test(test_pvh_second_note),
		cmocka_unit_test(test_virtual_entry),
		cmocka_unit_test(test_spoilt_fields),
		cmocka_unit_test(test_no_segment),
		cmocka_unit_test(test_any_byte_any_length),
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_initrd),
		cmocka_unit_test(test_initrd_below_the_hole),
		cmocka_unit_test(test_initrd_file),
		cmocka_unit_test(test_marks_pages),
		cmocka_unit_test(test_version),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
