// SPDX-License-Identifier: MIT
// Fields in JSON: read through jansson, written with stdio alone so that a start costs no tree.
#include "base/field.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

/* The text that a JSON scalar would be on a command line, in `buf` or borrowed from it; or NULL. */
static const char *scalar_text(const json_t *v, char *buf, size_t len)
{
	switch (json_typeof(v)) {
	case JSON_STRING:
		return strlen(json_string_value(v)) == json_string_length(v) ? json_string_value(v)
									     : NULL;
	case JSON_INTEGER:
		snprintf(buf, len, "%lld", (long long)json_integer_value(v));
		return buf;
	case JSON_REAL:
		snprintf(buf, len, "%.9f", json_real_value(v));
		return buf;
	case JSON_TRUE:
		return "yes";
	case JSON_FALSE:
		return "no";
	default:
		return NULL;
	}
}

static int set_scalar(struct fields *f, const struct field *d, const json_t *v, const char *prefix)
{
	char buf[352]; /* the longest real in decimal is 309 digits */
	const char *text = scalar_text(v, buf, sizeof(buf));

	if (!text)
		return fail(
			EINVAL, "%s%s: must be a string, a number or a boolean", prefix, d->name);
	if (d->type == FIELD_STRING && !json_is_string(v))
		return fail(EINVAL, "%s%s: must be a string", prefix, d->name);
	return field_set(f, d, text, prefix);
}

static int set_member(struct fields *f, const char *key, const json_t *v, const char *prefix)
{
	const struct field *d = field_find(f, key);
	size_t i;
	json_t *item;

	if (!d || (d->commands & FIELD_NO_JSON))
		return fail(EINVAL, "%sunknown field \"%s\"", prefix, key);
	if (d->type != FIELD_LIST)
		return set_scalar(f, d, v, prefix);
	if (!json_is_array(v))
		return fail(EINVAL, "%s%s: must be an array of strings", prefix, d->name);
	json_array_foreach(v, i, item)
	{
		int rc = set_scalar(f, d, item, prefix);

		if (rc < 0)
			return rc;
	}
	return 0;
}

int fields_set_json(struct fields *f, const json_t *object, const char *prefix)
{
	const char *key;
	json_t *v;
	int rc = 0;

	json_object_foreach((json_t *)(uintptr_t)object, key, v)
	{
		rc = set_member(f, key, v, prefix);
		if (rc < 0)
			break;
	}
	return rc;
}

int fields_load_json(struct fields *f, const char *text, size_t len, const char *name)
{
	char prefix[256];
	json_error_t err;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);
	int rc;

	if (!root)
		return fail(EINVAL, "%s: line %d: %s", name, err.line, err.text);
	snprintf(prefix, sizeof(prefix), "%s: ", name);
	if (json_is_object(root))
		rc = fields_set_json(f, root, prefix);
	else
		rc = fail(EINVAL, "%s: must hold one JSON object", name);
	json_decref(root);
	return rc;
}

/* Bytes of the UTF-8 character at s, or 0 when it is none (RFC 3629). */
static unsigned utf8_length(const unsigned char *s)
{
	unsigned n = s[0] < 0x80                   ? 1
		     : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		     : (s[0] & 0xf0) == 0xe0       ? 3
		     : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						   : 0;

	for (unsigned i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
		return 0;
	if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void json_put_string(FILE *out, const char *s)
{
	fputc('"', out);
	while (*s) {
		unsigned char c = (unsigned char)*s;
		unsigned n = utf8_length((const unsigned char *)s);

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else if (!n)
			fputs("\\ufffd", out);
		else
			fwrite(s, 1, n, out);
		s += n ? n : 1;
	}
	fputc('"', out);
}

static void put_list(FILE *out, const struct field_list *l)
{
	fputc('[', out);
	for (unsigned i = 0; i < l->count; i++) {
		if (i)
			fputs(", ", out);
		json_put_string(out, l->items[i]);
	}
	fputc(']', out);
}

/* Nanoseconds as seconds, with no more digits than it takes. */
static void put_seconds(FILE *out, uint64_t ns)
{
	unsigned long long whole = ns / NSEC_PER_SEC, part = ns % NSEC_PER_SEC;
	int digits = 9;

	for (; part && part % 10 == 0; part /= 10)
		digits--;
	if (part)
		fprintf(out, "%llu.%0*llu", whole, digits, part);
	else
		fprintf(out, "%llu", whole);
}

static void put_value(FILE *out, const struct field *d, const void *at)
{
	char buf[32];

	switch (d->type) {
	case FIELD_STRING:
		json_put_string(out, *(char *const *)at);
		break;
	case FIELD_LIST:
		put_list(out, at);
		break;
	case FIELD_FLAG:
		fputs(*(const bool *)at ? "true" : "false", out);
		break;
	case FIELD_U32:
		fprintf(out, "%u", *(const uint32_t *)at);
		break;
	case FIELD_SIZE:
		fprintf(out, "\"%s\"", format_size(*(const uint64_t *)at, buf, sizeof(buf)));
		break;
	case FIELD_SECONDS:
		put_seconds(out, *(const uint64_t *)at);
		break;
	case FIELD_ENUM:
		json_put_string(out, d->names[*(const unsigned *)at]);
		break;
	}
}

static bool is_zero(const struct field *d, const void *at)
{
	switch (d->type) {
	case FIELD_STRING:
		return !*(char *const *)at;
	case FIELD_LIST:
		return !((const struct field_list *)at)->count;
	case FIELD_FLAG:
		return !*(const bool *)at;
	case FIELD_U32:
	case FIELD_ENUM:
		return !*(const uint32_t *)at;
	default:
		return !*(const uint64_t *)at;
	}
}

void fields_save_json(const struct fields *f, FILE *out)
{
	bool first = true;

	for (unsigned i = 0; i < f->count; i++) {
		const struct field *d = &f->table[i];
		const void *at = (const char *)f->values + d->offset;

		if (!(d->commands & f->command) || (d->commands & FIELD_NO_JSON))
			continue;
		/* A zero that is not the default must be said, or it would read back as the
		 * default. */
		if (is_zero(d, at) && (!d->fallback || d->type == FIELD_STRING))
			continue;
		fprintf(out, "%s\"%s\": ", first ? "" : ", ", d->name);
		put_value(out, d, at);
		first = false;
	}
}
