// SPDX-License-Identifier: MIT
// The packed kernel within a bzImage: unpacked here, and its segments put where they run.
//
// The payload is an ELF file, packed, and then its unpacked size in 32 bits. Most of its segments
// lie in memory as they lie in the file, moved by one distance, so it is unpacked right into guest
// memory at the least such distance, and the few segments that belong higher are moved up after.
// That saves a buffer of the kernel's size and a copy of it. Moving up, last segment first, never
// overwrites one that is still to be moved: each goes to an address at or above its own, and the
// lower ones all lie below that. Where this cannot be (too little room above or below, segments
// that share bytes of the file) a buffer is used.
#include "base/log.h"
#include "hw/mem.h"
#include "loader/elf.h"
#include "loader/image.h"
#include "loader/unpack.h"

#include <errno.h>

#define HEAD_SIZE 4096 /* of the ELF file: its header and program headers are there */

struct payload {
	const struct unpack_format *format;
	void *library;
	uint8_t *packed;
	uint64_t packed_size; /* bytes; the last four are not packed data */
	uint64_t size;        /* unpacked */
	struct elf_file elf;
};

struct head {
	uint8_t bytes[HEAD_SIZE];
	size_t len;
};

static int read_head(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct head *h = arg;

	if (!range_ok(off, len, h->len))
		return fail(EINVAL, "its program headers (e_phoff %llu) are not in the first 4 KiB",
			(ull)off);
	memcpy(buf, h->bytes + off, len);
	return 0;
}

/* -ENOTSUP where the guest had better do it itself. */
static int open_payload(struct payload *p, const struct image *img, uint64_t off)
{
	uint8_t magic[8];
	int rc = image_read(img, off, magic, sizeof(magic));

	if (rc)
		return rc;
	p->format = unpack_detect(magic, sizeof(magic));
	if (!p->format) {
		log_info("kernel %s: packed in a way not known here; it unpacks itself", img->name);
		return -ENOTSUP;
	}
	p->library = unpack_load(p->format);
	if (!p->library) {
		log_warn("kernel %s: %s; it unpacks itself, which takes longer", img->name,
			last_error());
		return -ENOTSUP;
	}
	return 0;
}

static int read_packed(struct payload *p, const struct image *img, uint64_t off)
{
	p->packed = unpack_buffer(p->packed_size);
	if (!p->packed)
		return fail(ENOMEM, "no memory for its payload of %llu bytes", (ull)p->packed_size);
	return image_read(img, off, p->packed, p->packed_size);
}

static int parse_head(struct payload *p)
{
	struct head h;
	struct elf_source src = {.read = read_head, .arg = &h, .size = p->size};
	ssize_t n = p->format->unpack(p->library, p->packed, p->packed_size, h.bytes,
		MIN(sizeof(h.bytes), p->size), UNPACK_HEAD);

	if (n < 0)
		return (int)n;
	h.len = (size_t)n;
	if (!elf_is(h.bytes, h.len))
		return -ENOTSUP;
	return elf_parse(&src, false, &p->elf);
}

static int check_size(const struct payload *p, const struct mem *m)
{
	for (unsigned i = 0; i < p->elf.count; i++) {
		const struct elf_segment *s = &p->elf.seg[i];
		int rc = image_check_room(m, "its segment", s->paddr, s->paddr + s->memsz);

		if (rc)
			return rc;
	}
	if (p->size > mem_size(m))
		return fail(ENOMEM,
			"it unpacks to %llu MiB (the size at its end), more than the "
			"%llu MiB of memory",
			(ull)(p->size >> 20), (ull)(mem_size(m) >> 20));
	return 0;
}

static int unpack_all(const struct payload *p, void *to)
{
	ssize_t n =
		p->format->unpack(p->library, p->packed, p->packed_size, to, p->size, UNPACK_ALL);

	if (n == -ENOSPC)
		return fail(EINVAL, "it unpacks to more than the %llu bytes that its end says",
			(ull)p->size);
	if (n >= 0 && (uint64_t)n != p->size)
		return fail(EINVAL, "it unpacks to %zd bytes, its end says %llu", n, (ull)p->size);
	return n < 0 ? (int)n : 0;
}

/* The address at which the file would have to lie so that each segment is in its place or below it;
 * 0: none. */
static uint64_t place_of_file(const struct elf_file *elf)
{
	uint64_t base = UINT64_MAX;

	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *s = &elf->seg[i];

		if (s->paddr < s->off)
			return 0;
		if (i && s->off < elf->seg[i - 1].off + elf->seg[i - 1].filesz)
			return 0;
		base = MIN(base, s->paddr - s->off);
	}
	return base;
}

/* Zeroes the rest of a segment, up to where memory is zero already. */
static void clear_bss(const struct elf_segment *s, struct mem *m, uint64_t zero_from)
{
	uint64_t start = s->paddr + s->filesz, end = MIN(s->paddr + s->memsz, zero_from);

	if (start < end)
		image_clear(m, start, end - start);
}

static int unpack_in_place(const struct payload *p, struct mem *m, uint64_t base, bool zeroed)
{
	char *file = mem_get(m, base, p->size);
	int rc = unpack_all(p, file);

	for (unsigned i = p->elf.count; !rc && i-- > 0;) {
		const struct elf_segment *s = &p->elf.seg[i];
		char *to = mem_get(m, s->paddr, s->filesz);

		if (!to || to == file + s->off)
			continue;
		memmove(to, file + s->off, s->filesz);
		mem_dirty(m, s->paddr, s->filesz);
	}
	mem_dirty(m, base, p->size);
	for (unsigned i = 0; !rc && i < p->elf.count; i++)
		clear_bss(&p->elf.seg[i], m, zeroed ? base + p->size : UINT64_MAX);
	return rc;
}

static int unpack_and_copy(const struct payload *p, struct mem *m, bool zeroed)
{
	char *file = unpack_buffer(p->size);
	int rc;

	if (!file)
		return fail(ENOMEM, "no memory to unpack %llu MiB", (ull)(p->size >> 20));
	rc = unpack_all(p, file);
	for (unsigned i = 0; !rc && i < p->elf.count; i++) {
		const struct elf_segment *s = &p->elf.seg[i];

		rc = mem_write(m, s->paddr, file + s->off, s->filesz);
		if (!zeroed)
			clear_bss(s, m, UINT64_MAX);
	}
	unpack_buffer_free(file, p->size);
	return rc;
}

static int load(struct payload *p, struct image *img, struct mem *m, uint64_t off)
{
	uint64_t base;
	int rc = open_payload(p, img, off);

	if (!rc)
		rc = read_packed(p, img, off);
	if (rc)
		return rc;
	p->size = get_le32(p->packed + p->packed_size - 4);
	rc = parse_head(p);
	if (!rc)
		rc = check_size(p, m);
	if (rc)
		return rc;
	base = place_of_file(&p->elf);
	if (base >= LAYOUT_HIGH_RAM && mem_get(m, base, p->size))
		rc = unpack_in_place(p, m, base, img->zeroed);
	else
		rc = unpack_and_copy(p, m, img->zeroed);
	return rc;
}

int payload_load(struct image *img, struct mem *m, uint64_t off, uint64_t len)
{
	struct payload p = {.packed_size = len};
	int rc;

	if (len < 8)
		return fail(EINVAL, "its payload (payload_length) has only %llu bytes", (ull)len);
	rc = load(&p, img, m, off);
	unpack_buffer_free(p.packed, p.packed_size);
	if (p.library && !img->repeated)
		unpack_unload(p.library);
	if (rc)
		return rc == -ENOTSUP ? rc : fail_context(rc, "payload");
	img->entry = (struct boot_entry){.mode = BOOT_LONG64, .entry = p.elf.entry};
	img->start = p.elf.start;
	img->end = p.elf.end;
	return 0;
}
