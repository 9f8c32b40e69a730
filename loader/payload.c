// SPDX-License-Identifier: MIT
// The packed kernel within a bzImage: unpacked on the way, and its segments put where they run.
//
// The payload is an ELF file, packed, and then its unpacked size in 32 bits. Most of its segments
// lie in memory as they lie in the file, moved by one distance, so it is read right into guest
// memory at the least such distance, and the few segments that belong higher are moved up after.
// That saves a buffer of the kernel's size and a copy of it. Moving up, last segment first, never
// overwrites one that is still to be moved: each goes to an address at or above its own, and the
// lower ones all lie below that. Where this cannot be (too little room above or below, segments
// that share bytes of the file) a buffer is used.
#include "base/log.h"
#include "hw/mem.h"
#include "loader/elf.h"
#include "loader/image.h"
#include "loader/unpacker.h"

#include <errno.h>
#include <stdlib.h>

#define HEAD_SIZE 4096 /* of the ELF file: its header and program headers are there */

struct payload {
	const struct unpacker *unpacker;
	uint64_t size; /* unpacked, bytes */
	struct elf_file elf;
	uint8_t head[HEAD_SIZE]; /* the beginning of it, which has been read already */
	size_t head_len;
};

static int read_head(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct payload *p = arg;

	if (!range_ok(off, len, p->head_len))
		return fail(EINVAL, "its program headers (e_phoff %llu) are not in the first 4 KiB",
			(ull)off);
	memcpy(buf, p->head + off, len);
	return 0;
}

/* Has it unpacked: bytes made, or -errno; -ENOTSUP where the guest had better do it itself. */
static int64_t begin(struct payload *p, const struct image *img, uint64_t off, uint64_t len)
{
	int64_t made = p->unpacker->begin(p->unpacker->arg, img->fd, off, len, p->size);

	if (made == -ENOTSUP) {
		log_warn("kernel %s: %s; it unpacks itself, which takes longer", img->name,
			last_error());
		return -ENOTSUP;
	}
	if (made == -ENOSPC)
		return fail_context(
			-EINVAL, "its end says that there are %llu bytes", (ull)p->size);
	return made;
}

static int parse_head(struct payload *p)
{
	struct elf_source src = {.read = read_head, .arg = p, .size = p->size};
	int rc;

	p->head_len = MIN(sizeof(p->head), p->size);
	rc = p->unpacker->read(p->unpacker->arg, 0, p->head, p->head_len);
	if (rc)
		return rc;
	if (!elf_is(p->head, p->head_len))
		return -ENOTSUP;
	return elf_parse(&src, false, &p->elf);
}

static int check_segments(const struct payload *p, const struct mem *m)
{
	for (unsigned i = 0; i < p->elf.count; i++) {
		const struct elf_segment *s = &p->elf.seg[i];
		int rc = image_check_room(m, "its segment", s->paddr, s->paddr + s->memsz);

		if (rc)
			return rc;
	}
	return 0;
}

/* All of the file. Its beginning is what was judged, whatever has become of it since. */
static int read_file(const struct payload *p, char *to)
{
	memcpy(to, p->head, p->head_len);
	return p->unpacker->read(
		p->unpacker->arg, p->head_len, to + p->head_len, p->size - p->head_len);
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

static int read_in_place(const struct payload *p, struct mem *m, uint64_t base, bool zeroed)
{
	char *file = mem_get(m, base, p->size);
	int rc = read_file(p, file);

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

static int read_and_copy(const struct payload *p, struct mem *m, bool zeroed)
{
	char *file = malloc(p->size);
	int rc;

	if (!file)
		return fail(ENOMEM, "no memory to unpack %llu MiB", (ull)(p->size >> 20));
	rc = read_file(p, file);
	for (unsigned i = 0; !rc && i < p->elf.count; i++) {
		const struct elf_segment *s = &p->elf.seg[i];

		rc = mem_write(m, s->paddr, file + s->off, s->filesz);
		if (!zeroed)
			clear_bss(s, m, UINT64_MAX);
	}
	free(file);
	return rc;
}

/* The size that its end says: more than the guest's memory is never made. */
static int read_size(struct payload *p, const struct image *img, const struct mem *m, uint64_t end)
{
	uint8_t size[4];
	int rc = image_read(img, end - sizeof(size), size, sizeof(size));

	if (rc)
		return rc;
	p->size = get_le32(size);
	if (p->size > mem_size(m))
		return fail(ENOMEM,
			"it unpacks to %llu MiB (the size at its end), more than the %llu MiB of "
			"memory",
			(ull)(p->size >> 20), (ull)(mem_size(m) >> 20));
	return p->size ? 0 : fail(EINVAL, "it unpacks to nothing (the size at its end)");
}

static int place(struct payload *p, struct mem *m, bool zeroed)
{
	uint64_t base;
	int rc = parse_head(p);

	if (!rc)
		rc = check_segments(p, m);
	if (rc)
		return rc;
	base = place_of_file(&p->elf);
	if (base >= LAYOUT_HIGH_RAM && mem_get(m, base, p->size))
		return read_in_place(p, m, base, zeroed);
	return read_and_copy(p, m, zeroed);
}

static int load(
	struct payload *p, const struct image *img, struct mem *m, uint64_t off, uint64_t len)
{
	int64_t made;
	int rc = read_size(p, img, m, off + len);

	if (rc)
		return rc;
	made = begin(p, img, off, len);
	if (made < 0)
		return (int)made;
	if ((uint64_t)made == p->size)
		rc = place(p, m, img->zeroed);
	else
		rc = fail(EINVAL, "it unpacks to %lld bytes, its end says %llu", (long long)made,
			(ull)p->size);
	p->unpacker->end(p->unpacker->arg);
	return rc;
}

int payload_load(struct image *img, struct mem *m, uint64_t off, uint64_t len)
{
	struct payload p = {.unpacker = img->unpacker};
	int rc;

	if (!p.unpacker)
		return -ENOTSUP;
	if (len < 8)
		return fail(EINVAL, "its payload (payload_length) has only %llu bytes", (ull)len);
	rc = load(&p, img, m, off, len);
	if (rc)
		return rc == -ENOTSUP ? rc : fail_context(rc, "payload");
	img->entry = (struct boot_entry){.mode = BOOT_LONG64, .entry = p.elf.entry};
	img->start = p.elf.start;
	img->end = p.elf.end;
	return 0;
}
