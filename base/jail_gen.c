// SPDX-License-Identifier: MIT
// Build-time tool: base/jail_rules.h -> BPF programs as C arrays on standard output. With
// JAIL_RULES, the table of a program beside the monitor, in which there is one role.
//
// libseccomp makes the programs here, so that a VM's process neither loads it nor spends time on
// it.
#include "base/jail.h"

#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rule {
	unsigned roles;
	int call;
	unsigned arg; /* ARG_NONE: whatever the arguments */
	uint64_t mask, value;
	const char *text;
};

#define ARG_NONE 99u
#define ROLE(r) (1u << (r))
#define RULE(roles, call, why) {roles, SCMP_SYS(call), ARG_NONE, 0, 0, #call},
#define RULE_ARG(roles, call, arg, mask, value, why)                                               \
	{roles, SCMP_SYS(call), arg, mask, value, #call},

static const struct rule rules[] = {
#ifdef JAIL_RULES
#include JAIL_RULES
#else
#include "base/jail_rules.h"
#endif
};

static void check(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "jail_gen: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void add_rule(scmp_filter_ctx ctx, const struct rule *r)
{
	int rc;

	if (r->arg == ARG_NONE)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->call, 0);
	else
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->call, 1,
			SCMP_CMP(r->arg, SCMP_CMP_MASKED_EQ, r->mask, r->value));
	check(rc, r->text);
}

static void print_program(FILE *bpf, const char *name)
{
	struct sock_filter f;

	printf("static const struct sock_filter %s[] = {\n", name);
	while (fread(&f, sizeof(f), 1, bpf) == 1)
		printf("\t{0x%x, %u, %u, 0x%x},\n", f.code, f.jt, f.jf, f.k);
	printf("};\n");
}

static void generate(unsigned role, const char *name)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	FILE *tmp = tmpfile();

	if (!ctx || !tmp)
		check(-ENOMEM, name);
	/* A binary tree over the call's number: the hot calls cost a handful of steps, as all do.
	 */
	check(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimisation");
	check(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS),
		"architecture");
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].roles & ROLE(role))
			add_rule(ctx, &rules[i]);
	check(seccomp_export_bpf(ctx, fileno(tmp)), "export");
	rewind(tmp);
	print_program(tmp, name);
	fclose(tmp);
	seccomp_release(ctx);
}

int main(void)
{
	printf("/* Made by jail_gen. */\n");
#ifdef JAIL_RULES
	generate(0, "helper");
#else
	generate(JAIL_VCPU, "vcpu");
	generate(JAIL_IO, "io");
	generate(JAIL_CONTROL, "control");
	generate(JAIL_UNPACK, "unpack");
#endif
	return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
