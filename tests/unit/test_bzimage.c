// SPDX-License-Identifier: MIT
// bzImages: each packing unpacked and placed, what cannot be unpacked booted as it is, spoilt ones
// refused.
#include "tests/unit/kernel_image.h"

#include <asm/bootparam.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#define SETUP_SECTS 2
#define PM_OFF ((SETUP_SECTS + 1) * 512)
#define PAYLOAD_OFF 0x400 /* in the protected-mode part */
#define LZ4_BLOCK MIB(8)

/* The second lies higher in memory, against the first, than in the file, as per-CPU data does. */
static const struct test_segment usual[] = {
	{.off = MIB(2), .paddr = MIB(4), .filesz = MIB(9) + 77, .memsz = MIB(9) + 77},
	{.off = MIB(12), .paddr = MIB(14) + 0x5000, .filesz = 0x3000, .memsz = 0x3000},
	{.off = MIB(13), .paddr = MIB(15), .filesz = MIB(4) + 5, .memsz = MIB(6)},
};

/* Cannot lie in memory as in the file: it would begin below 1 MiB. */
static const struct test_segment low[] = {
	{.off = MIB(4), .paddr = MIB(1), .filesz = MIB(1), .memsz = MIB(1)},
	{.off = MIB(6), .paddr = MIB(3), .filesz = MIB(2), .memsz = MIB(2) + 100},
};

static struct mem *mem;

static int setup(void **state)
{
	log_set_level(LOG_LEVEL_ERROR);
	return mem_create(&mem, MIB(32), MEM_PRIVATE);
}

static int teardown(void **state)
{
	mem_destroy(mem);
	return 0;
}

static size_t pack_gzip(const struct blob *in, uint8_t *to, size_t cap)
{
	z_stream s = {.next_in = in->p,
		.avail_in = (unsigned)in->len,
		.next_out = to,
		.avail_out = (unsigned)cap};

	assert_int_equal(
		deflateInit2(&s, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
	deflateEnd(&s);
	return s.total_out;
}

static size_t pack_xz(const struct blob *in, uint8_t *to, size_t cap)
{
	lzma_filter filters[] = {
		{.id = LZMA_FILTER_X86}, {.id = LZMA_FILTER_LZMA2}, {.id = LZMA_VLI_UNKNOWN}};
	lzma_options_lzma options;
	size_t pos = 0;

	assert_false(lzma_lzma_preset(&options, 0));
	filters[1].options = &options;
	assert_int_equal(lzma_stream_buffer_encode(
				 filters, LZMA_CHECK_CRC32, NULL, in->p, in->len, to, &pos, cap),
		LZMA_OK);
	return pos;
}

static size_t pack_lz4_blocks(const struct blob *in, uint8_t *to, size_t cap, size_t block)
{
	size_t pos = 4;

	put_le32(to, 0x184c2102);
	for (size_t off = 0; off < in->len; off += block) {
		int n = LZ4_compress_default((const char *)in->p + off, (char *)to + pos + 4,
			(int)MIN(block, in->len - off), (int)(cap - pos - 4));

		assert_true(n > 0);
		put_le32(to + pos, (uint32_t)n);
		pos += 4 + (size_t)n;
	}
	return pos;
}

static size_t pack_lz4(const struct blob *in, uint8_t *to, size_t cap)
{
	return pack_lz4_blocks(in, to, cap, LZ4_BLOCK);
}

static size_t pack_lz4_short(const struct blob *in, uint8_t *to, size_t cap)
{
	return pack_lz4_blocks(in, to, cap, LZ4_BLOCK - MIB(1));
}

static size_t pack_zstd(const struct blob *in, uint8_t *to, size_t cap)
{
	size_t n = ZSTD_compress(to, cap, in->p, in->len, 1);

	assert_false(ZSTD_isError(n));
	return n;
}

/* Linux does so with lzo, lzma and bzip2; this is none of them, but no one here can tell. */
static size_t pack_unknown(const struct blob *in, uint8_t *to, size_t cap)
{
	memcpy(to, "\x89LZO\0\r\n\x1a\n", 9);
	return 256;
}

typedef size_t pack_fn(const struct blob *in, uint8_t *to, size_t cap);

static pack_fn *const packings[] = {pack_gzip, pack_xz, pack_lz4, pack_zstd};

static struct setup_header *header(const struct blob *b)
{
	return (struct setup_header *)(void *)(b->p + 0x1f1);
}

static struct blob test_bzimage(const struct blob *kernel, pack_fn *pack)
{
	size_t cap = PM_OFF + PAYLOAD_OFF + kernel->len + kernel->len / 8 + 4096;
	struct blob b = {calloc(1, cap), cap};
	uint8_t *payload = b.p + PM_OFF + PAYLOAD_OFF;
	size_t n = pack(kernel, payload, cap - PM_OFF - PAYLOAD_OFF - 32);

	put_le32(payload + n, (uint32_t)kernel->len);
	n += 4;
	memset(b.p + PM_OFF, 0xcc, PAYLOAD_OFF);
	*header(&b) = (struct setup_header){
		.setup_sects = SETUP_SECTS,
		.syssize = (uint32_t)(PAYLOAD_OFF + n + 15) / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x20f,
		.kernel_version = 0x100,
		.loadflags = LOADED_HIGH | QUIET_FLAG,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = (uint32_t)MIB(2),
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.payload_offset = PAYLOAD_OFF,
		.payload_length = (uint32_t)n,
		.pref_address = MIB(4),
		.init_size = (uint32_t)MIB(20),
	};
	memcpy(b.p + 0x300, "6.1.0-1-test (someone) #1", 26);
	b.len = PM_OFF + PAYLOAD_OFF + n;
	return b;
}

static void check_unpacked(const struct test_segment *s, unsigned n, pack_fn *pack, bool zeroed)
{
	struct blob kernel = test_elf(s, n, s[n - 1].off + s[n - 1].filesz + MIB(1));
	struct blob b = test_bzimage(&kernel, pack);
	int fd CLEANUP_FD = test_fd(&b);
	struct loader_config cfg = {.kernel_fd = fd,
		.kernel_name = "test.img",
		.zeroed = zeroed,
		.unpacker = unpacker_here()};
	struct boot_params bp;
	struct boot_entry e;
	struct mem *m;

	assert_int_equal(mem_create(&m, MIB(32), MEM_PRIVATE), 0);
	if (!zeroed)
		memset(mem_get(m, 0, MIB(32)), 0xa5, MIB(32));
	if (loader_load(m, &cfg, &e))
		fail_msg("%s", last_error());
	assert_int_equal(e.mode, BOOT_LONG64);
	assert_int_equal(e.entry, s[0].paddr + 0x10);
	for (unsigned i = 0; i < n; i++)
		test_segment_loaded(m, &s[i]);
	assert_int_equal(mem_read(m, e.info, &bp, sizeof(bp)), 0);
	assert_int_equal(bp.hdr.version, 0x20f);
	assert_int_equal(bp.hdr.type_of_loader, 0xff);
	assert_int_equal(bp.hdr.init_size, MIB(20));
	assert_int_equal(bp.hdr.kernel_info_offset, 0);
	mem_destroy(m);
	free(kernel.p);
	free(b.p);
}

static void test_unpacks(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(packings); i++) {
		check_unpacked(usual, ARRAY_SIZE(usual), packings[i], true);
		check_unpacked(usual, ARRAY_SIZE(usual), packings[i], false);
		check_unpacked(low, ARRAY_SIZE(low), packings[i], true);
		check_unpacked(low, ARRAY_SIZE(low), packings[i], false);
	}
}

/* Small enough to be tried thousands of times. */
static const struct test_segment tiny[] = {
	{.off = 0x1000, .paddr = MIB(4), .filesz = 0x3000, .memsz = 0x3000},
	{.off = 0x4000, .paddr = MIB(4) + 0x8000, .filesz = 0x123, .memsz = 0x4567},
};

static struct blob tiny_bzimage(pack_fn *pack)
{
	struct blob kernel = test_elf(tiny, ARRAY_SIZE(tiny), 0x5000);
	struct blob b = test_bzimage(&kernel, pack);

	free(kernel.p);
	return b;
}

static void check_as_is(const struct blob *b, uint64_t at)
{
	struct boot_params bp;
	struct boot_entry e;
	uint64_t loaded = header(b)->syssize * 16 - 15;

	memset(mem_get(mem, 0, MIB(32)), 0xa5, MIB(32));
	if (test_load(mem, b, &e))
		fail_msg("%s", last_error());
	assert_int_equal(e.mode, BOOT_LONG64);
	assert_int_equal(e.entry, at + 0x200);
	assert_memory_equal(mem_get(mem, at, loaded), b->p + PM_OFF, loaded);
	assert_int_equal(*(uint8_t *)mem_get(mem, at + MIB(20) - 1, 1), 0);
	assert_int_equal(*(uint8_t *)mem_get(mem, at + MIB(20), 1), 0xa5);
	assert_int_equal(mem_read(mem, e.info, &bp, sizeof(bp)), 0);
	assert_int_equal(bp.hdr.code32_start, at);
}

static void test_as_is(void **state)
{
	struct blob b = tiny_bzimage(pack_unknown);
	struct blob text = {(uint8_t *)strdup("not an ELF file at all, but well packed"), 40};
	struct blob c = test_bzimage(&text, pack_gzip);

	check_as_is(&b, MIB(4));
	header(&b)->pref_address = 0;
	check_as_is(&b, MIB(1));
	header(&b)->payload_length = 0;
	check_as_is(&b, MIB(1));
	check_as_is(&c, MIB(4));
	free(text.p);
	free(b.p);
	free(c.p);
}

static void test_spoilt_header(void **state)
{
	static const struct {
		size_t off;
		unsigned bytes;
		uint64_t value;
		const char *says;
	} spoilt[] = {
#define HDR(field)                                                                                 \
	0x1f1 + offsetof(struct setup_header, field), sizeof(((struct setup_header *)0)->field)
		{HDR(boot_flag), 0, "neither an ELF kernel (vmlinux) nor a bzImage"},
		{HDR(header), 0, "neither an ELF kernel (vmlinux) nor a bzImage"},
		{HDR(jump), 0x22eb, "setup header ends at 0x224"},
		{HDR(version), 0x20b, "boot protocol 2.11 is too old"},
		{HDR(xloadflags), XLF_CAN_BE_LOADED_ABOVE_4G, "a 32-bit kernel"},
		{HDR(loadflags), 0, "zImage"},
		{HDR(setup_sects), 0xff, "truncated: its header (setup_sects, syssize)"},
		{HDR(syssize), 0, "syssize 0"},
		{HDR(syssize), UINT32_MAX, "truncated: its header (setup_sects, syssize)"},
		{HDR(payload_offset), UINT32_MAX, "payload_offset 0xffffffff"},
		{HDR(payload_offset), PAYLOAD_OFF + 1, "payload (payload_offset"},
		{HDR(payload_length), UINT32_MAX, "payload_length 0xffffffff"},
		{HDR(payload_length), 3, "payload_length) has only 3 bytes"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(spoilt); i++) {
		struct blob b = tiny_bzimage(pack_gzip);

		/* So that it is the field that stops it and not where the file happens to end. */
		b.len = PM_OFF + header(&b)->payload_offset + header(&b)->payload_length;
		for (unsigned k = 0; k < spoilt[i].bytes; k++)
			b.p[spoilt[i].off + k] = (uint8_t)(spoilt[i].value >> (8 * k));
		test_refused(mem, &b, spoilt[i].says);
		free(b.p);
	}
}

static void test_spoilt_as_is(void **state)
{
	struct blob b = tiny_bzimage(pack_unknown);

	header(&b)->init_size = (uint32_t)MIB(29);
	test_refused(mem, &b,
		"(pref_address, init_size) (0x400000-0x2100000) does not fit in 32 MiB "
		"of memory; it needs at least 33 MiB");
	header(&b)->pref_address = 4096;
	test_refused(mem, &b, "no RAM");
	header(&b)->pref_address = UINT64_MAX;
	test_refused(mem, &b, "not below 4 GiB");
	header(&b)->syssize = 0x200 / 16;
	header(&b)->payload_length = header(&b)->payload_offset = 0;
	test_refused(mem, &b, "no room for a 64-bit entry");
	free(b.p);
}

/* The data broken in the middle, at its end, longer and shorter than its end says. */
static void check_broken(pack_fn *pack)
{
	struct blob b = tiny_bzimage(pack);
	uint8_t *payload = b.p + PM_OFF + PAYLOAD_OFF;
	uint32_t len = header(&b)->payload_length;

	put_le32(payload + len - 4, 0x5001);
	test_refused(mem, &b, "payload: ");
	put_le32(payload + len - 4, 0x4fff);
	test_refused(mem, &b, "payload: ");
	put_le32(payload + len - 4, 0x4000);
	test_refused(mem, &b,
		pack == pack_lz4 ? "payload: broken lz4 data in block 1 of 1"
				 : "payload: its end says that there are 16384 bytes: it unpacks "
				   "to more");
	put_le32(payload + len - 4, UINT32_MAX);
	test_refused(mem, &b, "payload: it unpacks to 4095 MiB");
	put_le32(payload + len - 4, 0x5000);
	header(&b)->payload_length = len / 2;
	put_le32(payload + len / 2 - 4, 0x5000);
	test_refused(mem, &b, "payload: ");
	free(b.p);
}

static void test_broken_payload(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(packings); i++)
		check_broken(packings[i]);
}

/* A block of less than 8 MiB that is not the last would leave a hole, with which the size is right.
 */
static void test_short_lz4_block(void **state)
{
	struct blob kernel = test_elf(tiny, ARRAY_SIZE(tiny), MIB(10));
	struct blob b = test_bzimage(&kernel, pack_lz4_short);

	put_le32(b.p + b.len - 4, (uint32_t)MIB(11));
	test_refused(mem, &b, "broken lz4 data in block 1 of 2");
	free(kernel.p);
	free(b.p);
}

/* A few kilobytes that make 100 MiB: more than memory is never written. */
static void test_bomb(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(packings); i++) {
		struct blob kernel = test_elf(tiny, ARRAY_SIZE(tiny), MIB(100));
		struct blob b = test_bzimage(&kernel, packings[i]);
		uint8_t *end = b.p + PM_OFF + PAYLOAD_OFF + header(&b)->payload_length;

		test_refused(mem, &b, "payload: it unpacks to 100 MiB");
		put_le32(end - 4, 0x5000);
		test_refused(mem, &b, "payload: ");
		free(kernel.p);
		free(b.p);
	}
}

static void test_any_byte_any_length(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(packings); i++) {
		struct blob b = tiny_bzimage(packings[i]);

		test_every_byte(mem, &b, 0x1f0, 0x270);
		test_every_byte(mem, &b, PM_OFF + PAYLOAD_OFF, PM_OFF + PAYLOAD_OFF + 128);
		test_every_byte(mem, &b, b.len - 16, b.len);
		test_every_length(mem, &b, 11);
		free(b.p);
	}
}

static void test_any_byte_as_is(void **state)
{
	struct blob b = tiny_bzimage(pack_unknown);

	test_every_byte(mem, &b, 0x1f0, 0x270);
	test_every_length(mem, &b, 11);
	free(b.p);
}

static int fill_nothing(void *arg, void *dst, uint64_t size)
{
	return 0;
}

static void test_initrd_limits(void **state)
{
	struct blob b = tiny_bzimage(pack_lz4);
	struct loader_initrd rd = {.name = "rd", .size = MIB(3), .fill = fill_nothing};
	struct loader_config cfg = {
		.kernel_name = "k", .initrd = &rd, .cmdline = "12345", .unpacker = unpacker_here()};
	struct boot_params bp;
	struct boot_entry e;
	struct mem *m;

	header(&b)->initrd_addr_max = (uint32_t)MIB(8) - 1;
	cfg.kernel_fd = test_fd(&b);
	assert_int_equal(mem_create(&m, GIB(4), MEM_PRIVATE), 0);
	assert_int_equal(loader_load(m, &cfg, &e), 0);
	assert_int_equal(mem_read(m, e.info, &bp, sizeof(bp)), 0);
	assert_int_equal(bp.hdr.ramdisk_image, MIB(5));
	rd.size = MIB(5); /* does not fit there, and the kernel takes it above 4 GiB */
	assert_int_equal(loader_load(m, &cfg, &e), 0);
	assert_int_equal(mem_read(m, e.info, &bp, sizeof(bp)), 0);
	assert_int_equal(bp.ext_ramdisk_image, 1);
	assert_int_equal(bp.hdr.ramdisk_image, GIB(1) - MIB(5));
	assert_int_equal(bp.hdr.ramdisk_size, MIB(5));
	close(cfg.kernel_fd);

	header(&b)->xloadflags = XLF_KERNEL_64;
	cfg.kernel_fd = test_fd(&b);
	assert_int_equal(loader_load(m, &cfg, &e), -EFBIG);
	assert_non_null(
		strstr(last_error(), "initrd rd: 5 MiB are more than kernel k can be given"));
	close(cfg.kernel_fd);

	header(&b)->cmdline_size = 4;
	cfg.kernel_fd = test_fd(&b);
	assert_int_equal(loader_load(m, &cfg, &e), -E2BIG);
	close(cfg.kernel_fd);
	mem_destroy(m);
	free(b.p);
}

static void test_version(void **state)
{
	struct blob b = tiny_bzimage(pack_gzip);
	char buf[80];
	int fd = test_fd(&b);

	assert_int_equal(loader_version(fd, "k", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "6.1.0-1-test");
	close(fd);
	memcpy(b.p + 0x300, "6.1/../../x y", 14);
	fd = test_fd(&b);
	assert_int_equal(loader_version(fd, "k", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "6.1");
	close(fd);
	header(&b)->kernel_version = 0xffff;
	fd = test_fd(&b);
	assert_int_equal(loader_version(fd, "k", buf, sizeof(buf)), -EINVAL);
	close(fd);
	header(&b)->kernel_version = 0;
	fd = test_fd(&b);
	assert_int_equal(loader_version(fd, "k", buf, sizeof(buf)), -ENOENT);
	close(fd);
	free(b.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unpacks),
		cmocka_unit_test(test_as_is),
		cmocka_unit_test(test_spoilt_header),
		cmocka_unit_test(test_spoilt_as_is),
		cmocka_unit_test(test_broken_payload),
		cmocka_unit_test(test_short_lz4_block),
		cmocka_unit_test(test_bomb),
		cmocka_unit_test(test_any_byte_any_length),
		cmocka_unit_test(test_any_byte_as_is),
		cmocka_unit_test(test_initrd_limits),
		cmocka_unit_test(test_version),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
