// SPDX-License-Identifier: MIT
// Fields on a command line, in --help, and what a mistyped one was meant to be.
#include "base/field.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>

/* The number of single-letter changes that make `b` of `a`; words longer than 31 are far apart. */
static unsigned distance(const char *a, const char *b)
{
	unsigned char row[32];
	size_t n = strlen(b);

	if (n >= sizeof(row) || strlen(a) >= sizeof(row))
		return 32;
	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned char)j;
	for (size_t i = 1; a[i - 1]; i++) {
		unsigned char corner = row[0];

		row[0] = (unsigned char)i;
		for (size_t j = 1; j <= n; j++) {
			unsigned char change = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			row[j] = MIN(change, MIN(row[j - 1], row[j]) + 1);
		}
	}
	return row[n];
}

const char *nearest_name(const char *word, const char *const *names)
{
	unsigned best = strlen(word) < 3 ? 2 : 3; /* two letters swapped are two changes */
	const char *found = NULL;

	for (; *names; names++) {
		unsigned d = strlen(word) > 2 && !strncmp(*names, word, strlen(word))
				     ? 1
				     : distance(word, *names);

		if (d < best) {
			best = d;
			found = *names;
		}
	}
	return found;
}

static bool on_command_line(const struct fields *f, const struct field *d)
{
	return (d->commands & f->command) && !(d->commands & FIELD_NO_ARGS);
}

static int unknown(const struct fields *f, const char *name)
{
	const char *names[65];
	const char *near;
	unsigned n = 0;

	for (unsigned i = 0; i < f->count; i++) {
		if (on_command_line(f, &f->table[i]))
			names[n++] = f->table[i].name;
	}
	names[n] = NULL;
	near = nearest_name(name, names);
	if (near)
		return fail(EINVAL, "unknown option --%s; did you mean --%s?", name, near);
	return fail(EINVAL, "unknown option --%s; see --help", name);
}

/* Takes the option that is argv[0]; `value` is what follows its "=" or NULL. Words taken, or
 * -errno. */
static int take(struct fields *f, const struct field *d, int argc, char **argv, const char *value)
{
	int rc;

	if (value || d->type == FIELD_FLAG) {
		rc = field_set(f, d, value ? value : "yes", "--");
		return rc < 0 ? rc : 1;
	}
	if (argc < 2)
		return fail(EINVAL, "--%s needs an argument: %s", d->name, d->arg);
	rc = field_set(f, d, argv[1], "--");
	return rc < 0 ? rc : 2;
}

static int take_long(struct fields *f, int argc, char **argv)
{
	const char *word = argv[0] + 2;
	const char *eq = strchr(word, '=');
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	char name[32];
	const struct field *d = NULL;

	if (len < sizeof(name)) {
		memcpy(name, word, len);
		name[len] = '\0';
		d = field_find(f, name);
	}
	if (!d || !on_command_line(f, d))
		return unknown(f, len < sizeof(name) ? name : word);
	return take(f, d, argc, argv, eq ? eq + 1 : NULL);
}

static int take_short(struct fields *f, int argc, char **argv)
{
	const char *word = argv[0] + 1;

	for (unsigned i = 0; i < f->count; i++) {
		const struct field *d = &f->table[i];

		if (d->letter != word[0] || !on_command_line(f, d))
			continue;
		if (d->type == FIELD_FLAG && word[1])
			break;
		return take(f, d, argc, argv, word[1] ? word + 1 : NULL);
	}
	return fail(EINVAL, "unknown option -%s; see --help", word);
}

int fields_parse_args(struct fields *f, int argc, char **argv)
{
	int i = 0;

	while (i < argc && argv[i][0] == '-' && argv[i][1]) {
		int n;

		if (!strcmp(argv[i], "--"))
			return i + 1;
		if (argv[i][1] == '-')
			n = take_long(f, argc - i, argv + i);
		else
			n = take_short(f, argc - i, argv + i);
		if (n < 0)
			return n;
		i += n;
	}
	return i;
}

int fields_parse_words(struct fields *f, const char *list, int argc, char **argv)
{
	const struct field *d = field_find(f, list);
	bool only_words = false;
	int rc = fields_init(f);

	for (int i = 1; !rc && i < argc; i++) {
		int n = only_words ? 0 : fields_parse_args(f, argc - i, argv + i);

		if (n < 0)
			return n;
		i += n;
		only_words |= n > 0 && !strcmp(argv[i - 1], "--");
		if (i < argc && !d)
			rc = fail(EINVAL, "unexpected argument \"%s\"; see --help", argv[i]);
		else if (i < argc)
			rc = field_set(f, d, argv[i], "");
	}
	return rc;
}

#define HELP_COLUMN 28

static void print_names(const struct field *d, FILE *out)
{
	for (unsigned i = 0; d->names[i]; i++)
		fprintf(out, "%s%s", i ? ", " : ": ", d->names[i]);
}

void fields_print_help(const struct fields *f, FILE *out)
{
	for (unsigned i = 0; i < f->count; i++) {
		const struct field *d = &f->table[i];
		char left[64] = "  ";
		size_t n = 2;

		if (!on_command_line(f, d))
			continue;
		if (d->letter)
			n += (size_t)snprintf(left + n, sizeof(left) - n, "-%c, ", d->letter);
		snprintf(left + n, sizeof(left) - n, "--%s%s%s", d->name, d->arg ? " " : "",
			d->arg ? d->arg : "");
		fprintf(out, "%-*s", HELP_COLUMN, left);
		if (strlen(left) >= HELP_COLUMN)
			fprintf(out, "\n%*s", HELP_COLUMN, "");
		fputs(d->help, out);
		if (d->names)
			print_names(d, out);
		if (d->fallback)
			fprintf(out, " (default %s)", d->fallback);
		fputc('\n', out);
	}
}
