// SPDX-License-Identifier: MIT
// kvick run: a command in a machine of its own, and its exit status as ours.
//
// The guest's init connects to port PROTO_PORT of the host, which is a socket in the VM's
// directory; the session over that connection starts the command. The VM has no reason to live
// longer than the session: whichever ends first ends the other.
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/guest_net.h"
#include "cli/kernel.h"
#include "cli/session.h"
#include "cli/vm.h"
#include "vmm/initrd.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>

static const char usage[] =
	"usage: kvick run [OPTIONS] [--] COMMAND [ARGUMENTS]\n\n"
	"Runs a command in a fresh virtual machine; its exit status is the command's.\n\n";

enum moment { OPENED, PACKED, CREATED, CONNECTED, STARTED, ENDED, MOMENTS };

struct run {
	struct vm vm;
	int root_fd, init_fd;
	char *root_path;
	struct initrd *initrd;
	int listen_fd;
	struct watch listen;
	struct session *session;
	bool started;
	int asked;                 /* the first signal that asked for the end; 0: none */
	int status;                /* once decided; -1 before */
	uint64_t moments[MOMENTS]; /* ns since vm.start_ns */
	struct session_times guest;
};

static void mark(struct run *r, enum moment m)
{
	r->moments[m] = now_ns() - r->vm.start_ns;
}

/* The first decision stands. */
static void decide(struct run *r, int status)
{
	if (r->status < 0)
		r->status = status;
	loop_stop(r->vm.loop);
}

/* Asks the command to end; when it has been asked before, or does not run yet, ends the VM. */
static void ask(struct run *r, int signo)
{
	bool again = r->asked;

	r->asked = signo;
	if (again)
		decide(r, STATUS_KILLED);
	else if (r->started)
		session_signal(r->session, signo);
	else
		decide(r, 128 + signo);
}

static void got_signal(void *arg, int signo)
{
	ask(arg, signo);
}

static int power_button(void *arg)
{
	ask(arg, SIGTERM);
	return 0;
}

static void machine_ended(void *arg, enum machine_end why)
{
	struct run *r = arg;
	const char *text = machine_end_text(r->vm.machine);

	if (why == END_KILLED) {
		decide(r, STATUS_KILLED);
		return;
	}
	if (r->status < 0)
		log_error("the guest ended before its command did: %s%s%s%s", machine_end_name(why),
			*text ? ": " : "", text,
			r->started || r->vm.mc.serial ? "" : "; --console serial shows why");
	decide(r, STATUS_FAILED);
}

static void session_started(void *arg, const struct session_times *t)
{
	struct run *r = arg;

	r->started = true;
	r->guest = *t;
	mark(r, STARTED);
}

/* A guest that halted with interrupts off looks like one that is slow: it is told apart here. */
static bool halted(struct run *r, const struct session_result *result)
{
	char where[128] = "";
	bool late = result->status == STATUS_TIMEOUT || !r->started;

	if (!late || !machine_is_dead(r->vm.machine, where, sizeof(where)))
		return false;
	log_error("every processor of the guest halts with interrupts off, %s", where);
	return true;
}

static void session_ended(void *arg, const struct session_result *result)
{
	struct run *r = arg;

	mark(r, ENDED);
	if (result->text[0])
		log_error("%s", result->text);
	decide(r, halted(r, result) ? STATUS_TIMEOUT : result->status);
}

/* What each NIC was set up to be is known here: the guest need not ask for it by DHCP. */
static void request_nets(const struct run *r, struct proto_request *q)
{
	static_assert(MACHINE_NICS_MAX <= PROTO_NETS, "a request has room for every NIC");
	q->n_nets = r->vm.cfg.nic_count;
	for (unsigned i = 0; i < q->n_nets; i++)
		guest_net_put(&q->nets[i], &r->vm.guest[i]);
}

/* Everything that a session needs of this process is opened before the jail shuts. */
static int prepare_session(struct run *r)
{
	static char *no_env[] = {NULL};
	const struct config *c = &r->vm.cfg;
	uint8_t entropy[32];
	struct proto_request request = {
		.argv = c->command.items,
		.envp = c->env.count ? c->env.items : no_env,
		.cwd = c->workdir,
		.hostname = c->hostname ? c->hostname : r->vm.dir.name,
		.entropy = entropy,
		.entropy_length = sizeof(entropy),
	};
	struct session_options o = {
		.loop = r->vm.loop,
		.stdin_fd = c->no_stdin || isatty(STDIN_FILENO) ? -1 : STDIN_FILENO,
		.stdout_fd = STDOUT_FILENO,
		.stderr_fd = STDERR_FILENO,
		.request = &request,
		.start_timeout_ns = c->boot_timeout_ns,
		.run_timeout_ns = c->timeout_ns,
		.started = session_started,
		.ended = session_ended,
		.arg = r,
	};

	request_nets(r, &request);
	if (getrandom(entropy, sizeof(entropy), 0) != sizeof(entropy))
		return failno(errno, "getrandom");
	return session_create(&r->session, &o);
}

/* The guest's init has come. It comes once: the door is shut behind it. */
static void connected(void *arg, uint32_t events)
{
	struct run *r = arg;
	int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	mark(r, CONNECTED);
	loop_del(r->vm.loop, &r->listen);
	if (session_attach(r->session, fd) < 0)
		decide(r, cli_failed());
}

static int listen_for_init(struct run *r)
{
	char name[32];
	int rc;

	snprintf(name, sizeof(name), "vsock_%u", PROTO_PORT);
	r->listen_fd = rundir_listen(&r->vm.dir, name);
	if (r->listen_fd < 0)
		return r->listen_fd;
	r->listen = WATCH_INIT(connected, r);
	rc = loop_add(r->vm.loop, &r->listen, r->listen_fd, EPOLLIN);
	return rc < 0 ? failno(-rc, "%s", name) : 0;
}

static int pack_root(struct run *r)
{
	struct initrd_root root = {.kernel_fd = r->vm.mc.kernel_fd,
		.pci = r->vm.mc.transport == TRANSPORT_PCI,
		.kernel_path = r->vm.kernel_path,
		.modules = r->vm.cfg.modules,
		/* With PCI some may come later. */
		.disks = r->vm.cfg.disk_count > 0 || r->vm.mc.transport == TRANSPORT_PCI,
		.nics = r->vm.cfg.nic_count > 0 || r->vm.mc.transport == TRANSPORT_PCI,
		.nics_wanted = r->vm.cfg.net.count > 0 && r->vm.cfg.nic_count > 0,
		.unpacker = &r->vm.unpack.unpacker};

	if (!r->vm.cfg.root_disk)
		r->root_fd = root_open(r->vm.cfg.rootfs, &r->root_path);
	if (!r->vm.cfg.root_disk && r->root_fd < 0)
		return r->root_fd;
	r->init_fd = helper_open("kvick-init");
	if (r->init_fd < 0)
		return r->init_fd;
	root.root_fd = r->root_fd;
	root.root_name = r->root_path;
	root.init_fd = r->init_fd;
	return initrd_from_root(&r->initrd, &root);
}

/*
 * While the guest unpacks its root there are two copies of it, and Linux lets the one that stays
 * fill half of what memory is left beside the packed one: three times the size, and some to work
 * with.
 */
static int grow_memory(struct run *r)
{
	uint64_t need = align_up(initrd_size(r->initrd) * 13 / 4 + MIB(128), MIB(2));

	if (r->vm.cfg.memory_given || need <= r->vm.cfg.memory)
		return 0;
	r->vm.cfg.memory = r->vm.mc.memory = need;
	return config_check_memory(need);
}

static int open_machine(struct run *r)
{
	int rc = vm_open(&r->vm, got_signal, r);

	mark(r, OPENED);
	if (!rc)
		rc = pack_root(r);
	if (!rc)
		rc = grow_memory(r);
	if (!rc)
		rc = listen_for_init(r);
	mark(r, PACKED);
	if (rc < 0)
		return rc;
	if (r->vm.cfg.console_kind == CONSOLE_SERIAL)
		r->vm.mc.serial_out = STDERR_FILENO;
	r->vm.mc.initrd = initrd_loader(r->initrd);
	r->vm.mc.ended = machine_ended;
	r->vm.mc.arg = r;
	r->vm.api.power_button = power_button;
	r->vm.api.arg = r;
	return 0;
}

static int run(struct run *r)
{
	int rc = open_machine(r);

	if (!rc)
		rc = vm_create(&r->vm);
	initrd_destroy(steal_ptr(&r->initrd)); /* it is in guest memory now */
	if (!rc)
		rc = prepare_session(r);
	mark(r, CREATED);
	return rc < 0 ? rc : vm_run(&r->vm);
}

/* When each thing was on this side, since the start of the program, and on the guest's clock. */
static void describe_moments(struct run *r)
{
	static const char *const names[MOMENTS] = {
		"opened", "packed", "created", "connected", "started", "ended"};
	char *at = r->vm.stats_more;
	size_t size = sizeof(r->vm.stats_more), n;

	n = (size_t)snprintf(at, size, ", \"run_ns\": {");
	for (unsigned i = 0; i < MOMENTS; i++)
		n += (size_t)snprintf(at + n, size - n, "%s\"%s\": %llu", i ? ", " : "", names[i],
			(unsigned long long)r->moments[i]);
	snprintf(at + n, size - n,
		"}, \"guest_ns\": {\"init\": %llu, \"modules\": %llu, \"connected\": %llu, "
		"\"started\": %llu}",
		(unsigned long long)r->guest.stage_ns[PROTO_STAGE_INIT],
		(unsigned long long)r->guest.stage_ns[PROTO_STAGE_MODULES],
		(unsigned long long)r->guest.stage_ns[PROTO_STAGE_CONNECTED],
		(unsigned long long)r->guest.started_ns);
}

static void finish(struct run *r)
{
	describe_moments(r);
	if (r->vm.loop)
		loop_del(r->vm.loop, &r->listen);
	session_destroy(r->session);
	vm_finish(&r->vm);
	initrd_destroy(r->initrd);
	cleanup_fd_(&r->listen_fd);
	cleanup_fd_(&r->root_fd);
	cleanup_fd_(&r->init_fd);
	free(r->root_path);
}

int cmd_run(int argc, char **argv)
{
	struct run r = {.root_fd = -1, .init_fd = -1, .listen_fd = -1, .status = -1};
	int rc;

	r.listen = WATCH_INIT(connected, &r);
	rc = vm_configure(&r.vm, CONFIG_RUN, argc, argv, usage);
	if (!rc)
		rc = run(&r);
	if (rc > 0)
		r.status = STATUS_OK;
	if (rc < 0)
		r.status = cli_failed();
	finish(&r);
	return r.status;
}
