// SPDX-License-Identifier: MIT
// What boot and run have in common: a machine with its directory, control socket and signals.
#ifndef CLI_VM_H
#define CLI_VM_H

#include "api/verbs.h"
#include "base/loop.h"
#include "cli/signals.h"
#include "vmm/config.h"
#include "vmm/machine.h"
#include "vmm/rundir.h"
#include "vmm/unpack_helper.h"

struct vm {
	struct config cfg;
	struct loop *loop;
	struct signals signals;
	struct rundir dir;
	struct net_guest guest[MACHINE_NICS_MAX];   /* mc.nic_count of them */
	struct nic_helper helper[MACHINE_NICS_MAX]; /* the same */
	struct machine_config mc; /* descriptors in it are closed here until the machine has them */
	struct machine *machine;
	struct api api;
	struct api_server *server;
	struct unpack_helper unpack;
	struct decompress_helper decompress; /* all zeroes: none */
	char *kernel_path, *cmdline;
	int console_fd; /* --console file:PATH; else -1 */
	int stats_fd;   /* --stats; else -1 */
	uint64_t start_ns;
	char stats_more[512]; /* members of the statistics that are not the machine's: ", ..." */
	struct timer timeout, settled;
	bool timed_out;
	char timeout_text[192]; /* what was found when the time was over */
};

/*
 * Defaults, options, checks. 0; 1 when help was asked for and given, with `usage` before the
 * options; -errno. vm_finish is due in each case.
 */
int vm_configure(
	struct vm *vm, enum config_command command, int argc, char **argv, const char *usage);

/*
 * Opens what the configuration names, into vm->mc: /dev/kvm first, so that a host which cannot run
 * guests says so before anything else. Signals call `got` from now on. 0 or -errno.
 */
int vm_open(struct vm *vm, void (*got)(void *arg, int signo), void *arg);

/* Makes the machine of vm->mc, as completed by the caller. 0 or -errno. */
int vm_create(struct vm *vm);

/* Gives up what a running machine does not need, starts it, and returns once the loop is stopped.
 */
int vm_run(struct vm *vm);

/* Ends the VM when it has run this long: vm->timed_out is set, and the loop is stopped. 0 ns:
 * never. */
void vm_arm_timeout(struct vm *vm, uint64_t ns);

/* Writes the statistics asked for, stops the machine and takes its directory away. The process is
 * to end then: what memory and descriptors it has goes with it. */
void vm_finish(struct vm *vm);

/* What the machine's end is as an exit status of boot, with a message where it is a failure. */
int vm_exit_status(const struct vm *vm);

#endif
