// SPDX-License-Identifier: MIT
// A descriptor: lines of "key=value", of extents and of comments (Virtual Disk Format 5.0, "The
// Descriptor File").
#include "blk/vmdk_parts.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

#define NO_PARENT UINT32_MAX
#define SIZE_MAX_SECTORS (1ull << 53)

struct text {
	struct vmdk_info *out;
	const char *name;
	const char *start;
	bool embedded;
};

/* ---- words ---- */

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static char *skip_blanks(char *p)
{
	while (blank(*p))
		p++;
	return p;
}

/* The next word, or what is in quotes, made a string; *p goes past it. NULL: there is none. */
static char *take(char **p)
{
	char *word = skip_blanks(*p), *end = word;

	if (*word == '"') {
		end = strchr(++word, '"');
		if (!end)
			return NULL;
	} else {
		while (*end && !blank(*end))
			end++;
		if (end == word)
			return NULL;
	}
	*p = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

static bool number(const char *word, int base, uint64_t *out)
{
	char *end;

	if (!word || !*word ||
		strspn(word, base == 10 ? "0123456789" : "0123456789abcdefABCDEF") != strlen(word))
		return false;
	errno = 0;
	*out = strtoull(word, &end, base);
	return !errno;
}

/* ---- extents ---- */

static int kind_of(const char *word, struct vmdk_extent *e)
{
	static const char *const names[] = {
		[VMDK_FLAT] = "FLAT", [VMDK_SPARSE] = "SPARSE", [VMDK_ZERO] = "ZERO"};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (word && strcmp(word, names[i]) == 0) {
			e->kind = (enum vmdk_extent_kind)i;
			return 0;
		}
	return fail(ENOTSUP, "extents of kind %s are not supported: FLAT, SPARSE and ZERO are",
		word ? word : "\"\"");
}

static int file_of(char **p, struct vmdk_extent *e)
{
	char *name = take(p), *at;
	uint64_t sector = 0;

	if (!name || !*name || strlen(name) >= sizeof(e->name))
		return fail(EINVAL, "an extent's file has 1 to %zu characters in quotes",
			sizeof(e->name) - 1);
	memcpy(e->name, name, strlen(name) + 1);
	at = take(p);
	if (e->kind == VMDK_FLAT && (!number(at, 10, &sector) || sector > SIZE_MAX_SECTORS))
		return fail(EINVAL, "no offset of a FLAT extent in its file, in sectors");
	if (take(p) || (at && e->kind != VMDK_FLAT))
		return fail(EINVAL, "more than an extent has");
	e->at = sector * BLK_SECTOR;
	return 0;
}

static int take_extent(struct text *t, const char *access, char *p)
{
	struct vmdk_info *out = t->out;
	struct vmdk_extent *e = &out->extent[out->count];
	uint64_t sectors;
	int rc;

	if (out->count == VMDK_EXTENTS_MAX)
		return fail(EFBIG, "more than %u extents", VMDK_EXTENTS_MAX);
	if (strcmp(access, "NOACCESS") == 0)
		return fail(ENOTSUP, "an extent that may not be accessed (NOACCESS)");
	e->read_only = strcmp(access, "RDONLY") == 0;
	if (!number(take(&p), 10, &sectors) || !sectors ||
		sectors > SIZE_MAX_SECTORS - out->size / BLK_SECTOR)
		return fail(EINVAL, "no size of an extent in sectors, or too large a one");
	rc = kind_of(take(&p), e);
	if (!rc && e->kind != VMDK_ZERO)
		rc = file_of(&p, e);
	e->size = sectors * BLK_SECTOR;
	out->size += e->size;
	out->count++;
	return rc;
}

/* ---- keys ---- */

static int take_version(struct text *t, char *value)
{
	uint64_t v;

	if (!number(value, 10, &v) || !v || v > 3)
		return fail(ENOTSUP, "version=%s, not 1 to 3", value);
	return 0;
}

static int take_cid(struct text *t, char *value)
{
	uint64_t v;

	if (!number(value, 16, &v) || strlen(value) > 8)
		return fail(EINVAL, "CID=%s, not 1 to 8 hexadecimal digits", value);
	t->out->cid = (uint32_t)v;
	t->out->cid_at = (uint64_t)(value - t->start);
	t->out->cid_digits = (unsigned)strlen(value);
	return 0;
}

static int take_parent(struct text *t, char *value)
{
	uint64_t v;

	if (!number(value, 16, &v))
		return fail(EINVAL, "parentCID=%s, not hexadecimal", value);
	if (v != NO_PARENT)
		return fail(ENOTSUP,
			"parentCID=%s: it is a snapshot over another image, which is not supported",
			value);
	return 0;
}

static int take_parent_name(struct text *t, char *value)
{
	return fail(ENOTSUP, "parentFileNameHint: it is a snapshot over %s, which is not supported",
		value);
}

static int take_type(struct text *t, char *value)
{
	static const char *const types[] = {"monolithicSparse", "streamOptimized", "monolithicFlat",
		"twoGbMaxExtentFlat", "twoGbMaxExtentSparse"};
	unsigned n = t->embedded ? 2 : ARRAY_SIZE(types);

	for (unsigned i = 0; i < n; i++)
		if (strcmp(value, types[i]) == 0) {
			memcpy(t->out->type, value, strlen(value) + 1);
			return 0;
		}
	return fail(ENOTSUP, "createType=\"%s\" is not supported%s", value,
		t->embedded ? " in a sparse extent" : "");
}

static int take_key(struct text *t, const char *key, char *value)
{
	static const struct {
		const char *key;
		int (*take)(struct text *t, char *value);
	} keys[] = {
		{"version", take_version},
		{"CID", take_cid},
		{"parentCID", take_parent},
		{"createType", take_type},
		{"parentFileNameHint", take_parent_name},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(key, keys[i].key) == 0)
			return keys[i].take(t, value);
	return 0;
}

/* ---- lines ---- */

static int take_line(struct text *t, char *line)
{
	char *p = skip_blanks(line), *equals, *word, *value;

	if (!*p || *p == '#')
		return 0;
	equals = strchr(p, '=');
	if (strncmp(p, "RW ", 3) == 0 || strncmp(p, "RDONLY ", 7) == 0 ||
		strncmp(p, "NOACCESS ", 9) == 0) {
		word = take(&p);
		return take_extent(t, word, p);
	}
	if (!equals)
		return fail(EINVAL, "is no extent, and has no \"=\"");
	*equals++ = '\0';
	word = take(&p);
	value = take(&equals);
	if (!word || !value)
		return fail(EINVAL, "no key, no value, or no end of a quotation");
	return take_key(t, word, value);
}

static int check(const struct text *t)
{
	struct vmdk_info *out = t->out;
	const char *lacks = NULL;

	if (!out->count)
		lacks = "extent";
	if (!*out->type)
		lacks = "createType";
	if (!out->cid_digits)
		lacks = "CID";
	if (lacks)
		return fail(EINVAL, "disk %s: its descriptor has no %s", t->name, lacks);
	if (!t->embedded)
		return 0;
	if (out->count != 1 || out->extent[0].kind != VMDK_SPARSE)
		return fail(ENOTSUP, "disk %s: a descriptor in a sparse extent with other extents",
			t->name);
	out->extent[0].name[0] = '\0';
	return 0;
}

int vmdk_text_read(struct vmdk_info *out, char *text, const char *name, bool embedded)
{
	struct text t = {.out = out, .name = name, .start = text, .embedded = embedded};
	unsigned line = 0;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	while (!rc && text) {
		char *end = strchr(text, '\n');

		if (end)
			*end++ = '\0';
		line++;
		rc = take_line(&t, text);
		text = end;
	}
	if (rc)
		return fail_context(rc, "disk %s: line %u of the descriptor", name, line);
	return check(&t);
}
