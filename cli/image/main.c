// SPDX-License-Identifier: MIT
// kvick image: makes, describes, checks, copies and changes images of disks.
#include "base/log.h"
#include "base/loop.h"
#include "base/output.h"
#include "base/util.h"
#include "blk/decompress_here.h"
#include "blk/engine.h"
#include "blk/qcow2.h"
#include "blk/vmdk.h"
#include "cli/image/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CREATE = 1 << 0,
	INFO = 1 << 1,
	CHECK = 1 << 2,
	CONVERT = 1 << 3,
	RESIZE = 1 << 4,
	MAP = 1 << 5,
	COMMIT = 1 << 6,
	REBASE = 1 << 7,
	SNAPSHOT = 1 << 8,
	ALL = (1 << 9) - 1,
};

struct command {
	const char *name;
	unsigned bit;
	unsigned least, most; /* words */
	int (*run)(struct tool *t);
	const char *words;
	const char *help;
};

static const struct command commands[] = {
	{"create", CREATE, 1, 1, image_create, "FILE", "make an empty image"},
	{"info", INFO, 1, 1, image_info, "FILE", "say what an image is"},
	{"check", CHECK, 1, 1, image_check, "FILE", "look for errors in an image, and repair them"},
	{"convert", CONVERT, 2, 2, image_convert, "FROM TO", "copy an image to another format"},
	{"resize", RESIZE, 2, 2, image_resize, "FILE [+|-]SIZE", "give an image another size"},
	{"map", MAP, 1, 1, image_map, "FILE", "list what is data and what reads as zeroes"},
	{"commit", COMMIT, 1, 1, image_commit, "FILE",
		"write what an image has into its backing file"},
	{"rebase", REBASE, 1, 1, image_rebase, "FILE", "give an image another backing file"},
	{"snapshot", SNAPSHOT, 2, 3, image_snapshot, "list|create|apply|delete FILE [NAME]",
		"keep and restore states within a qcow2 image"},
};

static const char *const compression_names[] = {"none", "zlib", "zstd", NULL};

#define AT(member) .offset = offsetof(struct image_options, member)
#define FLAG(member) AT(member), .type = FIELD_FLAG
#define FORMAT(member) AT(member), .type = FIELD_ENUM, .names = image_format_names

static const struct field table[] = {
	{"format", "FORMAT", "the image's", FORMAT(format), .commands = ALL & ~CONVERT,
		.fallback = "auto", .letter = 'f'},
	{"from", "FORMAT", "what FROM is", FORMAT(from), .commands = CONVERT, .fallback = "auto",
		.letter = 'f'},
	{"to", "FORMAT", "what TO is to be", FORMAT(to), .commands = CONVERT, .fallback = "raw",
		.letter = 't'},
	{"size", "SIZE", "of the disk; by default the backing file's", AT(size), .type = FIELD_SIZE,
		.commands = CREATE, .letter = 's'},
	{"backing", "FILE", "the backing file, named as the image is to name it", AT(backing),
		.type = FIELD_STRING, .commands = CREATE | REBASE, .letter = 'b'},
	{"backing-format", "FORMAT", "the backing file's", FORMAT(backing_format),
		.commands = CREATE | REBASE, .fallback = "auto", .letter = 'F'},
	{"cluster-size", "SIZE", "of qcow2: what is allocated at once, 512B to 2M",
		AT(cluster_size), .type = FIELD_SIZE, .min = 512, .max = MIB(2), .fallback = "64K",
		.commands = CREATE | CONVERT},
	{"compress", "METHOD", "compress what is written to a qcow2 image", AT(compress),
		.type = FIELD_ENUM, .names = compression_names, .fallback = "none",
		.commands = CONVERT, .letter = 'c'},
	{"chain", NULL, "of the backing files too", FLAG(chain), .commands = INFO},
	{"repair", NULL, "repair what is found", FLAG(repair), .commands = CHECK, .letter = 'r'},
	{"shrink", NULL, "make it smaller: what is cut off is lost", FLAG(shrink),
		.commands = RESIZE},
	{"unsafe", NULL, "only change the name: the new file has the same data", FLAG(force),
		.commands = REBASE, .letter = 'u'},
	{"no-sync", NULL, "do not wait until TO is on its medium", FLAG(no_sync),
		.commands = CONVERT},
	{"trust-backing", NULL, "use the other files that the image names", FLAG(trust),
		.commands = ALL},
	{"json", NULL, "write JSON", FLAG(json), .commands = ALL},
	{"help", NULL, "this text", FLAG(help), .commands = ALL, .letter = 'h'},
	{"words", "WORDS", "files", AT(words), .type = FIELD_LIST, .commands = ALL | FIELD_NO_ARGS},
};

static int failed(void)
{
	log_error("%s", last_error());
	return STATUS_FAILED;
}

static int help(FILE *out)
{
	fputs("usage: kvick image COMMAND [OPTIONS] FILE...\n\n", out);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-14s%s\n", commands[i].name, commands[i].help);
	fputs("\nkvick image COMMAND --help explains a command.\n", out);
	return STATUS_OK;
}

static const struct command *find(const char *name)
{
	const char *names[ARRAY_SIZE(commands) + 1];
	const char *near;

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		names[i] = commands[i].name;
		if (!strcmp(name, names[i]))
			return &commands[i];
	}
	names[ARRAY_SIZE(commands)] = NULL;
	near = nearest_name(name, names);
	if (near)
		fail(EINVAL, "image: no command \"%s\"; did you mean %s?", name, near);
	else
		fail(EINVAL, "image: no command \"%s\"; see kvick image --help", name);
	return NULL;
}

static int start(struct tool *t)
{
	int rc = loop_create(&t->loop, "image");

	qcow2_use_tools();
	vmdk_use_tools();
	rc = rc ? rc : engine_create(&t->engine, t->loop, ENGINE_WORKERS);
	return rc ? rc : decompress_here_create(&t->decompressor);
}

static int run(const struct command *c, const struct image_options *o)
{
	struct tool t = {.o = o};
	int rc;

	if (o->words.count < c->least || o->words.count > c->most)
		return fail(EINVAL, "usage: kvick image %s [OPTIONS] %s", c->name, c->words);
	rc = start(&t);
	rc = rc ? rc : c->run(&t);
	decompress_here_destroy(t.decompressor);
	engine_destroy(t.engine);
	loop_destroy(t.loop);
	return rc;
}

static int explain(const struct command *c, const struct fields *f)
{
	printf("usage: kvick image %s [OPTIONS] %s\n\nTo %s.\n\n", c->name, c->words, c->help);
	fields_print_help(f, stdout);
	return 0;
}

/* A size that is to be taken off looks like an option. */
static void save_minus(const struct command *c, int argc, char **argv, char **minus)
{
	*minus = NULL;
	if (c->bit == RESIZE && argc > 1 && argv[argc - 1][0] == '-' && argv[argc - 1][1] >= '0' &&
		argv[argc - 1][1] <= '9')
		*minus = argv[argc - 1];
}

static int call(const struct command *c, int argc, char **argv)
{
	struct image_options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = c->bit, .values = &o};
	char *minus;
	int rc;

	save_minus(c, argc, argv, &minus);
	rc = fields_parse_words(&f, "words", minus ? argc - 1 : argc, argv);
	if (!rc && minus)
		rc = field_set(&f, field_find(&f, "words"), minus, "");
	if (!rc)
		rc = o.help ? explain(c, &f) : run(c, &o);
	fields_finish(&f);
	return rc < 0 ? failed() : rc;
}

static int run_word(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		help(stderr);
		return STATUS_FAILED;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return help(stdout);
	c = find(argv[1]);
	return c ? call(c, argc - 1, argv + 1) : failed();
}

int main(int argc, char **argv)
{
	int status;

	output_begin();
	status = run_word(argc, argv);
	return output_end() < 0 ? failed() : status;
}
