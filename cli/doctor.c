// SPDX-License-Identifier: MIT
// kvick doctor: what this host offers, in words or as JSON.
#include "base/field.h"
#include "base/log.h"
#include "base/util.h"
#include "cli/cli.h"
#include "vmm/host.h"

#include <errno.h>
#include <stdio.h>

struct options {
	bool json, help;
};

static const struct field table[] = {
	{"json", NULL, "write JSON", .offset = offsetof(struct options, json), .type = FIELD_FLAG,
		.commands = 1},
	{"help", NULL, "this text", .offset = offsetof(struct options, help), .type = FIELD_FLAG,
		.commands = 1, .letter = 'h'},
};

static void write_text(void)
{
	for (unsigned i = 0; i < host_probes(); i++) {
		struct host_finding f;

		host_probe(i, &f);
		printf("%-10s%-14s%s\n", host_status_name(f.status), f.name, f.detail);
		if (f.advice[0])
			printf("%-24s-> %s\n", "", f.advice);
	}
	printf("\n%s\n", host_runs_stock_guests() ? "This host can run stock guests."
						  : "This host cannot run stock guests.");
}

static void write_json(void)
{
	printf("{\"can_run_stock_guests\": %s, \"findings\": [",
		host_runs_stock_guests() ? "true" : "false");
	for (unsigned i = 0; i < host_probes(); i++) {
		struct host_finding f;

		host_probe(i, &f);
		printf("%s\n  {\"name\": \"%s\", \"status\": \"%s\", \"detail\": ", i ? "," : "",
			f.name, host_status_name(f.status));
		json_put_string(stdout, f.detail);
		fputs(", \"advice\": ", stdout);
		json_put_string(stdout, f.advice);
		putchar('}');
	}
	puts("\n]}");
}

int cmd_doctor(int argc, char **argv)
{
	struct options o = {0};
	struct fields f = {.table = table, .count = ARRAY_SIZE(table), .command = 1, .values = &o};
	int n = fields_parse_args(&f, argc - 1, argv + 1);

	if (n < 0)
		return cli_failed();
	if (n < argc - 1) {
		fail(EINVAL, "unexpected argument \"%s\"; see kvick doctor --help", argv[n + 1]);
		return cli_failed();
	}
	if (o.help) {
		puts("usage: kvick doctor [--json]\n\n"
		     "Says what this host offers a virtual machine, and what to do about what it "
		     "lacks.\n");
		fields_print_help(&f, stdout);
	} else if (o.json) {
		write_json();
	} else {
		write_text();
	}
	return STATUS_OK;
}
