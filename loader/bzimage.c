// SPDX-License-Identifier: MIT
// bzImage, the Linux boot protocol's file: a real-mode setup part whose header says all that
// matters, then the protected-mode part, which holds the packed kernel and the code that unpacks it
// in the guest.
//
// The setup part is never run. Where the payload can be unpacked here, which is much faster than in
// the guest, it is (loader/payload.c) and the protected-mode part is not loaded at all. Else that
// part is put where it wants to be and entered at its 64-bit entry, 512 bytes in. Field names are
// those of the Linux documentation, Documentation/arch/x86/boot.rst.
#include "base/log.h"
#include "hw/mem.h"
#include "loader/image.h"

#include <errno.h>

#define HEADER_OFF offsetof(struct boot_params, hdr) /* 0x1f1, in the file as in the zero page */
#define JUMP_OFF 0x200       /* a short jump over the header; so it tells its end */
#define HEADER_MIN_END 0x264 /* up to init_size: protocol 2.10 */
#define SECTOR 512u
#define PROTOCOL_MIN 0x20c /* 2.12, Linux 3.8: the first with xloadflags */
#define ENTRY_64 0x200

bool bzimage_is(const void *head, size_t len)
{
	return len >= 0x206 && memcmp((const char *)head + 0x202, "HdrS", 4) == 0 &&
	       get_le16((const char *)head + 0x1fe) == 0xaa55;
}

/* What lies beyond the header that this kernel knows stays zero. */
static int read_header(const struct image *img, struct setup_header *h)
{
	uint8_t raw[HEADER_OFF + sizeof(*h)];
	size_t end;
	int rc = image_read(img, 0, raw, sizeof(raw));

	if (rc)
		return rc;
	end = JUMP_OFF + 2 + raw[JUMP_OFF + 1];
	if (end < HEADER_MIN_END)
		return fail(EINVAL,
			"its setup header ends at 0x%zx (jump), too short for boot "
			"protocol 2.12",
			end);
	memset(h, 0, sizeof(*h));
	memcpy(h, raw + HEADER_OFF, MIN(end, sizeof(raw)) - HEADER_OFF);
	return 0;
}

static int check_protocol(const struct setup_header *h)
{
	if (h->version < PROTOCOL_MIN)
		return fail(EINVAL,
			"boot protocol %u.%02u is too old: 2.12 (Linux 3.8) or later is needed",
			h->version >> 8, h->version & 0xff);
	if (!(h->xloadflags & XLF_KERNEL_64))
		return fail(EINVAL,
			"a 32-bit kernel (no XLF_KERNEL_64 in xloadflags); a 64-bit one "
			"is needed");
	if (!(h->loadflags & LOADED_HIGH))
		return fail(EINVAL, "a zImage (no LOADED_HIGH in loadflags); a bzImage is needed");
	return 0;
}

int bzimage_parse(const struct image *img, struct bzimage *bz)
{
	int rc = read_header(img, &bz->hdr);

	if (!rc)
		rc = check_protocol(&bz->hdr);
	if (rc)
		return rc;
	bz->pm_off = ((bz->hdr.setup_sects ? bz->hdr.setup_sects : 4) + 1) * SECTOR;
	bz->pm_size = (uint64_t)bz->hdr.syssize * 16;
	if (bz->pm_size == 0)
		return fail(EINVAL, "its protected-mode part is empty (syssize 0)");
	/* syssize is in 16 bytes, rounded up; what comes after is a signature. */
	if (bz->pm_off > img->size || bz->pm_size - 15 > img->size - bz->pm_off)
		return fail(EINVAL,
			"truncated: its header (setup_sects, syssize) says %llu bytes, it has %llu",
			(ull)(bz->pm_off + bz->pm_size), (ull)img->size);
	bz->pm_size = MIN(bz->pm_size, img->size - bz->pm_off);
	if (!range_ok(bz->hdr.payload_offset, bz->hdr.payload_length, bz->pm_size))
		return fail(EINVAL,
			"its payload (payload_offset 0x%x, payload_length 0x%x) is not within its "
			"protected-mode part of 0x%llx bytes",
			bz->hdr.payload_offset, bz->hdr.payload_length, (ull)bz->pm_size);
	return 0;
}

/* Lets it unpack itself, from where it would like to end up: it needs init_size bytes there. */
static int load_as_is(struct image *img, struct mem *m, const struct bzimage *bz)
{
	uint64_t at = bz->hdr.pref_address ? bz->hdr.pref_address : LAYOUT_HIGH_RAM;
	uint64_t need = MAX(bz->pm_size, bz->hdr.init_size);
	int rc;

	if (bz->pm_size <= ENTRY_64)
		return fail(
			EINVAL, "its protected-mode part (syssize) has no room for a 64-bit entry");
	if (at > GIB(4) - need)
		return fail(EINVAL, "pref_address 0x%llx with init_size 0x%x is not below 4 GiB",
			(ull)at, bz->hdr.init_size);
	rc = image_check_room(m, "its place (pref_address, init_size)", at, at + need);
	if (!rc)
		rc = image_read_to_guest(img, m, bz->pm_off, at, bz->pm_size);
	if (rc)
		return rc;
	if (!img->zeroed)
		image_clear(m, at + bz->pm_size, need - bz->pm_size);
	img->entry = (struct boot_entry){.mode = BOOT_LONG64, .entry = at + ENTRY_64};
	img->start = at;
	img->end = at + need;
	return 0;
}

int bzimage_load(struct image *img, struct mem *m)
{
	struct bzimage bz;
	int rc = bzimage_parse(img, &bz);

	if (rc)
		return rc;
	rc = -ENOTSUP;
	if (bz.hdr.payload_length)
		rc = payload_load(img, m, bz.pm_off + bz.hdr.payload_offset, bz.hdr.payload_length);
	if (rc == -ENOTSUP)
		rc = load_as_is(img, m, &bz);
	if (rc)
		return rc;
	img->hdr = bz.hdr;
	img->initrd_above_4g = bz.hdr.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G;
	if (bz.hdr.initrd_addr_max)
		img->initrd_end_max = (uint64_t)bz.hdr.initrd_addr_max + 1;
	if (bz.hdr.cmdline_size)
		img->cmdline_max = bz.hdr.cmdline_size;
	return 0;
}
