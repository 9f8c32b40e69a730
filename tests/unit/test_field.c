// SPDX-License-Identifier: MIT
// Fields: each type's text, the command line, JSON both ways, and what is said about mistakes.
#include "tests/unit/test.h"

#include "base/field.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct values {
	char *text;
	struct field_list list;
	bool flag;
	uint32_t number;
	uint64_t size, seconds;
	unsigned kind;
	bool other;
};

static const char *const kinds[] = {"red", "green", NULL};

#define AT(m) .offset = offsetof(struct values, m)

static const struct field table[] = {
	{"text", "T", "a text", AT(text), .type = FIELD_STRING, .commands = 3, .letter = 't'},
	{"list", "L", "a list", AT(list), .type = FIELD_LIST, .commands = 3, .letter = 'l'},
	{"flag", NULL, "a flag", AT(flag), .type = FIELD_FLAG, .commands = 3, .letter = 'f'},
	{"cpus", "N", "a number", AT(number), .type = FIELD_U32, .fallback = "1", .min = 1,
		.max = 254, .commands = 3, .letter = 'c'},
	{"memory", "SIZE", "a size", AT(size), .type = FIELD_SIZE, .fallback = "128M",
		.min = MIB(1), .max = GIB(1024), .commands = 1},
	{"memory", "SIZE", "a size", AT(size), .type = FIELD_SIZE, .fallback = "512M",
		.min = MIB(1), .max = GIB(1024), .commands = 2},
	{"time", "SECONDS", "a time", AT(seconds), .type = FIELD_SECONDS, .fallback = "1.5",
		.commands = 1},
	{"kind", "KIND", "a kind", AT(kind), .type = FIELD_ENUM, .names = kinds,
		.fallback = "green", .commands = 3},
	{"other", NULL, "of the other command", AT(other), .type = FIELD_FLAG, .commands = 2},
	{"must", "M", "has to be given", AT(text), .type = FIELD_STRING,
		.commands = 4 | FIELD_MANDATORY},
	{"may", "M", "does not", AT(number), .type = FIELD_U32, .fallback = "3", .commands = 4},
};

struct fixture {
	struct values v;
	struct fields f;
};

static void start(struct fixture *x, unsigned command)
{
	memset(x, 0, sizeof(*x));
	x->f = (struct fields){
		.table = table, .count = ARRAY_SIZE(table), .command = command, .values = &x->v};
	assert_int_equal(fields_init(&x->f), 0);
}

#define PARSE(x, ...) parse(x, (const char *[]){__VA_ARGS__, NULL})

/* The parser changes no word; its type is main's. */
static int parse(struct fixture *x, const char *const *words)
{
	char *argv[32];
	int argc = 0;

	for (; words[argc]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc];
	return fields_parse_args(&x->f, argc, argv);
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
		int rc;
	} cases[] = {
		{"1", MIB(1), 0},
		{"512", MIB(512), 0},
		{"1B", 1, 0},
		{"4096b", 4096, 0},
		{"3K", 3072, 0},
		{"3k", 3072, 0},
		{"2M", MIB(2), 0},
		{"2MiB", MIB(2), 0},
		{"5G", GIB(5), 0},
		{"1T", GIB(1024), 0},
		{"16777215T", 16777215ull << 40, 0},
		{"16777216T", 0, -ERANGE},
		{"18446744073709551615B", UINT64_MAX, 0},
		{"18446744073709551616B", 0, -ERANGE},
		{"99999999999999999999", 0, -ERANGE},
		{"", 0, -EINVAL},
		{"M", 0, -EINVAL},
		{"-1", 0, -EINVAL},
		{"+1", 0, -EINVAL},
		{" 1", 0, -EINVAL},
		{"1 ", 0, -EINVAL},
		{"1.5G", 0, -EINVAL},
		{"0x10", 0, -EINVAL},
		{"1MB", 0, -EINVAL},
		{"1BiB", 0, -EINVAL},
		{"1Q", 0, -EINVAL},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t v = 0;

		assert_int_equal(parse_size(cases[i].text, &v), cases[i].rc);
		assert_int_equal(v, cases[i].bytes);
	}
}

static void numbers(void **state)
{
	static const struct {
		const char *text;
		uint32_t value;
		int rc;
	} cases[] = {
		{"0", 0, 0},
		{"4294967295", UINT32_MAX, 0},
		{"4294967296", 0, -ERANGE},
		{"0x1f", 31, 0},
		{"0X1F", 31, 0},
		{"0xffffffff", UINT32_MAX, 0},
		{"0x100000000", 0, -ERANGE},
		{"0x10000000000000000", 0, -ERANGE},
		{"", 0, -EINVAL},
		{"0x", 0, -EINVAL},
		{"1f", 0, -EINVAL},
		{"0x1g", 0, -EINVAL},
		{"0x-1", 0, -EINVAL},
		{"x1", 0, -EINVAL},
		{"-1", 0, -EINVAL},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t v = 0;

		assert_int_equal(parse_u32(cases[i].text, &v), cases[i].rc);
		assert_int_equal(v, cases[i].value);
	}
}

static void sizes_read_back(void **state)
{
	static const uint64_t all[] = {
		0, 1, 1023, 1024, MIB(1), MIB(1) + 4096, GIB(3), GIB(1) << 20, UINT64_MAX};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		char buf[24];
		uint64_t v;

		assert_int_equal(parse_size(format_size(all[i], buf, sizeof(buf)), &v), 0);
		assert_int_equal(v, all[i]);
	}
}

static void seconds(void **state)
{
	uint64_t v;

	assert_int_equal(parse_seconds("0", &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(parse_seconds("2.5", &v), 0);
	assert_int_equal(v, 2500000000ull);
	assert_int_equal(parse_seconds("0.000000001", &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(parse_seconds("3.", &v), 0);
	assert_int_equal(v, 3000000000ull);
	assert_int_equal(parse_seconds("0.0000000001", &v), -EINVAL);
	assert_int_equal(parse_seconds(".5", &v), -EINVAL);
	assert_int_equal(parse_seconds("5s", &v), -EINVAL);
	assert_int_equal(parse_seconds("18446744074", &v), -ERANGE);
	assert_int_equal(parse_seconds("18446744073.709551616", &v), -ERANGE);
}

static void defaults(void **state)
{
	struct fixture x;

	start(&x, 1);
	assert_int_equal(x.v.size, MIB(128));
	assert_int_equal(x.v.seconds, 1500000000);
	assert_int_equal(x.v.kind, 1);
	assert_false(field_given(&x.f, "memory"));
	fields_finish(&x.f);
	start(&x, 2);
	assert_int_equal(x.v.size, MIB(512));
	assert_int_equal(x.v.seconds, 0);
	fields_finish(&x.f);
}

static void command_line(void **state)
{
	struct fixture x;

	start(&x, 1);
	assert_int_equal(PARSE(&x, "--memory", "1G", "--cpus=4", "-f", "-tabc", "-l", "one",
				 "--list", "two", "--kind", "red", "rest", "--flag"),
		12 - 1);
	assert_int_equal(x.v.size, GIB(1));
	assert_int_equal(x.v.number, 4);
	assert_true(x.v.flag);
	assert_string_equal(x.v.text, "abc");
	assert_int_equal(x.v.list.count, 2);
	assert_string_equal(x.v.list.items[1], "two");
	assert_null(x.v.list.items[2]);
	assert_int_equal(x.v.kind, 0);
	assert_true(field_given(&x.f, "memory"));
	fields_finish(&x.f);
}

static void ends_of_options(void **state)
{
	struct fixture x;

	start(&x, 1);
	assert_int_equal(PARSE(&x, "-f", "--", "--cpus", "2"), 2);
	assert_int_equal(x.v.number, 1);
	assert_int_equal(PARSE(&x, "-", "-f"), 0);
	assert_int_equal(PARSE(&x, "--text", "--flag"), 2);
	assert_string_equal(x.v.text, "--flag");
	assert_int_equal(PARSE(&x, "--flag=no"), 1);
	assert_false(x.v.flag);
	fields_finish(&x.f);
}

/* After "--" whatever follows is a word; where a command takes none, each is refused. */
static void words(void **state)
{
	static const char *const given[] = {
		"command", "-f", "one", "--cpus=2", "--", "--flag=no", "-x"};
	char *argv[ARRAY_SIZE(given) + 1] = {NULL};
	struct fixture x;

	for (unsigned i = 0; i < ARRAY_SIZE(given); i++)
		argv[i] = (char *)(uintptr_t)given[i];
	start(&x, 1);
	assert_int_equal(fields_parse_words(&x.f, "list", ARRAY_SIZE(given), argv), 0);
	assert_true(x.v.flag);
	assert_int_equal(x.v.number, 2);
	assert_int_equal(x.v.list.count, 3);
	assert_string_equal(x.v.list.items[0], "one");
	assert_string_equal(x.v.list.items[1], "--flag=no");
	assert_string_equal(x.v.list.items[2], "-x");
	assert_int_equal(fields_parse_words(&x.f, "nothing", 3, argv), -EINVAL);
	assert_string_equal(last_error(), "unexpected argument \"one\"; see --help");
	fields_finish(&x.f);
}

static void mistakes(void **state)
{
	static const struct {
		const char *argv[3];
		const char *message;
	} cases[] = {
		{{"--cpus", "0"}, "--cpus 0: must be 1 to 254"},
		{{"--cpus", "10000"}, "--cpus 10000: must be 1 to 254"},
		{{"--cpus", "99999999999"}, "--cpus 99999999999: must be 1 to 254"},
		{{"--cpus=two"}, "--cpus two: must be a number"},
		{{"--cpus"}, "--cpus needs an argument: N"},
		{{"--memory", "0"}, "--memory 0: must be 1M to 1T"},
		{{"--memory", "1B"}, "--memory 1B: must be 1M to 1T"},
		{{"--memory", "lots"}, "--memory lots: must be a size: MiB, or with a suffix "
				       "B, K, M, G or T"},
		{{"--kind", "blue"}, "--kind blue: must be one of red, green"},
		{{"--flag=maybe"}, "--flag maybe: must be yes or no"},
		{{"--cpu", "2"}, "unknown option --cpu; did you mean --cpus?"},
		{{"--memroy", "2"}, "unknown option --memroy; did you mean --memory?"},
		{{"--mem=2"}, "unknown option --mem; did you mean --memory?"},
		{{"--xyzzy"}, "unknown option --xyzzy; see --help"},
		{{"--other"}, "unknown option --other; see --help"},
		{{"-z"}, "unknown option -z; see --help"},
		{{"-fx"}, "unknown option -fx; see --help"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture x;

		start(&x, 1);
		assert_true(parse(&x, cases[i].argv) < 0);
		assert_string_equal(last_error(), cases[i].message);
		fields_finish(&x.f);
	}
}

static int load(struct fixture *x, const char *text)
{
	return fields_load_json(&x->f, text, strlen(text), "f.json");
}

static void json_in(void **state)
{
	struct fixture x;

	start(&x, 1);
	assert_int_equal(
		load(&x, "{\"memory\": 64, \"cpus\": \"3\", \"flag\": true, \"time\": 0.25, "
			 "\"list\": [\"a\", \"b\"], \"text\": \"caf\\u00e9\"}"),
		0);
	assert_int_equal(x.v.size, MIB(64));
	assert_int_equal(x.v.number, 3);
	assert_true(x.v.flag);
	assert_int_equal(x.v.seconds, 250000000);
	assert_int_equal(x.v.list.count, 2);
	assert_string_equal(x.v.text, "caf\xc3\xa9");
	fields_finish(&x.f);
}

static void json_mistakes(void **state)
{
	static const char *const cases[][2] = {
		{"{\"cpus\": 0}", "f.json: cpus 0: must be 1 to 254"},
		{"{\"cpus\": -1}", "f.json: cpus -1: must be a number"},
		{"{\"cpus\": 1.5}", "f.json: cpus 1.500000000: must be a number"},
		{"{\"cpus\": null}", "f.json: cpus: must be a string, a number or a boolean"},
		{"{\"text\": 1}", "f.json: text: must be a string"},
		{"{\"list\": \"a\"}", "f.json: list: must be an array of strings"},
		{"{\"nope\": 1}", "f.json: unknown field \"nope\""},
		{"[]", "f.json: must hold one JSON object"},
		{"{\"cpus\": 1e308}", NULL},
		{"{\"cpus\": 1, \"cpus\": 2}", NULL},
		{"{", NULL},
		{"", NULL},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture x;

		start(&x, 1);
		assert_true(load(&x, cases[i][0]) < 0);
		if (cases[i][1])
			assert_string_equal(last_error(), cases[i][1]);
		fields_finish(&x.f);
	}
}

static void set_of_object(struct fixture *x, const char *text, int rc)
{
	json_t *object = json_loads(text, 0, NULL);

	start(x, 4);
	assert_int_equal(fields_set_json(&x->f, object, "verb: "), rc);
	json_decref(object);
}

static void json_objects(void **state)
{
	struct fixture x;

	set_of_object(&x, "{\"may\": 4, \"must\": \"\"}", 0);
	assert_int_equal(x.v.number, 4);
	assert_string_equal(x.v.text, "");
	assert_int_equal(fields_check_mandatory(&x.f, "verb: "), 0);
	fields_finish(&x.f);
	set_of_object(&x, "{\"may\": 4}", 0);
	assert_int_equal(fields_check_mandatory(&x.f, "verb: "), -EINVAL);
	assert_string_equal(last_error(), "verb: must: is missing");
	fields_finish(&x.f);
	set_of_object(&x, "{\"cpus\": 4}", -EINVAL);
	assert_string_equal(last_error(), "verb: unknown field \"cpus\"");
	fields_finish(&x.f);
	start(&x, 4);
	assert_int_equal(fields_set_json(&x.f, NULL, ""), 0);
	assert_int_equal(x.v.number, 3);
	assert_false(field_given(&x.f, "may"));
	fields_finish(&x.f);
	start(&x, 1);
	assert_int_equal(fields_check_mandatory(&x.f, ""), 0);
	fields_finish(&x.f);
}

static void json_round_trip(void **state)
{
	struct fixture x, y;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	start(&x, 1);
	assert_true(PARSE(&x, "--text", "a \"b\"\\\n\xff", "--list", "x", "--time=0.000000001",
			    "--kind=red", "--memory=1234K", "--cpus=7") > 0);
	fputc('{', out);
	fields_save_json(&x.f, out);
	fputc('}', out);
	fclose(out);
	start(&y, 1);
	assert_int_equal(load(&y, text), 0);
	assert_string_equal(y.v.text, "a \"b\"\\\n\xef\xbf\xbd");
	assert_string_equal(y.v.list.items[0], "x");
	assert_int_equal(y.v.seconds, 1);
	assert_int_equal(y.v.kind, 0);
	assert_int_equal(y.v.size, KIB(1234));
	assert_int_equal(y.v.number, 7);
	fields_finish(&x.f);
	fields_finish(&y.f);
	free(text);
}

static void help_says_all(void **state)
{
	struct fixture x;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	start(&x, 1);
	fields_print_help(&x.f, out);
	fclose(out);
	assert_non_null(strstr(text, "-c, --cpus N "));
	assert_non_null(strstr(text, "a number (default 1)"));
	assert_non_null(strstr(text, "a size (default 128M)"));
	assert_null(strstr(text, "512M"));
	assert_non_null(strstr(text, "a kind: red, green (default green)"));
	assert_null(strstr(text, "--other"));
	fields_finish(&x.f);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(numbers),
		cmocka_unit_test(sizes_read_back),
		cmocka_unit_test(seconds),
		cmocka_unit_test(defaults),
		cmocka_unit_test(command_line),
		cmocka_unit_test(ends_of_options),
		cmocka_unit_test(words),
		cmocka_unit_test(mistakes),
		cmocka_unit_test(json_in),
		cmocka_unit_test(json_mistakes),
		cmocka_unit_test(json_objects),
		cmocka_unit_test(json_round_trip),
		cmocka_unit_test(help_says_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
