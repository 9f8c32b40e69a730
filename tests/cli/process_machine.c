// SPDX-License-Identifier: MIT
// A machine whose guest is a process of the host's that runs the guest's own agent: it lets the
// program around the machine be tested where KVM cannot run guests, and under sanitizers.
//
// KVICK_TEST_GUEST says how the guest misbehaves: silent, garbage, close (half-way), deaf (to the
// power button), dead (halted with interrupts off).
#include "base/log.h"
#include "base/loop.h"
#include "guest/agent.h"
#include "vmm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct machine {
	struct machine_config cfg;
	struct loop *loop;
	enum machine_state state;
	enum machine_end end;
	struct timer button;
	pid_t guest;
};

static struct agent agent;

static bool guest_is(const char *what)
{
	const char *mode = getenv("KVICK_TEST_GUEST");

	return mode && !strcmp(mode, what);
}

const char *machine_state_name(enum machine_state s)
{
	static const char *const names[] = {"created", "running", "paused", "ended"};

	return names[s];
}

const char *machine_end_name(enum machine_end e)
{
	return e == END_POWEROFF ? "power-off" : "killed";
}

static void power_off(void *arg)
{
	machine_end(arg, END_POWEROFF);
}

int machine_create(struct machine **out, struct loop *control, const struct machine_config *cfg)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return fail(ENOMEM, "out of memory");
	m->cfg = *cfg;
	m->loop = control;
	m->button = TIMER_INIT(power_off, m);
	*out = m;
	return 0;
}

void machine_leave(struct machine *m)
{
	if (m && m->guest > 0) {
		kill(m->guest, SIGKILL);
		waitpid(m->guest, NULL, 0);
		m->guest = 0;
	}
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	machine_leave(m);
	loop_disarm(m->loop, &m->button);
	close(m->cfg.kvm_fd);
	close(m->cfg.kernel_fd);
	close(m->cfg.vsock_dir);
	close(m->cfg.vsock_listen);
	free(m);
}

static int connect_to_host(const struct machine *m)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/vsock_%u", m->cfg.vsock_dir,
		PROTO_PORT);
	if (connect(fd, (void *)&a, sizeof(a)) < 0)
		_exit(1);
	return fd;
}

static void misbehave(int fd)
{
	static const char garbage[] = "not a frame at all";

	if (guest_is("close"))
		_exit(0);
	if (guest_is("silent") || guest_is("dead"))
		pause();
	if (guest_is("garbage") && write(fd, garbage, sizeof(garbage)) > 0)
		pause();
}

/* A guest has none of the monitor's descriptors; above all not the lock that says the VM lives. */
static int keep_only(int fd)
{
	if (dup3(fd, 3, O_CLOEXEC) < 0 && errno != EINVAL)
		_exit(1);
	close_range(4, ~0u, 0);
	return 3;
}

static _Noreturn void be_the_guest(const struct machine *m)
{
	struct proto_hello hello = {.version = PROTO_VERSION, .stage_ns = {1, 2, 3}};
	struct proto_request request;
	sigset_t none;
	int fd, rc;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = guest_is("silent") || guest_is("dead") ? STDIN_FILENO : connect_to_host(m);
	fd = keep_only(fd);
	misbehave(fd);
	rc = agent_init(&agent, fd, open("/dev/null", O_RDWR | O_CLOEXEC));
	agent_hello(&agent, &hello);
	if (!rc)
		rc = agent_request(&agent, &request);
	if (!rc)
		rc = agent_run(&agent, &request);
	_exit(rc ? 1 : 0);
}

/* Returns once the guest has closed what it must not have: the pipe's other end among it. */
static int start_guest(struct machine *m)
{
	int ends[2];
	char byte;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return failno(errno, "pipe");
	m->guest = fork();
	if (!m->guest)
		be_the_guest(m);
	close(ends[1]);
	while (read(ends[0], &byte, 1) > 0)
		;
	close(ends[0]);
	return 0;
}

/* The guest of boot has no command: it only waits for the power button. */
int machine_start(struct machine *m)
{
	m->state = MACHINE_RUNNING;
	return m->cfg.initrd ? start_guest(m) : 0;
}

int machine_pause(struct machine *m)
{
	m->state = MACHINE_PAUSED;
	return 0;
}

int machine_resume(struct machine *m)
{
	m->state = MACHINE_RUNNING;
	return 0;
}

int machine_reset(struct machine *m)
{
	return 0;
}

int machine_power_button(struct machine *m)
{
	if (!guest_is("deaf"))
		loop_arm(m->loop, &m->button, 1000000);
	return 0;
}

void machine_end(struct machine *m, enum machine_end why)
{
	if (m->state == MACHINE_ENDED)
		return;
	m->state = MACHINE_ENDED;
	m->end = why;
	m->cfg.ended(m->cfg.arg, why);
}

enum machine_state machine_state(const struct machine *m)
{
	return m->state;
}

enum machine_end machine_end_reason(const struct machine *m)
{
	return m->end;
}

const char *machine_end_text(const struct machine *m)
{
	return "";
}

/* It has no disks. */
unsigned machine_disks(struct machine *m, struct machine_disk *disks)
{
	return 0;
}

const char *machine_why_stopped(const struct machine *m)
{
	return "";
}

int machine_resize_disk(struct machine *m, const char *id, uint64_t *size)
{
	return fail(ENOENT, "it has no disk %s", id);
}

int machine_disk_limits(struct machine *m, const char *id, struct disk_limits *limits)
{
	return fail(ENOENT, "it has no disk %s", id);
}

int machine_limit_disk(struct machine *m, const char *id, const struct disk_limits *limits)
{
	return fail(ENOENT, "it has no disk %s", id);
}

int machine_attach_disk(struct machine *m, struct disk_config *disk, const struct disk_files *files)
{
	disk_config_free(disk);
	disk_close(files);
	return fail(ENOTSUP, "it takes no disk");
}

int machine_begin_job(struct machine *m, const char *id, enum disk_job_kind kind,
	struct disk_target *target, int socket)
{
	disk_target_finish(target);
	return fail(ENOENT, "it has no disk %s", id);
}

int machine_attach_nic(struct machine *m, struct net_config *nic, const struct net_end *end,
	struct nic_helper *helper)
{
	struct net_end e = *end;

	nic_helper_free(helper);
	net_config_free(nic);
	port_close(&e);
	return fail(ENOTSUP, "it takes no NIC");
}

int machine_detach(struct machine *m, const char *id, int told)
{
	return fail(ENOENT, "it has no disk %s", id);
}

int machine_nic_limits(struct machine *m, const char *id, struct net_limits *limits)
{
	return fail(ENOENT, "it has no NIC %s", id);
}

int machine_limit_nic(struct machine *m, const char *id, const struct net_limits *limits)
{
	return fail(ENOENT, "it has no NIC %s", id);
}

int machine_set_link(struct machine *m, const char *id, bool up)
{
	return fail(ENOENT, "it has no NIC%s%s", id ? " " : "", id ? id : "");
}

void machine_put_nics(struct machine *m, FILE *f)
{
	fputs("[]", f);
}

int machine_watch_nic(struct machine *m, struct nic_helper *helper)
{
	return 0;
}

bool machine_is_dead(struct machine *m, char *where, unsigned len)
{
	snprintf(where, len, "rip 0x1234");
	return guest_is("dead");
}

char *machine_stats(struct machine *m)
{
	return strdup("{\"exits\": {}}");
}
