// SPDX-License-Identifier: MIT
#include "net/bridge/command.h"

#include "base/field.h"
#include "base/log.h"
#include "base/util.h"
#include "net/bridge/confine.h"
#include "net/bridge/dhcp.h"
#include "net/bridge/host.h"
#include "net/bridge/subnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define FAILED 125 /* as of every command of kvick's */

enum { CREATE = 1, LS = 2, RM = 4 };

struct options {
	struct field_list names;
	char *address;
	bool nat, dhcp, isolate, force, json, help;
};

#define AT(member) .offset = offsetof(struct options, member)

static const struct field table[] = {
	{"address", "ADDRESS/LENGTH", "the host's address on it; without it one of 10.86.0.0/16",
		AT(address), .type = FIELD_STRING, .commands = CREATE},
	{"nat", NULL, "guests reach what the host reaches, with its address", AT(nat),
		.type = FIELD_FLAG, .commands = CREATE},
	{"dhcp", NULL, "dnsmasq gives guests their addresses, and names by DNS", AT(dhcp),
		.type = FIELD_FLAG, .commands = CREATE},
	{"isolate", NULL, "guests reach the host, and no other guest", AT(isolate),
		.type = FIELD_FLAG, .commands = CREATE},
	{"force", NULL, "also while VMs are on it", AT(force), .type = FIELD_FLAG, .commands = RM},
	{"json", NULL, "write a JSON array", AT(json), .type = FIELD_FLAG, .commands = LS},
	{"help", NULL, "this text", AT(help), .type = FIELD_FLAG, .commands = CREATE | LS | RM,
		.letter = 'h'},
	{"name", "NAME", "which bridge", AT(names), .type = FIELD_LIST,
		.commands = CREATE | RM | FIELD_NO_ARGS},
};

/* --- create -------------------------------------------------------------------------------------
 */

static int make(struct host *h, const struct bridge_wish *w)
{
	const char *name = w->name;
	struct bridge_state b;
	struct link l;
	bool known = !state_load(&h->state, name, &b), there = !link_find(h->rtnl, name, &l);
	int rc;

	if (known && *b.maker && !there)
		return fail(EEXIST, "%s: was deleted, and is still known: kvick net rm %s first",
			name, name);
	if (known)
		return fail(EEXIST, "%s: is there already, %s%s", name,
			*b.maker ? "made by " : "and not ours", b.maker);
	if (there)
		return fail(EEXIST, "%s: there is an interface of that name", name);
	rc = host_add_bridge(h, w, STATE_MAKING, &b);
	if (rc)
		return rc;
	snprintf(b.maker, sizeof(b.maker), "%s", STATE_ADMIN);
	if (w->dhcp)
		rc = dhcp_update(&h->state, &b);
	if (!rc)
		rc = state_save(&h->state, &b);
	if (rc)
		host_undo_bridge(h, &b);
	return rc;
}

static int create(const struct options *o)
{
	struct bridge_wish w = {.nat = o->nat, .dhcp = o->dhcp, .isolate = o->isolate};
	struct host h;
	int rc;

	if (o->names.count != 1)
		return fail(EINVAL, "net create: needs one name; see kvick net create --help");
	rc = state_take_name(w.name, o->names.items[0]);
	if (!rc && o->address)
		rc = subnet_parse(&w.address, o->address);
	if (!rc)
		rc = confine_for_setup();
	if (!rc)
		rc = host_open(&h);
	if (rc)
		return rc;
	rc = make(&h, &w);
	host_close(&h);
	return rc;
}

/* --- rm -----------------------------------------------------------------------------------------
 */

static int remove_one(struct host *h, const char *name, bool force)
{
	struct bridge_state b;
	struct nic_list l;
	unsigned alive;

	if (!state_name_ok(name) || state_load(&h->state, name, &b) || !*b.maker)
		return fail(ENOENT, "%s: is no bridge that kvick made; see kvick net ls", name);
	if (state_nics(&h->state, name, &l))
		return -ENOMEM;
	alive = nics_alive(&l);
	nics_free(&l);
	if (alive && !force)
		return fail(EBUSY, "%s: %u NIC%s of VMs on it; see kvick net ls, or --force", name,
			alive, alive > 1 ? "s are" : " is");
	return host_remove_bridge(h, &b);
}

static int rm(const struct options *o)
{
	struct host h;
	int rc = confine_for_setup();

	if (!o->names.count)
		rc = fail(EINVAL, "net rm: needs a name; see kvick net rm --help");
	if (!rc)
		rc = host_open(&h);
	if (rc)
		return rc;
	for (unsigned i = 0; i < o->names.count; i++) {
		if (!remove_one(&h, o->names.items[i], o->force))
			continue;
		log_error("%s", last_error());
		rc = FAILED;
	}
	host_close(&h);
	return rc;
}

/* --- ls -----------------------------------------------------------------------------------------
 */

static json_t *describe_nic(const struct nic_state *n)
{
	const uint8_t *m = n->mac;
	char mac[18], address[INET_ADDRSTRLEN] = "";

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		m[5]);
	if (n->address.s_addr)
		inet_ntop(AF_INET, &n->address, address, sizeof(address));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b}", "vm", n->vm, "nic", n->nic, "tap",
		n->tap, "mac", mac, "address", address, "isolate", n->isolate, "spoof-guard",
		n->spoof_guard);
}

static json_t *describe(const struct state *s, const char *name)
{
	struct bridge_state b;
	struct nic_list l;
	json_t *nics = json_array();
	char address[SUBNET_TEXT];

	if (state_load(s, name, &b) || state_nics(s, name, &l)) {
		json_decref(nics);
		return NULL; /* it has gone meanwhile */
	}
	for (unsigned i = 0; i < l.count; i++) {
		if (l.nics[i].alive)
			json_array_append_new(nics, describe_nic(&l.nics[i]));
	}
	nics_free(&l);
	return json_pack("{s:s, s:s, s:b, s:b, s:b, s:b, s:s, s:o}", "name", name, "address",
		b.wish.address.prefix ? subnet_format(&b.wish.address, address) : "", "nat",
		b.wish.nat, "dhcp", b.wish.dhcp, "isolate", b.wish.isolate, "present",
		if_nametoindex(name) != 0, "made-by", *b.maker ? b.maker : "another", "nics", nics);
}

static const char *text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s && *s ? s : "-";
}

static const char *yes(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key)) ? "yes" : "no";
}

static void print_row(const json_t *b)
{
	const json_t *nics = json_object_get(b, "nics"), *n;
	size_t i;

	printf("%-15s %-18s %-4s %-5s %-8s %-20s", text(b, "name"),
		json_is_true(json_object_get(b, "present")) ? text(b, "address") : "deleted",
		yes(b, "nat"), yes(b, "dhcp"), yes(b, "isolate"), text(b, "made-by"));
	json_array_foreach(nics, i, n)
	{
		printf("%s %s/%s", i ? "," : "", text(n, "vm"), text(n, "nic"));
	}
	puts(json_array_size(nics) ? "" : " -");
}

static void print(const json_t *all, bool json)
{
	const json_t *b;
	size_t i;

	if (json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		return;
	}
	printf("%-15s %-18s %-4s %-5s %-8s %-20s %s\n", "NAME", "ADDRESS", "NAT", "DHCP", "ISOLATE",
		"MADE BY", "NICS");
	json_array_foreach(all, i, b)
	{
		print_row(b);
	}
}

/* Without the lock, which is root's: what changes meanwhile is seen before or after. */
static int ls(const struct options *o)
{
	char(*names)[IFNAMSIZ] = NULL;
	json_t *all = json_array();
	struct state s;
	int rc = state_open_to_look(&s);

	if (!rc)
		rc = state_bridges(&s, &names);
	for (unsigned i = 0; !rc && names[i][0]; i++) {
		json_t *b = describe(&s, names[i]);

		if (b)
			json_array_append_new(all, b);
	}
	if (!rc)
		print(all, o->json);
	if (!rc && fflush(stdout))
		rc = failno(errno, "stdout");
	json_decref(all);
	free(names);
	state_close(&s);
	return rc;
}

/* --- all of it ----------------------------------------------------------------------------------
 */

static const struct command {
	const char *name, *usage, *help;
	int (*run)(const struct options *o);
	unsigned bit;
} commands[] = {
	{"create", "create [OPTION...] NAME", "make a bridge that stays", create, CREATE},
	{"ls", "ls [--json]", "list the bridges that VMs are on, or that were made for them", ls,
		LS},
	{"rm", "rm [--force] NAME...", "take such bridges away", rm, RM},
};

static int help(FILE *out)
{
	fputs("usage: kvick net COMMAND [ARGUMENTS]\n\n", out);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-26s%s\n", commands[i].usage, commands[i].help);
	return fflush(out) || out == stderr ? FAILED : 0;
}

static int help_on(const struct command *c, const struct fields *f)
{
	printf("usage: kvick net %s\n\nTo %s.\n\n", c->usage, c->help);
	fields_print_help(f, stdout);
	return fflush(stdout) ? FAILED : 0;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct options o = {0};
	struct fields f = {
		.table = table, .count = ARRAY_SIZE(table), .command = c->bit, .values = &o};
	int rc = fields_parse_words(&f, "name", argc, argv);

	if (!rc && o.help)
		rc = help_on(c, &f);
	else if (!rc)
		rc = c->run(&o);
	fields_finish(&f);
	if (rc < 0)
		log_error("%s", last_error());
	return rc < 0 ? FAILED : rc;
}

int command_run(int argc, char **argv)
{
	if (!argc)
		return help(stderr);
	if (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h") || !strcmp(argv[0], "help"))
		return help(stdout);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(argv[0], commands[i].name))
			return run(&commands[i], argc, argv);
	}
	log_error("net: no command \"%s\"; see kvick net --help", argv[0]);
	return FAILED;
}
