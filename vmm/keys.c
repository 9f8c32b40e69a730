// SPDX-License-Identifier: MIT
// Words of the form "key=value,flag,key=value", taken by a table of fields.
#include "vmm/keys.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Cuts the next key off *at, in place: up to a comma that is not doubled; doubled ones become one.
 */
static char *next_key(char **at)
{
	char *key = *at, *to = key, *from = key;

	while (*from && (*from != ',' || from[1] == ',')) {
		from += *from == ',';
		*to++ = *from++;
	}
	*at = *from ? from + 1 : NULL;
	*to = '\0';
	return key;
}

/* The kinds of a set, by commas, into `text`; returned. Not the first, which is none; what is above
 * are no kinds. */
static const char *put_kinds(char *text, size_t size, const char *const *kinds, unsigned commands)
{
	size_t at = 0;

	*text = '\0';
	for (commands &= 0xfffe; commands && at < size; commands &= commands - 1)
		at += (size_t)snprintf(text + at, size - at, "%s%s", at ? ", " : "",
			kinds[__builtin_ctz(commands)]);
	return text;
}

static int unknown(const struct fields *f, const char *const *kinds, const char *key)
{
	unsigned others = 0;
	char text[64];

	for (unsigned i = 0; kinds && i < f->count; i++)
		if (!strcmp(f->table[i].name, key))
			others |= f->table[i].commands;
	if (others)
		return fail(EINVAL, "%s: is a key of %s only", key,
			put_kinds(text, sizeof(text), kinds, others));
	return fail(EINVAL, "unknown key \"%s\"; see kvick boot --help", key);
}

static int take_key(struct fields *f, const char *const *kinds, char *key)
{
	char *value = strchr(key, '=');
	const struct field *d;
	uint64_t bit;

	if (value)
		*value++ = '\0';
	d = field_find(f, key);
	if (!d)
		return unknown(f, kinds, key);
	bit = 1ull << (d - f->table);
	if (f->given & bit && d->type != FIELD_LIST)
		return fail(EINVAL, "%s: given twice", key);
	if (!value && d->type != FIELD_FLAG)
		return fail(EINVAL, "%s: needs a value, %s=%s", key, key, d->arg);
	f->given |= bit;
	return field_set(f, d, value ? value : "yes", "");
}

int keys_parse(struct fields *f, const char *const *kinds, const char *text)
{
	char *copy = strdup(text), *at = copy;
	int rc = copy ? 0 : fail(ENOMEM, "out of memory");

	while (!rc && at)
		rc = take_key(f, kinds, next_key(&at));
	free(copy);
	return rc;
}

void keys_print_help(const struct field *table, unsigned count, const char *const *kinds, FILE *out)
{
	char text[64];

	for (const struct field *f = table; f < table + count; f++) {
		fprintf(out, "    %s%s%s: %s", f->name, f->arg ? "=" : "", f->arg ? f->arg : "",
			f->help);
		for (unsigned n = 0; f->names && f->names[n]; n++)
			fprintf(out, "%s%s", n ? ", " : " (", f->names[n]);
		fputs(f->names ? ")" : "", out);
		if (kinds)
			fprintf(out, " [%s]", put_kinds(text, sizeof(text), kinds, f->commands));
		fputc('\n', out);
	}
}
