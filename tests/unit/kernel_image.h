// SPDX-License-Identifier: MIT
// Kernels to load, made up: ELF files and bzImages with fields that a test can spoil.
#ifndef TESTS_UNIT_KERNEL_IMAGE_H
#define TESTS_UNIT_KERNEL_IMAGE_H

#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/log.h"
#include "hw/layout.h"
#include "hw/mem.h"
#include "loader/loader.h"
#include "tests/unit/unpack_here.h"

#include <elf.h>
#include <errno.h>
#include <sys/mman.h>

struct blob {
	uint8_t *p;
	size_t len;
};

struct test_segment {
	uint64_t off, paddr, filesz, memsz;
};

#define TEST_PHDR_OFF 64
#define TEST_NOTE_OFF 0x800
#define TEST_NOTE_SIZE 20
#define KERNEL_VIRTUAL 0xffffffff80000000ull

/* The byte that a made-up segment has at `off` in the file: compressible, but not the same anywhere
 * near. */
static inline uint8_t test_byte(uint64_t off)
{
	return (uint8_t)((off >> 3) * 2654435761u >> 24);
}

static inline Elf64_Phdr *test_phdr(const struct blob *b, unsigned i)
{
	return (Elf64_Phdr *)(void *)(b->p + TEST_PHDR_OFF) + i;
}

static inline void test_pvh_note(struct blob *b, uint32_t entry)
{
	uint8_t *n = b->p + TEST_NOTE_OFF;

	put_le32(n, 4);
	put_le32(n + 4, 4);
	put_le32(n + 8, 18);
	memcpy(n + 12, "Xen", 4);
	put_le32(n + 16, entry);
}

/* An ELF kernel of `n` segments and a note (the last program header) whose owner is nobody yet. */
static inline struct blob test_elf(const struct test_segment *s, unsigned n, uint64_t size)
{
	struct blob b = {calloc(1, size), size};
	Elf64_Ehdr *eh = (Elf64_Ehdr *)(void *)b.p;

	assert_non_null(b.p);
	memset(b.p + 0x1000, 0xee, size - 0x1000); /* what is in no segment is to be seen nowhere */
	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS64;
	eh->e_ident[EI_DATA] = ELFDATA2LSB;
	eh->e_ident[EI_VERSION] = EV_CURRENT;
	eh->e_type = ET_EXEC;
	eh->e_machine = EM_X86_64;
	eh->e_version = EV_CURRENT;
	eh->e_entry = s[0].paddr + 0x10;
	eh->e_phoff = TEST_PHDR_OFF;
	eh->e_ehsize = sizeof(*eh);
	eh->e_phentsize = sizeof(Elf64_Phdr);
	eh->e_phnum = (uint16_t)(n + 1);
	for (unsigned i = 0; i < n; i++) {
		*test_phdr(&b, i) = (Elf64_Phdr){.p_type = PT_LOAD,
			.p_offset = s[i].off,
			.p_paddr = s[i].paddr,
			.p_vaddr = s[i].paddr + KERNEL_VIRTUAL,
			.p_filesz = s[i].filesz,
			.p_memsz = s[i].memsz};
		for (uint64_t k = 0; k < s[i].filesz; k++)
			b.p[s[i].off + k] = test_byte(s[i].off + k);
	}
	*test_phdr(&b, n) = (Elf64_Phdr){.p_type = PT_NOTE,
		.p_offset = TEST_NOTE_OFF,
		.p_filesz = TEST_NOTE_SIZE,
		.p_memsz = TEST_NOTE_SIZE,
		.p_align = 4};
	return b;
}

/* All of a segment is where it belongs, and what follows it is zero. */
static inline void test_segment_loaded(const struct mem *m, const struct test_segment *s)
{
	const uint8_t *p = mem_get(m, s->paddr, s->memsz);

	assert_non_null(p);
	for (uint64_t k = 0; k < s->filesz; k++)
		if (p[k] != test_byte(s->off + k))
			fail_msg("byte %llu of the segment is wrong", (unsigned long long)k);
	for (uint64_t k = s->filesz; k < s->memsz; k++)
		if (p[k])
			fail_msg("byte %llu of the segment is not zero", (unsigned long long)k);
}

static inline int test_fd(const struct blob *b)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, b->p, b->len), 0);
	return fd;
}

static inline int test_load(struct mem *m, const struct blob *b, struct boot_entry *out)
{
	int fd CLEANUP_FD = test_fd(b);
	struct loader_config cfg = {.kernel_fd = fd,
		.kernel_name = "test.img",
		.cmdline = "quiet",
		.rsdp = 0xe0000,
		.unpacker = unpacker_here()};

	return loader_load(m, &cfg, out);
}

/* It does not load, and says `what` of this file. */
static inline void test_refused(struct mem *m, const struct blob *b, const char *what)
{
	struct boot_entry e;
	int rc = test_load(m, b, &e);

	if (rc >= 0)
		fail_msg("it loads, and should not because of: %s", what);
	if (strncmp(last_error(), "kernel test.img: ", 17) || !strstr(last_error(), what))
		fail_msg("\"%s\" does not say \"%s\"", last_error(), what);
}

/* Whatever becomes of it: it loads, or an error names the file. */
static inline void test_harmless(struct mem *m, int fd)
{
	struct loader_config cfg = {
		.kernel_fd = fd, .kernel_name = "test.img", .unpacker = unpacker_here()};
	struct boot_entry e = {0};
	int rc = loader_load(m, &cfg, &e);

	if (rc && strncmp(last_error(), "kernel test.img: ", 17))
		fail_msg("\"%s\" does not name the file", last_error());
	if (!rc)
		assert_true(e.entry >= LAYOUT_HIGH_RAM && e.info != 0);
}

/* Sets each byte of [from, to) to each of some values, and cuts the file off there. */
static inline void test_every_byte(struct mem *m, const struct blob *b, size_t from, size_t to)
{
	static const uint8_t value[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	int fd CLEANUP_FD = test_fd(b);

	for (size_t i = from; i < to; i++) {
		for (size_t v = 0; v < ARRAY_SIZE(value); v++) {
			assert_int_equal(pwrite(fd, &value[v], 1, (off_t)i), 1);
			test_harmless(m, fd);
		}
		assert_int_equal(pwrite(fd, b->p + i, 1, (off_t)i), 1);
	}
}

static inline void test_every_length(struct mem *m, const struct blob *b, size_t step)
{
	int fd CLEANUP_FD = test_fd(b);

	for (size_t len = b->len; len > 0; len -= MIN(len, step)) {
		assert_int_equal(ftruncate(fd, (off_t)(len - 1)), 0);
		test_harmless(m, fd);
	}
}

#endif
