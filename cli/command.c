// SPDX-License-Identifier: MIT
// The frame of a command about a device of a running VM: options, words and help.
#include "cli/command.h"

#include "base/log.h"
#include "base/util.h"
#include "cli/cli.h"

#include <errno.h>

#define ANY (COMMAND_ASKS | COMMAND_WAITS | COMMAND_SWITCHES)
#define AT(member) .offset = offsetof(struct command_options, member)

static const struct field table[] = {
	{"timeout", "SECONDS", "how long the guest may take to let go of it", AT(timeout_ns),
		.type = FIELD_SECONDS, .fallback = "30", .max = 1000000 * NSEC_PER_SEC,
		.commands = COMMAND_WAITS, .letter = 't'},
	{"switch", NULL, "the VM goes on with the copy", AT(takes_over), .type = FIELD_FLAG,
		.commands = COMMAND_SWITCHES},
	{"help", NULL, "this text", AT(help), .type = FIELD_FLAG, .commands = ANY, .letter = 'h'},
	{"words", "WORDS", "the VM and the device", AT(words), .type = FIELD_LIST,
		.commands = ANY | FIELD_NO_ARGS},
};

/* 0 or -errno. */
static int parse(const struct command *c, struct fields *f, int argc, char **argv)
{
	const struct command_options *o = f->values;
	int rc = fields_parse_words(f, "words", argc, argv);

	if (!rc && !o->help && (o->words.count < 2 || o->words.count > 2 + c->more))
		rc = fail(EINVAL, "%s", c->missing);
	return rc;
}

int command_run(const struct command *c, int argc, char **argv)
{
	struct command_options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = c->kind, .values = &o};
	int rc = parse(c, &f, argc, argv);

	if (!rc && o.help) {
		puts(c->usage);
		fields_print_help(&f, stdout);
		if (c->more_help)
			c->more_help(stdout);
	} else if (!rc && o.words.items) {
		rc = c->act(&o);
	}
	fields_finish(&f);
	return rc < 0 ? cli_failed() : STATUS_OK;
}
