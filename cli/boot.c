// SPDX-License-Identifier: MIT
// kvick boot: a machine with its console here.
#include "base/fd.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/kernel.h"
#include "cli/terminal.h"
#include "cli/vm.h"
#include "vmm/initrd.h"

#include <errno.h>
#include <fcntl.h>

static const char usage[] =
	"usage: kvick boot [OPTIONS]\n\n"
	"Boots a kernel in a virtual machine, its serial console on this terminal. "
	"Ctrl-a x ends it.\n\n";

struct boot {
	struct vm vm;
	struct terminal *terminal;
	struct initrd *initrd;
	unsigned asked; /* how often a signal has asked for the end */
};

static void quit(void *arg)
{
	struct boot *b = arg;

	machine_end(b->vm.machine, END_KILLED);
}

/* The first presses the power button; who repeats it means it, and so does one before the start. */
static void got_signal(void *arg, int signo)
{
	struct boot *b = arg;

	if (!b->vm.machine)
		return;
	if (b->asked++ || machine_power_button(b->vm.machine) < 0)
		quit(b);
}

static void ended(void *arg, enum machine_end why)
{
	struct boot *b = arg;

	loop_stop(b->vm.loop);
}

static int open_console(struct boot *b)
{
	struct machine_config *mc = &b->vm.mc;
	int rc;

	if (b->vm.cfg.console_kind != CONSOLE_SERIAL)
		return 0;
	mc->serial_out = STDOUT_FILENO;
	if (b->vm.cfg.no_stdin)
		return 0;
	if (!isatty(STDIN_FILENO)) {
		mc->serial_in = STDIN_FILENO;
	} else if (terminal_usable()) {
		rc = terminal_open(&b->terminal, b->vm.loop, quit, b);
		if (rc < 0)
			return rc;
		mc->serial_in = terminal_input(b->terminal);
	}
	return 0;
}

static int open_initrd(struct boot *b)
{
	const char *path = b->vm.cfg.initrd;
	int fd, rc;

	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return failno(errno, "--initrd %s", path);
	rc = initrd_from_file(&b->initrd, fd, path);
	if (!rc)
		b->vm.mc.initrd = initrd_loader(b->initrd);
	return rc;
}

static int boot(struct boot *b)
{
	int rc = vm_open(&b->vm, got_signal, b);

	if (!rc)
		rc = open_initrd(b);
	if (!rc)
		rc = open_console(b);
	if (rc < 0)
		return rc;
	b->vm.mc.ended = ended;
	b->vm.mc.arg = b;
	rc = vm_create(&b->vm);
	if (rc < 0)
		return rc;
	vm_arm_timeout(&b->vm, b->vm.cfg.timeout_ns);
	return vm_run(&b->vm);
}

int cmd_boot(int argc, char **argv)
{
	struct boot b = {0};
	int rc = vm_configure(&b.vm, CONFIG_BOOT, argc, argv, usage);
	int status = STATUS_OK;

	if (!rc)
		rc = boot(&b);
	terminal_close(b.terminal);
	if (rc < 0)
		status = cli_failed();
	else if (!rc)
		status = vm_exit_status(&b.vm);
	vm_finish(&b.vm);
	initrd_destroy(b.initrd);
	return status;
}
