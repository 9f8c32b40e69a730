// SPDX-License-Identifier: MIT
// The table of verbs and what each does.
#include "api/verbs.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define IN(state) (1u << MACHINE_##state)
#define ALIVE (IN(CREATED) | IN(RUNNING) | IN(PAUSED))
#define ALWAYS (ALIVE | IN(ENDED))

static int run_status(struct api *a, json_t **result)
{
	enum machine_state state = machine_state(a->machine);

	*result = json_pack("{s:s, s:s, s:i, s:I, s:f, s:i}", "name", a->name, "state",
		machine_state_name(state), "cpus", (int)a->cpus, "memory", (json_int_t)a->memory,
		"uptime", (double)(now_ns() - a->started_ns) / 1e9, "pid", (int)getpid());
	if (*result && state == MACHINE_ENDED)
		json_object_set_new(*result, "end",
			json_string(machine_end_name(machine_end_reason(a->machine))));
	return *result ? 0 : fail(ENOMEM, "out of memory");
}

static int run_pause(struct api *a, json_t **result)
{
	return machine_pause(a->machine);
}

static int run_resume(struct api *a, json_t **result)
{
	return machine_resume(a->machine);
}

static int run_reset(struct api *a, json_t **result)
{
	return machine_reset(a->machine);
}

static int run_power_button(struct api *a, json_t **result)
{
	return a->power_button ? a->power_button(a->arg) : machine_power_button(a->machine);
}

static int run_kill(struct api *a, json_t **result)
{
	machine_end(a->machine, END_KILLED);
	return 0;
}

static int run_stats(struct api *a, json_t **result)
{
	char *text = machine_stats(a->machine);

	*result = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	return *result ? 0 : fail(ENOMEM, "out of memory");
}

static const struct api_verb verbs[] = {
	{"status", ALWAYS, run_status, "say what state the VM is in"},
	{"stats", ALWAYS, run_stats, "say how long each phase took, and exits by cause"},
	{"pause", IN(RUNNING), run_pause, "stop the VM's processors"},
	{"resume", IN(PAUSED), run_resume, "let them go on"},
	{"reset", IN(RUNNING) | IN(PAUSED), run_reset, "press the reset button"},
	{"power-button", IN(RUNNING), run_power_button, "press the power button"},
	{"kill", ALIVE, run_kill, "end the VM at once"},
};

const struct api_verb *api_verbs(unsigned *count)
{
	*count = ARRAY_SIZE(verbs);
	return verbs;
}

const struct api_verb *api_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	}
	return NULL;
}

int api_call(struct api *a, const char *name, json_t **result)
{
	const struct api_verb *v = api_find(name);
	enum machine_state state = machine_state(a->machine);
	int rc;

	*result = NULL;
	if (!v)
		return fail(ENOSYS, "unknown verb \"%.64s\"", name);
	if (!(v->states & 1u << state))
		return fail(
			EBUSY, "%s: not while the machine is %s", name, machine_state_name(state));
	rc = v->run(a, result);
	if (!rc && !*result)
		*result = json_object();
	return !rc && !*result ? fail(ENOMEM, "out of memory") : rc;
}
