// SPDX-License-Identifier: MIT
// Tables of fields: one row says how a value is named, typed, bounded, defaulted and explained, and
// the command line, JSON and --help are all read from it. Text is parsed by one function whatever
// it came from, so that `--memory 1G` and {"memory": "1G"} cannot mean different things.
#ifndef BASE_FIELD_H
#define BASE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_t;

/* What the table's struct holds at `offset`, and what its text looks like. */
enum field_type {
	FIELD_STRING,  /* char *, malloc'd, NULL when not given */
	FIELD_LIST,    /* struct field_list; each occurrence appends */
	FIELD_FLAG,    /* bool; takes no argument, or =yes/=no */
	FIELD_U32,     /* uint32_t, decimal */
	FIELD_SIZE,    /* uint64_t bytes; MiB without a suffix, else B K M G T, binary */
	FIELD_SECONDS, /* uint64_t nanoseconds; seconds with a fraction of up to 9 digits */
	FIELD_ENUM,    /* unsigned, the index in `names` */
};

struct field_list {
	char **items; /* NULL-terminated once there is one; NULL before */
	unsigned count;
};

/* In `commands`: a bit for each command that has the field, and these. */
#define FIELD_MANDATORY (1u << 29) /* see fields_check_mandatory */
#define FIELD_NO_ARGS (1u << 30)   /* JSON only */
#define FIELD_NO_JSON (1u << 31)   /* command line only */

struct field {
	const char *name;         /* the long option and the JSON key */
	const char *arg;          /* what --help calls the argument; NULL for a flag */
	const char *help;         /* one sentence without its full stop */
	const char *fallback;     /* the default as text; NULL: zero */
	const char *const *names; /* FIELD_ENUM: NULL-terminated */
	uint64_t min, max;        /* numbers, in the unit of the struct; max 0: no bounds */
	size_t offset;
	enum field_type type;
	unsigned commands;
	char letter; /* the short option; 0: none */
};

/* Rows `table`, at most 64, applied to a struct. Several rows may have one name for several
 * commands. */
struct fields {
	const struct field *table;
	unsigned count;
	unsigned command; /* one bit: rows without it do not exist */
	void *values;     /* borrowed */
	uint64_t given;   /* a bit a row that was set from outside */
};

/* Sets every field to its default. `values` is zeroed memory. 0 or -ENOMEM. */
int fields_init(struct fields *f);

/* Frees strings and lists and zeroes them. */
void fields_finish(struct fields *f);

/* Whether it was set by fields_parse_args or fields_load_json. */
bool field_given(const struct fields *f, const char *name);

/* Sets one field from text. 0, or -errno with "PREFIXname text: must be ..." as the message. */
int field_set(struct fields *f, const struct field *d, const char *text, const char *prefix);

/* The row of that name for this command, or NULL. */
const struct field *field_find(const struct fields *f, const char *name);

/*
 * Takes options from the front of argv: --opt V, --opt=V, -o V, -oV. Stops at the first word that
 * is not an option, or after "--". Returns how many words it took, or -errno with a message that
 * names the option and, for one that is unknown, the nearest.
 */
int fields_parse_args(struct fields *f, int argc, char **argv);

/*
 * Sets every field to its default, then takes all that follows argv[0]: options, and words in any
 * order with them, which go into the list field `list`; where there is none of that name a word is
 * an error. After "--" there are only words. 0 or -errno.
 */
int fields_parse_words(struct fields *f, const char *list, int argc, char **argv);

/* One line or two an option, with its default. */
void fields_print_help(const struct fields *f, FILE *out);

/*
 * Sets fields from the text of a JSON object, `name` being the file's for messages. Numbers and
 * booleans are taken as the text they would be on a command line. 0 or -errno.
 */
int fields_load_json(struct fields *f, const char *text, size_t len, const char *name);

/*
 * As fields_load_json, of an object that is parsed already; `prefix` is before each message. An
 * object that is NULL sets nothing.
 */
int fields_set_json(struct fields *f, const struct json_t *object, const char *prefix);

/* -EINVAL, naming the first, where a mandatory field was not given. */
int fields_check_mandatory(const struct fields *f, const char *prefix);

/* Writes the fields that are not at zero as members of a JSON object, without its braces. */
void fields_save_json(const struct fields *f, FILE *out);

/* Writes `s` as a JSON string, quotes included; what is not UTF-8 becomes U+FFFD. */
void json_put_string(FILE *out, const char *s);

/* Parses one number of the types above, parse_u32 also one in hexadecimal, "0x1f". 0, -EINVAL (not
 * one) or -ERANGE (does not fit). */
int parse_u32(const char *text, uint32_t *out);
int parse_size(const char *text, uint64_t *out);
int parse_seconds(const char *text, uint64_t *ns);

/* The shortest text that parse_size reads back: "512M". `buf` is at least 24 bytes; returned. */
const char *format_size(uint64_t bytes, char *buf, size_t len);

/* The entry of `names` (NULL-terminated) that `word` is probably meant to be, or NULL. */
const char *nearest_name(const char *word, const char *const *names);

#endif
