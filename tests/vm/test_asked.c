// SPDX-License-Identifier: MIT
// What a guest asks for is done after what the control thread was about to do: no instruction
// follows it, and a paused machine stays paused. test_asked FOLDER: where the guests are.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "tests/vm/life.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SKIP 77
#define AFTER "an instruction after the end"

static const char *folder;

/* How often the guest has reached the registers of that name. */
static unsigned accesses(struct life *l, const char *name)
{
	char *text = machine_stats(l->machine), key[64];
	const char *at;
	unsigned n;

	assert_non_null(text);
	snprintf(key, sizeof(key), "\"name\":\"%s\",\"accesses\":", name);
	at = strstr(text, key);
	assert_non_null(at);
	n = (unsigned)strtoul(at + strlen(key), NULL, 10);
	free(text);
	return n;
}

/* The guest has asked, by its write to that register, and nobody has looked at it yet. */
static void begin(struct life *l, const char *how, const char *name, unsigned times)
{
	static char kernel[512];
	uint64_t until = now_ns() + 30 * NSEC_PER_SEC;

	snprintf(kernel, sizeof(kernel), "%s/end", folder);
	l->kernel = kernel;
	l->cmdline = how;
	l->cpus = 1;
	life_init(l);
	life_begin(l);
	while (accesses(l, name) < times)
		assert_true(now_ns() < until);
	assert_int_equal(machine_pause(l->machine), 0);
}

/* Long enough for a guest that runs to say a word. */
static void check_quiet(struct life *l)
{
	unsigned before = accesses(l, "serial");

	usleep(20000);
	assert_int_equal(accesses(l, "serial"), before);
}

static void resumed_before_it_is_heard(const char *how, const char *name, enum machine_end end)
{
	struct life l = {0};

	begin(&l, how, name, 1);
	assert_int_equal(machine_resume(l.machine), 0);
	check_quiet(&l);
	assert_false(machine_is_dead(l.machine, NULL, 0)); /* parks it, and lets it go on */
	check_quiet(&l);
	life_run(&l, NSEC_PER_SEC);
	assert_int_equal(l.end, end);
	assert_int_equal(life_said(&l, AFTER), 0);
	life_finish(&l);
}

static void power_off(void **state)
{
	resumed_before_it_is_heard("power-off", "ACPI sleep control", END_POWEROFF);
}

static void reset(void **state)
{
	resumed_before_it_is_heard("acpi", "ACPI reset", END_RESET);
}

/* A guest that is to be started again goes on after its panic, but not while it is paused. */
static void panic_while_paused(void **state)
{
	struct life l = {.restart = true};

	begin(&l, "pvpanic", "pvpanic", 2); /* it reads what there is before */
	life_run(&l, 20000000);
	assert_int_equal(machine_state(l.machine), MACHINE_PAUSED);
	check_quiet(&l);
	assert_int_equal(life_said(&l, AFTER), 0);
	assert_int_equal(machine_resume(l.machine), 0);
	life_await(&l, AFTER, 1);
	life_finish(&l);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_off),
		cmocka_unit_test(reset),
		cmocka_unit_test(panic_while_paused),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: test_asked FOLDER\n");
		return 2;
	}
	if (access("/dev/kvm", R_OK | W_OK))
		return SKIP;
	folder = argv[1];
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
