// SPDX-License-Identifier: MIT
// ELF headers of a kernel: every field is judged before anything is loaded by it.
#include "loader/elf.h"

#include "base/log.h"
#include "base/util.h"
#include "hw/layout.h"
#include "loader/image.h"

#include <elf.h>
#include <errno.h>

#define MAX_PHNUM 64
#define MAX_NOTES KIB(4)
#define XEN_ELFNOTE_PHYS32_ENTRY 18 /* Xen public/elfnote.h; the PVH boot ABI's entry point */

bool elf_is(const void *head, size_t len)
{
	return len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0;
}

static int read_part(
	const struct elf_source *src, uint64_t off, void *buf, size_t len, const char *what)
{
	if (!range_ok(off, len, src->size))
		return fail(EINVAL,
			"truncated: its %s at offset %llu, %zu bytes, lies beyond its end at %llu",
			what, (ull)off, len, (ull)src->size);
	return src->read(src->arg, off, buf, len);
}

static int check_ident(const Elf64_Ehdr *eh)
{
	if (!elf_is(eh, sizeof(*eh)))
		return fail(EINVAL, "not an ELF file (e_ident)");
	if (eh->e_ident[EI_CLASS] == ELFCLASS32)
		return fail(EINVAL, "a 32-bit ELF file; a 64-bit x86 kernel is needed");
	if (eh->e_ident[EI_CLASS] != ELFCLASS64)
		return fail(EINVAL, "bad ELF class %u (e_ident)", eh->e_ident[EI_CLASS]);
	if (eh->e_ident[EI_DATA] != ELFDATA2LSB)
		return fail(EINVAL, "not a little-endian ELF file (e_ident)");
	if (eh->e_ident[EI_VERSION] != EV_CURRENT || eh->e_version != EV_CURRENT)
		return fail(EINVAL, "unknown ELF version (e_version %u)", eh->e_version);
	return 0;
}

static int check_header(const Elf64_Ehdr *eh)
{
	int rc = check_ident(eh);

	if (rc)
		return rc;
	if (eh->e_machine != EM_X86_64)
		return fail(EINVAL, "built for another processor (e_machine %u, x86-64 is %u)",
			eh->e_machine, EM_X86_64);
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return fail(EINVAL, "not an executable ELF file (e_type %u)", eh->e_type);
	if (eh->e_ehsize != sizeof(*eh))
		return fail(EINVAL, "bad ELF header size (e_ehsize %u)", eh->e_ehsize);
	if (eh->e_phentsize != sizeof(Elf64_Phdr))
		return fail(EINVAL, "bad program header size (e_phentsize %u)", eh->e_phentsize);
	if (eh->e_phnum == 0)
		return fail(EINVAL, "no program headers (e_phnum 0): not something to boot");
	if (eh->e_phnum > MAX_PHNUM)
		return fail(EINVAL, "too many program headers (e_phnum %u, at most %u)",
			eh->e_phnum, MAX_PHNUM);
	return 0;
}

static int check_segment(const Elf64_Phdr *ph, unsigned i, uint64_t file_size)
{
	if (ph->p_filesz > ph->p_memsz)
		return fail(EINVAL, "segment %u: p_filesz %llu is more than p_memsz %llu", i,
			(ull)ph->p_filesz, (ull)ph->p_memsz);
	if (!range_ok(ph->p_offset, ph->p_filesz, file_size))
		return fail(EINVAL,
			"truncated: segment %u is %llu bytes at offset %llu, the file has %llu", i,
			(ull)ph->p_filesz, (ull)ph->p_offset, (ull)file_size);
	if (ph->p_paddr > UINT64_MAX - ph->p_memsz)
		return fail(EINVAL, "segment %u: p_paddr 0x%llx + p_memsz 0x%llx wraps", i,
			(ull)ph->p_paddr, (ull)ph->p_memsz);
	if (ph->p_paddr < LAYOUT_HIGH_RAM)
		return fail(EINVAL,
			"segment %u: p_paddr 0x%llx is below 1 MiB, where a kernel may not go", i,
			(ull)ph->p_paddr);
	return 0;
}

static int check_overlap(const struct elf_file *elf, const Elf64_Phdr *ph, unsigned i)
{
	for (unsigned k = 0; k < elf->count; k++) {
		const struct elf_segment *s = &elf->seg[k];

		if (ph->p_paddr < s->paddr + s->memsz && s->paddr < ph->p_paddr + ph->p_memsz)
			return fail(EINVAL,
				"segment %u (0x%llx-0x%llx) overlaps another (0x%llx-0x%llx)", i,
				(ull)ph->p_paddr, (ull)(ph->p_paddr + ph->p_memsz), (ull)s->paddr,
				(ull)(s->paddr + s->memsz));
	}
	return 0;
}

static void insert_by_offset(struct elf_file *elf, const Elf64_Phdr *ph)
{
	unsigned at = elf->count++;

	for (; at > 0 && elf->seg[at - 1].off > ph->p_offset; at--)
		elf->seg[at] = elf->seg[at - 1];
	elf->seg[at] = (struct elf_segment){
		.off = ph->p_offset,
		.paddr = ph->p_paddr,
		.vaddr = ph->p_vaddr,
		.filesz = ph->p_filesz,
		.memsz = ph->p_memsz,
	};
	elf->start = MIN(elf->start, ph->p_paddr);
	elf->end = MAX(elf->end, ph->p_paddr + ph->p_memsz);
}

static int add_segment(
	struct elf_file *elf, const Elf64_Phdr *ph, unsigned i, const struct elf_source *src)
{
	int rc;

	if (ph->p_memsz == 0 && ph->p_filesz == 0)
		return 0;
	rc = check_segment(ph, i, src->size);
	if (!rc)
		rc = check_overlap(elf, ph, i);
	if (!rc && elf->count == ELF_MAX_SEGMENTS)
		rc = fail(EINVAL, "more than %u segments to load", ELF_MAX_SEGMENTS);
	if (!rc)
		insert_by_offset(elf, ph);
	return rc;
}

uint64_t elf_phys(const struct elf_file *elf, uint64_t addr)
{
	for (unsigned i = 0; i < elf->count; i++)
		if (addr >= elf->seg[i].paddr && addr - elf->seg[i].paddr < elf->seg[i].memsz)
			return addr;
	for (unsigned i = 0; i < elf->count; i++)
		if (addr >= elf->seg[i].vaddr && addr - elf->seg[i].vaddr < elf->seg[i].memsz)
			return elf->seg[i].paddr + (addr - elf->seg[i].vaddr);
	return 0;
}

/* One note: its name, its type, and a description of 4 or 8 bytes that is an address. */
static uint64_t note_address(const Elf64_Nhdr *nh, const uint8_t *name, const uint8_t *desc)
{
	if (nh->n_type != XEN_ELFNOTE_PHYS32_ENTRY || nh->n_namesz != 4 || memcmp(name, "Xen", 4))
		return 0;
	if (nh->n_descsz == 4)
		return get_le32(desc);
	return nh->n_descsz == 8 ? get_le64(desc) : 0;
}

static uint64_t find_pvh_note(const uint8_t *notes, size_t size, size_t align)
{
	size_t pos = 0;

	while (range_ok(pos, sizeof(Elf64_Nhdr), size)) {
		Elf64_Nhdr nh;
		size_t name, desc;
		uint64_t addr;

		memcpy(&nh, notes + pos, sizeof(nh));
		name = pos + sizeof(nh);
		desc = align_up(name + nh.n_namesz, align);
		if (!range_ok(name, nh.n_namesz, size) || !range_ok(desc, nh.n_descsz, size))
			return 0;
		addr = note_address(&nh, notes + name, notes + desc);
		if (addr)
			return addr;
		pos = align_up(desc + nh.n_descsz, align);
	}
	return 0;
}

/* A PVH entry that lies nowhere is an error: to fall back would only hide it. */
static int look_for_pvh(const struct elf_source *src, const Elf64_Phdr *ph, struct elf_file *elf)
{
	uint8_t notes[MAX_NOTES];
	size_t size = MIN(ph->p_filesz, sizeof(notes));
	int rc = read_part(src, ph->p_offset, notes, size, "notes (PT_NOTE)");

	if (!rc)
		elf->pvh_entry = find_pvh_note(notes, size, ph->p_align == 8 ? 8 : 4);
	return rc;
}

static int check_entries(struct elf_file *elf, const Elf64_Ehdr *eh)
{
	if (elf->count == 0)
		return fail(EINVAL, "nothing to load: no PT_LOAD segment");
	elf->entry = elf_phys(elf, eh->e_entry);
	if (elf->pvh_entry &&
		(elf->pvh_entry > UINT32_MAX || elf_phys(elf, elf->pvh_entry) != elf->pvh_entry))
		return fail(EINVAL, "its PVH entry 0x%llx lies in none of its segments",
			(ull)elf->pvh_entry);
	if (!elf->pvh_entry && !elf->entry)
		return fail(EINVAL, "its entry 0x%llx (e_entry) lies in none of its segments",
			(ull)eh->e_entry);
	if (!elf->pvh_entry && elf->entry >= GIB(4))
		return fail(EINVAL, "its entry 0x%llx (e_entry) lies above 4 GiB", (ull)elf->entry);
	return 0;
}

int elf_parse(const struct elf_source *src, bool notes, struct elf_file *elf)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph[MAX_PHNUM];
	int rc = read_part(src, 0, &eh, sizeof(eh), "ELF header");

	*elf = (struct elf_file){.start = UINT64_MAX};
	if (!rc)
		rc = check_header(&eh);
	if (!rc)
		rc = read_part(src, eh.e_phoff, ph, eh.e_phnum * sizeof(ph[0]),
			"program headers (e_phoff)");
	for (unsigned i = 0; !rc && i < eh.e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD)
			rc = add_segment(elf, &ph[i], i, src);
		else if (ph[i].p_type == PT_NOTE && notes && !elf->pvh_entry)
			rc = look_for_pvh(src, &ph[i], elf);
	}
	return rc ? rc : check_entries(elf, &eh);
}
