// SPDX-License-Identifier: MIT
// Fields: the text of each type, and defaults.
#include "base/field.h"
#include "base/log.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* Of a digit in base 10 or 16; -1: it is none. */
static int digit(char c, unsigned base)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (base == 16 && c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return base == 16 && c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Digits from *p on, which is moved behind them. -EINVAL for none, -ERANGE for too many. */
static int parse_digits(const char **p, unsigned base, uint64_t *out)
{
	const char *s = *p;
	uint64_t v = 0;

	if (digit(*s, base) < 0)
		return -EINVAL;
	for (; digit(*s, base) >= 0; s++) {
		if (__builtin_mul_overflow(v, base, &v) ||
			__builtin_add_overflow(v, (uint64_t)digit(*s, base), &v))
			return -ERANGE;
	}
	*p = s;
	*out = v;
	return 0;
}

int parse_u32(const char *text, uint32_t *out)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	uint64_t v;
	int rc;

	text += hex ? 2 : 0;
	rc = parse_digits(&text, hex ? 16 : 10, &v);
	if (rc < 0)
		return rc;
	if (*text)
		return -EINVAL;
	if (v > UINT32_MAX)
		return -ERANGE;
	*out = (uint32_t)v;
	return 0;
}

static int size_shift(const char *suffix)
{
	static const char letters[] = "BKMGT";
	char letter = *suffix >= 'a' ? (char)(*suffix - 'a' + 'A') : *suffix;
	const char *at;

	if (!letter)
		return 20;
	at = strchr(letters, letter);
	if (!at)
		return -1;
	if (suffix[1] && (letter == 'B' || strcmp(suffix + 1, "iB")))
		return -1;
	return 10 * (int)(at - letters);
}

int parse_size(const char *text, uint64_t *out)
{
	uint64_t v;
	int rc = parse_digits(&text, 10, &v);
	int shift;

	if (rc < 0)
		return rc;
	shift = size_shift(text);
	if (shift < 0)
		return -EINVAL;
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*out = v << shift;
	return 0;
}

int parse_seconds(const char *text, uint64_t *ns)
{
	uint64_t whole, unit = NSEC_PER_SEC, part = 0;
	int rc = parse_digits(&text, 10, &whole);

	if (rc < 0)
		return rc;
	if (*text == '.')
		text++;
	for (; *text >= '0' && *text <= '9' && unit > 1; text++) {
		unit /= 10;
		part += (uint64_t)(*text - '0') * unit;
	}
	if (*text)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, NSEC_PER_SEC, &whole) ||
		__builtin_add_overflow(whole, part, ns))
		return -ERANGE;
	return 0;
}

const char *format_size(uint64_t bytes, char *buf, size_t len)
{
	static const char letters[] = "BKMGT";
	unsigned i = 0;

	while (bytes && !(bytes & 1023) && i < 4) {
		bytes >>= 10;
		i++;
	}
	snprintf(buf, len, "%llu%c", (unsigned long long)bytes, letters[i]);
	return buf;
}

static void format_number(const struct field *d, uint64_t v, char *buf, size_t len)
{
	if (d->type == FIELD_SIZE)
		format_size(v, buf, len);
	else if (d->type == FIELD_SECONDS)
		snprintf(buf, len, "%.10g", (double)v / 1e9);
	else
		snprintf(buf, len, "%llu", (unsigned long long)v);
}

static const char *const type_wants[] = {
	[FIELD_U32] = "a number",
	[FIELD_SIZE] = "a size: MiB, or with a suffix B, K, M, G or T",
	[FIELD_SECONDS] = "seconds, such as 2 or 0.5",
};

static int bad_number(const struct field *d, int rc, const char *text, const char *prefix)
{
	char min[32], max[32];

	if (rc == -EINVAL)
		return fail(
			EINVAL, "%s%s %s: must be %s", prefix, d->name, text, type_wants[d->type]);
	if (!d->max)
		return fail(ERANGE, "%s%s %s: too large", prefix, d->name, text);
	format_number(d, d->min, min, sizeof(min));
	format_number(d, d->max, max, sizeof(max));
	return fail(ERANGE, "%s%s %s: must be %s to %s", prefix, d->name, text, min, max);
}

static int parse_number(const struct field *d, const char *text, uint64_t *v)
{
	uint32_t small = 0;
	int rc;

	if (d->type == FIELD_SIZE)
		return parse_size(text, v);
	if (d->type == FIELD_SECONDS)
		return parse_seconds(text, v);
	rc = parse_u32(text, &small);
	*v = small;
	return rc;
}

static int set_number(const struct field *d, void *at, const char *text, const char *prefix)
{
	uint64_t v = 0;
	int rc = parse_number(d, text, &v);

	if (!rc && d->max && (v < d->min || v > d->max))
		rc = -ERANGE;
	if (rc < 0)
		return bad_number(d, rc, text, prefix);
	if (d->type == FIELD_U32)
		*(uint32_t *)at = (uint32_t)v;
	else
		*(uint64_t *)at = v;
	return 0;
}

static int set_string(void *at, const char *text)
{
	char **s = at;
	char *copy = strdup(text);

	if (!copy)
		return fail(ENOMEM, "out of memory");
	free(*s);
	*s = copy;
	return 0;
}

static int append(struct field_list *l, const char *text)
{
	char **items = realloc(l->items, (l->count + 2) * sizeof(*items));
	char *copy;

	if (!items)
		return fail(ENOMEM, "out of memory");
	l->items = items;
	l->items[l->count] = NULL;
	copy = strdup(text);
	if (!copy)
		return fail(ENOMEM, "out of memory");
	items[l->count++] = copy;
	items[l->count] = NULL;
	return 0;
}

static int set_flag(const struct field *d, bool *at, const char *text, const char *prefix)
{
	static const char *const words[] = {"no", "yes", "false", "true", "0", "1", "off", "on"};

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcmp(text, words[i])) {
			*at = i & 1;
			return 0;
		}
	}
	return fail(EINVAL, "%s%s %s: must be yes or no", prefix, d->name, text);
}

static int set_enum(const struct field *d, unsigned *at, const char *text, const char *prefix)
{
	char all[128] = "";
	size_t used = 0;

	for (unsigned i = 0; d->names[i]; i++) {
		if (!strcmp(text, d->names[i])) {
			*at = i;
			return 0;
		}
		used += (size_t)snprintf(
			all + used, sizeof(all) - used, "%s%s", i ? ", " : "", d->names[i]);
		assert(used < sizeof(all));
	}
	return fail(EINVAL, "%s%s %s: must be one of %s", prefix, d->name, text, all);
}

static int set_value(const struct field *d, void *at, const char *text, const char *prefix)
{
	switch (d->type) {
	case FIELD_STRING:
		return set_string(at, text);
	case FIELD_LIST:
		return append(at, text);
	case FIELD_FLAG:
		return set_flag(d, at, text, prefix);
	case FIELD_ENUM:
		return set_enum(d, at, text, prefix);
	default:
		return set_number(d, at, text, prefix);
	}
}

int field_set(struct fields *f, const struct field *d, const char *text, const char *prefix)
{
	int rc = set_value(d, (char *)f->values + d->offset, text, prefix);

	if (!rc)
		f->given |= 1ull << (d - f->table);
	return rc;
}

const struct field *field_find(const struct fields *f, const char *name)
{
	for (unsigned i = 0; i < f->count; i++) {
		if ((f->table[i].commands & f->command) && !strcmp(f->table[i].name, name))
			return &f->table[i];
	}
	return NULL;
}

bool field_given(const struct fields *f, const char *name)
{
	const struct field *d = field_find(f, name);

	return d && (f->given & 1ull << (d - f->table));
}

int fields_check_mandatory(const struct fields *f, const char *prefix)
{
	for (unsigned i = 0; i < f->count; i++) {
		const struct field *d = &f->table[i];

		if ((d->commands & f->command) && (d->commands & FIELD_MANDATORY) &&
			!(f->given & 1ull << i))
			return fail(EINVAL, "%s%s: is missing", prefix, d->name);
	}
	return 0;
}

int fields_init(struct fields *f)
{
	assert(f->count <= 64);
	f->given = 0;
	for (unsigned i = 0; i < f->count; i++) {
		const struct field *d = &f->table[i];

		if (!d->fallback || !(d->commands & f->command))
			continue;
		if (set_value(d, (char *)f->values + d->offset, d->fallback, "default of ") < 0)
			return -ENOMEM;
	}
	return 0;
}

static void free_list(struct field_list *l)
{
	for (unsigned i = 0; i < l->count; i++)
		free(l->items[i]);
	free(l->items);
	*l = (struct field_list){0};
}

void fields_finish(struct fields *f)
{
	for (unsigned i = 0; i < f->count; i++) {
		void *at = (char *)f->values + f->table[i].offset;

		if (f->table[i].type == FIELD_LIST) {
			free_list(at);
		} else if (f->table[i].type == FIELD_STRING) {
			free(*(char **)at);
			*(char **)at = NULL;
		}
	}
}
