// SPDX-License-Identifier: MIT
// Writes ACPI's byte code.
//
// A term's length counts itself and is one to four bytes long, so that it is known only when the
// term is closed: its contents are then moved up by as much as the length takes.
#include "hw/aml.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>

/* ACPI 6.4, 20.3 */
#define OP_ZERO 0x00u
#define OP_ONE 0x01u
#define OP_NAME 0x08u
#define OP_BYTE 0x0au
#define OP_WORD 0x0bu
#define OP_DWORD 0x0cu
#define OP_STRING 0x0du
#define OP_QWORD 0x0eu
#define OP_SCOPE 0x10u
#define OP_BUFFER 0x11u
#define OP_PACKAGE 0x12u
#define OP_METHOD 0x14u
#define OP_DUAL_NAME 0x2eu
#define OP_MULTI_NAME 0x2fu
#define OP_EXT 0x5bu
#define OP_LOCAL0 0x60u
#define OP_STORE 0x70u
#define OP_AND 0x7bu
#define OP_NOTIFY 0x86u
#define OP_IF 0xa0u
#define EXT_REGION 0x80u
#define EXT_FIELD 0x81u
#define EXT_DEVICE 0x82u

#define METHOD_SERIALIZED 0x08u
#define REGION_SYSTEM_IO 0x01u
#define FIELD_DWORD 0x03u /* no lock, bits not written are preserved */

enum { KIND_TERM, KIND_RESOURCES };

#define PKG_LENGTH_MAX 0x0fffffffu

void aml_init(struct aml *a)
{
	*a = (struct aml){0};
}

void aml_finish(struct aml *a)
{
	free(a->buf);
	aml_init(a);
}

static void set_error(struct aml *a, int err, const char *what)
{
	if (!a->err)
		a->err = fail(err, "ACPI code: %s", what);
}

/* Room for `len` bytes at the end, or NULL. */
static uint8_t *extend(struct aml *a, size_t len)
{
	uint8_t *p;

	if (a->err)
		return NULL;
	if (a->len + len > a->cap) {
		size_t cap = MAX(a->cap * 2, align_up(a->len + len, 1024));

		p = realloc(a->buf, cap);
		if (!p) {
			set_error(a, ENOMEM, "out of memory");
			return NULL;
		}
		a->buf = p;
		a->cap = cap;
	}
	p = a->buf + a->len;
	a->len += len;
	return p;
}

static void put(struct aml *a, const void *data, size_t len)
{
	uint8_t *p = extend(a, len);

	if (p)
		memcpy(p, data, len);
}

static void put_u8(struct aml *a, uint8_t v)
{
	put(a, &v, 1);
}

/* Moves what is from `at` on and puts `len` bytes there. */
static void insert(struct aml *a, size_t at, const void *data, size_t len)
{
	size_t tail = a->len - at;

	if (!extend(a, len))
		return;
	memmove(a->buf + at + len, a->buf + at, tail);
	memcpy(a->buf + at, data, len);
}

/* ---- Names (20.2.2) ---- */

#define NAME_SEGMENTS 4u

static bool name_char(char c, bool first)
{
	return c == '_' || (c >= 'A' && c <= 'Z') || (!first && c >= '0' && c <= '9');
}

/* One segment of up to four characters, filled up with '_'; how many characters it had. */
static size_t segment(uint8_t seg[4], const char *s)
{
	size_t n = 0;

	memset(seg, '_', 4);
	while (n < 4 && name_char(s[n], n == 0)) {
		seg[n] = (uint8_t)s[n];
		n++;
	}
	return n;
}

static void put_name(struct aml *a, const char *name)
{
	uint8_t seg[NAME_SEGMENTS][4];
	unsigned count = 0;
	bool more = true;
	size_t n = 1;

	if (*name == '\\') {
		put_u8(a, '\\');
		name++;
	}
	while (more && n && count < NAME_SEGMENTS) {
		n = segment(seg[count++], name);
		more = name[n] == '.';
		name += n + more;
	}
	if (!n || more || *name) {
		set_error(a, EINVAL, "bad name");
		return;
	}
	if (count > 1)
		put_u8(a, count == 2 ? OP_DUAL_NAME : OP_MULTI_NAME);
	if (count > 2)
		put_u8(a, (uint8_t)count);
	put(a, seg, count * sizeof(seg[0]));
}

/* ---- Terms with a length (20.2.4) ---- */

static void open_kind(struct aml *a, uint8_t kind)
{
	if (a->depth == AML_DEPTH) {
		set_error(a, EOVERFLOW, "nested too deep");
		return;
	}
	a->open[a->depth].at = a->len;
	a->open[a->depth].kind = kind;
	a->depth++;
}

/* The bytes of a length that counts itself and `len` more; how many. */
static size_t pkg_length(uint8_t out[4], size_t len)
{
	size_t total = len + 1, more = 0;

	if (total < 0x40) {
		out[0] = (uint8_t)total;
		return 1;
	}
	for (more = 1; more < 3 && len + 1 + more >= (size_t)1 << (4 + 8 * more); more++)
		;
	total = len + 1 + more;
	out[0] = (uint8_t)(more << 6 | (total & 0x0f));
	for (size_t i = 1; i <= more; i++)
		out[i] = (uint8_t)(total >> (8 * i - 4));
	return 1 + more;
}

/* A resource template is a buffer: its size stands before its bytes (20.2.5.4). */
static void end_resources(struct aml *a, size_t at)
{
	static const uint8_t end_tag[] = {0x79, 0}; /* checksum 0: not computed (6.4.2.9) */
	uint8_t size[3];
	size_t len;

	put(a, end_tag, sizeof(end_tag));
	len = a->len - at;
	if (len > UINT16_MAX)
		set_error(a, EOVERFLOW, "resources too long");
	size[0] = len > UINT8_MAX ? OP_WORD : OP_BYTE;
	put_le16(size + 1, (uint16_t)len);
	insert(a, at, size, len > UINT8_MAX ? 3 : 2);
}

void aml_end(struct aml *a)
{
	uint8_t length[4];
	size_t at;

	if (a->err || !a->depth) {
		set_error(a, EINVAL, "nothing to end");
		return;
	}
	a->depth--;
	at = a->open[a->depth].at;
	if (a->open[a->depth].kind == KIND_RESOURCES)
		end_resources(a, at);
	if (a->len - at > PKG_LENGTH_MAX - sizeof(length)) {
		set_error(a, EOVERFLOW, "too long");
		return;
	}
	insert(a, at, length, pkg_length(length, a->len - at));
}

void aml_scope(struct aml *a, const char *name)
{
	put_u8(a, OP_SCOPE);
	open_kind(a, KIND_TERM);
	put_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	put_u8(a, OP_EXT);
	put_u8(a, EXT_DEVICE);
	open_kind(a, KIND_TERM);
	put_name(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
	put_u8(a, OP_METHOD);
	open_kind(a, KIND_TERM);
	put_name(a, name);
	put_u8(a, (uint8_t)(args & 7) | METHOD_SERIALIZED);
}

void aml_package(struct aml *a, uint8_t count)
{
	put_u8(a, OP_PACKAGE);
	open_kind(a, KIND_TERM);
	put_u8(a, count);
}

void aml_if(struct aml *a)
{
	put_u8(a, OP_IF);
	open_kind(a, KIND_TERM);
}

void aml_field(struct aml *a, const char *region)
{
	put_u8(a, OP_EXT);
	put_u8(a, EXT_FIELD);
	open_kind(a, KIND_TERM);
	put_name(a, region);
	put_u8(a, FIELD_DWORD);
}

/* ---- Values ---- */

void aml_int(struct aml *a, uint64_t v)
{
	static const struct {
		uint8_t op;
		uint8_t len;
	} forms[] = {{OP_BYTE, 1}, {OP_WORD, 2}, {OP_DWORD, 4}, {OP_QWORD, 8}};
	uint8_t bytes[8];
	size_t i = 0;

	if (v <= 1) {
		put_u8(a, v ? OP_ONE : OP_ZERO);
		return;
	}
	while (forms[i].len < 8 && v >> (8 * forms[i].len))
		i++;
	put_le64(bytes, v);
	put_u8(a, forms[i].op);
	put(a, bytes, forms[i].len);
}

void aml_string(struct aml *a, const char *s)
{
	put_u8(a, OP_STRING);
	put(a, s, strlen(s) + 1);
}

static unsigned hex_digit(struct aml *a, char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A') + 10;
	set_error(a, EINVAL, "bad device id");
	return 0;
}

/* Three letters of five bits and four hexadecimal digits, most significant byte first (6.1.5). */
void aml_eisaid(struct aml *a, const char *id)
{
	uint32_t v = 0;
	uint8_t bytes[4];

	if (strlen(id) != 7) {
		set_error(a, EINVAL, "bad device id");
		return;
	}
	for (int i = 0; i < 3; i++)
		v = v << 5 | ((uint32_t)(id[i] - '@') & 0x1f);
	for (int i = 3; i < 7; i++)
		v = v << 4 | hex_digit(a, id[i]);
	v = htobe32(v);
	memcpy(bytes, &v, sizeof(v));
	put_u8(a, OP_DWORD);
	put(a, bytes, sizeof(bytes));
}

void aml_ref(struct aml *a, const char *name)
{
	put_name(a, name);
}

void aml_local(struct aml *a, unsigned n)
{
	put_u8(a, (uint8_t)(OP_LOCAL0 + (n & 7)));
}

void aml_name(struct aml *a, const char *name)
{
	put_u8(a, OP_NAME);
	put_name(a, name);
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
	aml_name(a, name);
	aml_int(a, v);
}

void aml_name_string(struct aml *a, const char *name, const char *s)
{
	aml_name(a, name);
	aml_string(a, s);
}

void aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
	aml_name(a, name);
	aml_eisaid(a, id);
}

/* ---- Regions and operators ---- */

void aml_region_io(struct aml *a, const char *name, uint16_t port, uint8_t len)
{
	put_u8(a, OP_EXT);
	put_u8(a, EXT_REGION);
	put_name(a, name);
	put_u8(a, REGION_SYSTEM_IO);
	aml_int(a, port);
	aml_int(a, len);
}

void aml_field_unit(struct aml *a, const char *name, unsigned bits)
{
	if (bits >= 0x40)
		set_error(a, EOVERFLOW, "field unit too long");
	put_name(a, name);
	put_u8(a, (uint8_t)bits);
}

void aml_store(struct aml *a)
{
	put_u8(a, OP_STORE);
}

void aml_notify(struct aml *a)
{
	put_u8(a, OP_NOTIFY);
}

void aml_and_local(struct aml *a, unsigned n, uint64_t mask)
{
	put_u8(a, OP_AND);
	aml_local(a, n);
	aml_int(a, mask);
	put_u8(a, OP_ZERO); /* no target: the value is what counts */
}

/* ---- Resources (6.4) ---- */

void aml_resources(struct aml *a)
{
	aml_name(a, "_CRS");
	put_u8(a, OP_BUFFER);
	open_kind(a, KIND_RESOURCES);
}

/* 6.4.2.5: decodes 16 bits, fixed */
void aml_res_io(struct aml *a, uint16_t port, uint8_t len)
{
	uint8_t d[8] = {0x47, 0x01, [6] = 1, [7] = len};

	put_le16(d + 2, port);
	put_le16(d + 4, port);
	put(a, d, sizeof(d));
}

/* 6.4.3.4: read and write */
void aml_res_mem32(struct aml *a, uint32_t base, uint32_t size)
{
	uint8_t d[12] = {0x86, 9, 0, 1};

	put_le32(d + 4, base);
	put_le32(d + 8, size);
	put(a, d, sizeof(d));
}

/* 6.4.3.5.3: both ends fixed, positive decode */
void aml_res_bus(struct aml *a, uint16_t first, uint16_t last)
{
	uint8_t d[16] = {0x88, 13, 0, 2, 0x0c};

	put_le16(d + 8, first);
	put_le16(d + 10, last);
	put_le16(d + 14, (uint16_t)(last - first + 1));
	put(a, d, sizeof(d));
}

/* 6.4.3.5.2: the same; read and write, not cacheable */
void aml_res_window32(struct aml *a, uint32_t base, uint32_t size)
{
	uint8_t d[26] = {0x87, 23, 0, 0, 0x0c, 1};

	put_le32(d + 10, base);
	put_le32(d + 14, base + (size - 1));
	put_le32(d + 22, size);
	put(a, d, sizeof(d));
}

/* 6.4.3.6: consumer (bit 0), edge (bit 1), active high; an ISA descriptor would need a PIC */
void aml_res_irq(struct aml *a, uint32_t gsi, int shared)
{
	uint8_t d[9] = {0x89, 6, 0, (uint8_t)(0x03 | (shared ? 0x08 : 0)), 1};

	put_le32(d + 5, gsi);
	put(a, d, sizeof(d));
}
