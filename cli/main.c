// SPDX-License-Identifier: MIT
// kvick: finds the command and calls it.
#include "base/field.h"
#include "base/log.h"
#include "base/output.h"
#include "base/util.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};

static const struct command commands[] = {
	{"run", cmd_run, "run a command in a fresh virtual machine"},
	{"boot", cmd_boot, "boot a kernel, its console on this terminal"},
	{"ps", cmd_ps, "list the running VMs"},
	{"stop", cmd_stop, "end VMs: by their power button, in the end by force"},
	{"pause", cmd_control, "stop a VM's processors"},
	{"resume", cmd_control, "let them go on"},
	{"reset", cmd_control, "press a VM's reset button"},
	{"power-button", cmd_control, "press a VM's power button"},
	{"kill", cmd_control, "end a VM at once"},
	{"status", cmd_control, "say what state a VM is in"},
	{"resize-disk", cmd_resize_disk, "make a VM's disk larger"},
	{"mirror-disk", cmd_mirror_disk, "copy a VM's disk to another image while it runs"},
	{"commit-disk", cmd_commit_disk, "bring a VM's disk to its image's backing file"},
	{"snapshot-disk", cmd_snapshot_disk, "keep a VM's disk as it is, and go on in a new file"},
	{"limit-nic", cmd_control, "change how much a VM's NIC does in a second"},
	{"link", cmd_control, "plug the cable of a VM's NIC in or out"},
	{"attach-disk", cmd_attach_disk, "give a running VM one more disk"},
	{"attach-nic", cmd_attach_nic, "give a running VM one more NIC"},
	{"detach", cmd_detach,
		"take a disk or NIC from a running VM, once its guest lets go of it"},
	{"limit-disk", cmd_control, "change how much a VM's disk does in a second"},
	{"stats", cmd_control, "say how long a VM's phases took, and its exits by cause"},
	{"net", cmd_net, "make, list and remove bridges that stay"},
	{"image", cmd_image, "make, check, copy and change images of disks"},
	{"doctor", cmd_doctor, "say what this host offers, and what to do about what it lacks"},
};

int cli_failed(void)
{
	log_error("%s", last_error());
	return STATUS_FAILED;
}

static int help(FILE *out)
{
	fputs("usage: kvick COMMAND [ARGUMENTS]\n\n", out);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-14s%s\n", commands[i].name, commands[i].help);
	fputs("\nkvick COMMAND --help explains a command; kvick --version says the version.\n"
	      "First steps: kvick doctor, then kvick run -- uname -a\n",
		out);
	return STATUS_OK;
}

static const struct command *find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

static int unknown(const char *name)
{
	const char *names[ARRAY_SIZE(commands) + 1];
	const char *near;

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		names[i] = commands[i].name;
	names[ARRAY_SIZE(commands)] = NULL;
	near = nearest_name(name, names);
	if (near)
		fail(EINVAL, "no command \"%s\"; did you mean %s?", name, near);
	else
		fail(EINVAL, "no command \"%s\"; see kvick --help", name);
	return cli_failed();
}

static int call(int argc, char **argv)
{
	const struct command *c = find(argv[0]);

	return c ? c->run(argc, argv) : unknown(argv[0]);
}

static int help_on(char *name)
{
	char option[] = "--help";
	char *argv[] = {name, option, NULL};

	return call(2, argv);
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c)
{
	return !strcmp(word, a) || !strcmp(word, b) || !strcmp(word, c);
}

/*
 * Where the caller has closed one of the first three descriptors, it reads as empty and takes
 * nothing: else a file of ours would get its number, and what is said would be written there.
 */
static void fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", O_RDONLY);
}

static int run(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return STATUS_FAILED;
	}
	if (is_one_of(argv[1], "--version", "-V", "version")) {
		puts("kvick " KVICK_VERSION);
		return STATUS_OK;
	}
	if (is_one_of(argv[1], "--help", "-h", "help"))
		return argc > 2 && argv[2][0] != '-' ? help_on(argv[2]) : help(stdout);
	return call(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int status;

	fill_standard_descriptors();
	output_begin();
	status = run(argc, argv);
	if (!output_end())
		return status;
	cli_failed();
	return status ? status : STATUS_FAILED;
}
