// SPDX-License-Identifier: MIT
// A VM's life in the program: configured, opened, created, run, taken down.
#include "cli/vm.h"
#include "api/server.h"
#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/shed.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/disk_open.h"
#include "cli/kernel.h"
#include "vmm/cmdline.h"
#include "vmm/disk.h"
#include "vmm/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static void help(const struct vm *vm, const char *usage)
{
	fputs(usage, stdout);
	config_print_help(&vm->cfg, stdout);
	fputs("\nExit statuses, files and examples are in kvick(1).\n", stdout);
}

int vm_configure(
	struct vm *vm, enum config_command command, int argc, char **argv, const char *usage)
{
	int rc;

	*vm = (struct vm){
		.dir = RUNDIR_NONE, .console_fd = -1, .stats_fd = -1, .start_ns = now_ns()};
	vm->mc = (struct machine_config){.kvm_fd = -1,
		.kernel_fd = -1,
		.serial_in = -1,
		.serial_out = -1,
		.vsock_dir = -1,
		.vsock_listen = -1};
	rc = config_init(&vm->cfg, command);
	if (!rc)
		rc = config_parse(&vm->cfg, argc - 1, argv + 1);
	if (!rc && vm->cfg.help) {
		help(vm, usage);
		return 1;
	}
	return rc < 0 ? rc : config_check(&vm->cfg);
}

/* A file for output, opened now because nothing can be opened later. A FIFO waits for a reader. */
static int open_output(const struct vm *vm, const char *option, const char *path, int *fd)
{
	int err;

	if (!path)
		return 0;
	signals_let_end(&vm->signals, true);
	*fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	err = errno;
	signals_let_end(&vm->signals, false);
	return *fd < 0 ? failno(err, "%s %s", option, path) : 0;
}

static int compose(struct vm *vm)
{
	struct cmdline_config c = {
		.serial = vm->cfg.console_kind != CONSOLE_OFF,
		.init = vm->cfg.fields.command == CONFIG_RUN,
		.root_device = vm->cfg.root_device,
		.pci = vm->cfg.transport == TRANSPORT_PCI,
		.alone = vm->cfg.cpus == 1,
		.append = vm->cfg.append,
	};

	vm->cmdline = cmdline_compose(&c);
	return vm->cmdline ? 0 : fail(ENOMEM, "out of memory");
}

static int save_config(struct vm *vm)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int rc;

	if (!out)
		return fail(ENOMEM, "out of memory");
	config_save(&vm->cfg, out);
	rc = fclose(out) ? fail(ENOMEM, "out of memory")
			 : rundir_write(&vm->dir, "config.json", text, len);
	free(text);
	return rc;
}

/* The VM's directory and its sockets. */
static int open_directory(struct vm *vm)
{
	int fd, rc = rundir_create(&vm->dir, vm->cfg.name);

	if (rc < 0)
		return rc;
	fd = rundir_listen(&vm->dir, "control");
	if (fd < 0)
		return fd;
	rc = api_server_create(&vm->server, vm->loop, fd, &vm->api, &api_lines);
	if (rc < 0)
		return rc;
	vm->mc.vsock_listen = rundir_listen(&vm->dir, "vsock");
	if (vm->mc.vsock_listen < 0)
		return vm->mc.vsock_listen;
	vm->mc.vsock_dir = openat(vm->dir.fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (vm->mc.vsock_dir < 0)
		return failno(errno, "%s", vm->dir.name);
	return 0;
}

static void describe(struct vm *vm)
{
	const struct config *c = &vm->cfg;
	struct machine_config *mc = &vm->mc;

	mc->name = vm->dir.name;
	mc->memory = c->memory;
	mc->backing = (enum mem_backing)c->memory_backing;
	mc->cpus = c->cpus;
	mc->kernel_name = vm->kernel_path;
	mc->unpacker = &vm->unpack.unpacker;
	mc->cmdline = vm->cmdline;
	mc->serial = c->console_kind != CONSOLE_OFF;
	mc->serial_out = vm->console_fd;
	mc->resettable = c->fields.command == CONFIG_BOOT;
	mc->restart = c->on_reboot == ON_REBOOT_RESTART;
	mc->vsock = true;
	mc->vsock_cid = c->cid;
	mc->rng = true;
	mc->disk_engine = c->disk_engine;
	mc->transport = (enum machine_transport)c->transport;
	mc->jail = (enum jail_mode)c->seccomp;
}

/* The configuration that ps shows names the kernel also where the user did not. */
static int name_kernel(struct vm *vm)
{
	if (!vm->cfg.kernel)
		vm->cfg.kernel = strdup(vm->kernel_path);
	return vm->cfg.kernel ? 0 : fail(ENOMEM, "out of memory");
}

static int start_decompressor(struct vm *vm)
{
	int rc = decompress_helper_start(
		&vm->decompress, (enum jail_mode)vm->cfg.seccomp, helper_open, 0);

	if (!rc)
		vm->mc.decompress = &vm->decompress;
	return rc;
}

static int open_disks(struct vm *vm)
{
	struct machine_config *mc = &vm->mc;
	int rc = 0;

	mc->disks = vm->cfg.disks;
	for (unsigned i = 0; i < vm->cfg.disk_count && !rc; i++) {
		rc = disk_open_repaired(&vm->cfg.disks[i], &mc->disk_files[i]);
		mc->disk_count += !rc;
		if (!rc && !mc->decompress && disk_may_be_compressed(&mc->disk_files[i]))
			rc = start_decompressor(vm);
	}
	return rc;
}

/* Each has its address from the VM's name, which may have been made up just now. */
static int open_nics(struct vm *vm)
{
	const struct net_host host = {.open_program = helper_open,
		.jail = (enum jail_mode)vm->cfg.seccomp,
		.vm = vm->dir.name,
		.configured = vm->cfg.fields.command == CONFIG_RUN,
		.pci = vm->cfg.transport == TRANSPORT_PCI};
	struct machine_config *mc = &vm->mc;
	int rc = 0;

	mc->nics = vm->cfg.nics;
	for (unsigned i = 0; i < vm->cfg.nic_count && !rc; i++) {
		net_set_mac(&vm->cfg.nics[i], vm->dir.name, i);
		rc = nic_open(
			&vm->helper[i], &vm->cfg.nics[i], &host, &mc->nic_ends[i], &vm->guest[i]);
		mc->nic_count += !rc;
	}
	return rc;
}

static int open_all(struct vm *vm)
{
	const struct config *c = &vm->cfg;
	int rc;

	vm->mc.kvm_fd = host_open_kvm(c->allow_software_kvm);
	if (vm->mc.kvm_fd < 0)
		return vm->mc.kvm_fd;
	vm->mc.kernel_fd = kernel_open(c->kernel, &vm->kernel_path);
	if (vm->mc.kernel_fd < 0)
		return vm->mc.kernel_fd;
	rc = name_kernel(vm);
	if (!rc)
		rc = open_disks(vm);
	if (!rc)
		rc = open_output(vm, "--console", c->console_path, &vm->console_fd);
	if (!rc)
		rc = open_output(vm, "--stats", c->stats, &vm->stats_fd);
	if (!rc)
		rc = compose(vm);
	if (!rc)
		rc = open_directory(vm);
	if (!rc)
		rc = open_nics(vm);
	return rc;
}

int vm_open(struct vm *vm, void (*got)(void *arg, int signo), void *arg)
{
	int rc = loop_create(&vm->loop, "control");

	unpack_helper_init(&vm->unpack, (enum jail_mode)vm->cfg.seccomp, helper_open);
	if (!rc)
		rc = signals_start(&vm->signals, vm->loop, got, arg);
	if (!rc)
		rc = open_all(vm);
	if (!rc)
		describe(vm);
	return rc;
}

int vm_create(struct vm *vm)
{
	struct machine_config *mc = &vm->mc;
	int rc = save_config(vm);

	if (rc < 0)
		return rc;
	rc = machine_create(&vm->machine, vm->loop, mc);
	mc->kvm_fd = mc->kernel_fd = mc->vsock_dir = mc->vsock_listen = -1;
	mc->disk_count = mc->nic_count = 0;
	if (mc->resettable)
		unpack_helper_seal(&vm->unpack);
	else
		unpack_helper_finish(&vm->unpack);
	if (rc < 0)
		return rc;
	vm->api.machine = vm->machine;
	vm->api.name = vm->dir.name;
	vm->api.cpus = mc->cpus;
	vm->api.memory = mc->memory;
	vm->api.started_ns = now_ns();
	return 0;
}

/* A VM that lives longer than this is one that may idle for long, among many. */
#define SETTLED_NS NSEC_PER_SEC

static void settled(void *arg)
{
	shed_startup_memory();
}

/* As late as can be: they have started while the machine was made. */
static int await_nics(struct vm *vm)
{
	int rc = 0;

	for (unsigned i = 0; i < MACHINE_NICS_MAX && !rc; i++) {
		rc = nic_await(&vm->helper[i]);
		rc = rc ? rc : machine_watch_nic(vm->machine, &vm->helper[i]);
	}
	return rc;
}

int vm_run(struct vm *vm)
{
	int rc = await_nics(vm);

	if (!rc && vm->mc.decompress)
		rc = decompress_helper_reap(&vm->decompress, vm->loop);
	if (!rc)
		rc = machine_start(vm->machine);
	vm->settled = TIMER_INIT(settled, vm);
	loop_arm(vm->loop, &vm->settled, SETTLED_NS);
	if (!rc)
		rc = jail_enter(JAIL_CONTROL, (enum jail_mode)vm->cfg.seccomp);
	return rc < 0 ? rc : loop_run(vm->loop);
}

/* Looks whether anything could still have happened, as the message is to say what was the matter.
 */
static void time_is_up(void *arg)
{
	struct vm *vm = arg;
	char where[128] = "";
	bool dead = machine_is_dead(vm->machine, where, sizeof(where));

	vm->timed_out = true;
	snprintf(vm->timeout_text, sizeof(vm->timeout_text), ": %s%s",
		dead ? "every processor halts with interrupts off, " : "the first processor is at ",
		where);
	loop_stop(vm->loop);
}

void vm_arm_timeout(struct vm *vm, uint64_t ns)
{
	vm->timeout = TIMER_INIT(time_is_up, vm);
	if (ns)
		loop_arm(vm->loop, &vm->timeout, ns);
}

/* The machine's object with our members put in before its last brace. */
static void write_stats(struct vm *vm)
{
	CLEANUP_FREE char *text =
		vm->machine && vm->stats_fd >= 0 ? machine_stats(vm->machine) : NULL;
	char *end = text ? strrchr(text, '}') : NULL;

	if (!end)
		return;
	*end = '\0';
	if (dprintf(vm->stats_fd, "%s%s}\n", text, vm->stats_more) < 0)
		log_warn("--stats %s: %s", vm->cfg.stats, strerror(errno));
}

/* Whether each piece is given back, for who looks for what is not. */
#ifdef __SANITIZE_ADDRESS__
#define TIDY true
#else
#define TIDY false
#endif

static void tear_down(struct vm *vm)
{
	struct machine_config *mc = &vm->mc;

	if (vm->loop) {
		loop_disarm(vm->loop, &vm->timeout);
		loop_disarm(vm->loop, &vm->settled);
	}
	api_server_destroy(vm->server);
	machine_destroy(vm->machine);
	unpack_helper_finish(&vm->unpack);
	for (unsigned i = 0; i < MACHINE_NICS_MAX; i++)
		nic_finish(&vm->helper[i]);
	cleanup_fd_(&mc->kvm_fd);
	cleanup_fd_(&mc->kernel_fd);
	cleanup_fd_(&mc->vsock_dir);
	cleanup_fd_(&mc->vsock_listen);
	while (mc->disk_count)
		disk_close(&mc->disk_files[--mc->disk_count]);
	while (mc->nic_count)
		port_close(&mc->nic_ends[--mc->nic_count]);
	decompress_helper_finish(&vm->decompress);
	signals_finish(&vm->signals);
	loop_destroy(vm->loop);
	cleanup_fd_(&vm->console_fd);
	cleanup_fd_(&vm->stats_fd);
	free(vm->kernel_path);
	free(vm->cmdline);
	config_finish(&vm->cfg);
}

/* All first, so that they tidy up at the same time. */
static void leave_nics(struct vm *vm)
{
	for (unsigned i = 0; i < MACHINE_NICS_MAX; i++)
		nic_leave(&vm->helper[i]);
	for (unsigned i = 0; i < MACHINE_NICS_MAX; i++)
		net_bridge_finish(&vm->helper[i].bridge);
}

/*
 * The process ends with its VM. The kernel takes both apart in a fraction of the time that it takes
 * piece by piece, with threads that are waited for and a page table that other processors share.
 */
void vm_finish(struct vm *vm)
{
	write_stats(vm);
	machine_leave(vm->machine);
	leave_nics(vm);
	rundir_remove(&vm->dir);
	if (TIDY)
		tear_down(vm);
}

int vm_exit_status(const struct vm *vm)
{
	static const int statuses[END_COUNT] = {
		[END_NONE] = STATUS_FAILED,
		[END_POWEROFF] = STATUS_OK,
		[END_RESET] = STATUS_RESET,
		[END_PANIC] = STATUS_PANIC,
		[END_TRIPLE_FAULT] = STATUS_TRIPLE_FAULT,
		[END_KVM_ERROR] = STATUS_FAILED,
		[END_KILLED] = STATUS_KILLED,
	};
	enum machine_end end = machine_end_reason(vm->machine);
	const char *text = machine_end_text(vm->machine);

	if (vm->timed_out) {
		log_error("the guest did not end within %g s%s", (double)vm->cfg.timeout_ns / 1e9,
			vm->timeout_text);
		return STATUS_TIMEOUT;
	}
	if (end == END_TRIPLE_FAULT || end == END_KVM_ERROR || end == END_PANIC)
		log_error(
			"the guest ended: %s%s%s", machine_end_name(end), *text ? ": " : "", text);
	return statuses[end];
}
