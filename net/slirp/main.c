// SPDX-License-Identifier: MIT
// kvick-slirp: the network of a guest in user mode, for one NIC of a monitor.
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/slirp/engine.h"
#include "net/slirp/policy.h"
#include "net/slirp/sandbox.h"
#include "net/slirp/slirp.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static const char *const modes[] = {[JAIL_KILL] = "kill", [JAIL_LOG] = "log", [JAIL_OFF] = "off"};

struct options {
	struct policy policy;
	enum jail_mode jail;
	uint32_t mtu;
	bool configured;
};

static int set_mode(struct options *o, const char *text)
{
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		if (!strcmp(modes[i], text)) {
			o->jail = (enum jail_mode)i;
			return 0;
		}
	}
	return fail(EINVAL, "seccomp %s: must be kill, log or off", text);
}

static int take(struct options *o, int option)
{
	switch (option) {
	case 'p':
		return policy_publish(&o->policy, optarg);
	case 'a':
		o->policy.listed = true;
		return policy_allow(&o->policy, optarg);
	case 'r':
		o->policy.restricted = true;
		return 0;
	case 'h':
		o->policy.host = true;
		return 0;
	case 'c':
		o->configured = true;
		return 0;
	case 'm':
		o->mtu = (uint32_t)strtoul(optarg, NULL, 10);
		if (o->mtu < 1280 || o->mtu > SLIRP_MTU)
			return fail(EINVAL, "mtu %s: must be 1280 to %u", optarg, SLIRP_MTU);
		return 0;
	case 's':
		return set_mode(o, optarg);
	default:
		return fail(EINVAL, "kvick-slirp is of another version than kvick");
	}
}

static int parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{"publish", required_argument, NULL, 'p'},
		{"allow", required_argument, NULL, 'a'},
		{"restrict", no_argument, NULL, 'r'},
		{"host", no_argument, NULL, 'h'},
		{"configured", no_argument, NULL, 'c'},
		{"mtu", required_argument, NULL, 'm'},
		{"seccomp", required_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	int option, rc = 0;

	opterr = 0;
	while (!rc && (option = getopt_long(argc, argv, "", known, NULL)) != -1)
		rc = take(o, option);
	if (!rc && optind < argc)
		rc = take(o, '?');
	if (!rc && o->policy.restricted && (o->policy.host || o->policy.listed))
		rc = fail(EINVAL, "restrict: leaves nothing to do for host=allow and allow");
	return rc;
}

static int map_counters(uint64_t **counters)
{
	const size_t size = SLIRP_COUNTS * sizeof(**counters);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, SLIRP_COUNTERS, 0);

	if (p == MAP_FAILED)
		return failno(errno, "counters");
	*counters = p;
	return 0;
}

static int start(struct engine **e, struct options *o, int argc, char **argv)
{
	struct engine_config c = {
		.policy = &o->policy, .control = SLIRP_CONTROL, .packets = SLIRP_PACKETS};
	int rc = parse(o, argc, argv);

	rc = rc ? rc : map_counters(&c.counters);
	rc = rc ? rc : sandbox_begin(SLIRP_COUNTERS);
	c.configured = o->configured;
	c.mtu = o->mtu;
	rc = rc ? rc : engine_create(e, &c);
	return rc ? rc : sandbox_enter(o->jail);
}

static bool say(int rc)
{
	struct slirp_reply r = {.error = -rc};

	if (rc)
		snprintf(r.text, sizeof(r.text), "%s", last_error());
	return fd_write_full(SLIRP_CONTROL, &r, sizeof(r)) == 0;
}

int main(int argc, char **argv)
{
	struct options o = {.mtu = SLIRP_MTU};
	struct engine *e = NULL;
	int rc;

	if (argc < 2) {
		fprintf(stderr, "kvick-slirp is run by kvick, for a NIC in user mode\n");
		return EXIT_FAILURE;
	}
	prctl(PR_SET_NAME, "kvick-slirp"); /* it was started as a number */
	signal(SIGPIPE, SIG_IGN); /* libslirp writes to connections that others have closed */
	rc = start(&e, &o, argc, argv);
	if (!say(rc) || rc)
		return EXIT_FAILURE;
	rc = engine_run(e);
	if (rc)
		log_error("kvick-slirp: %s", last_error());
	engine_destroy(e);
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
