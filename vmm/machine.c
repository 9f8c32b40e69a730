// SPDX-License-Identifier: MIT
// A machine's life: build, start, pause, reset, end.
//
// vCPU threads never change the machine. What a guest asks for (power off, reset) and what befalls
// it (a triple fault) is a bit in `asked`; the thread parks all vCPUs without waiting and rings an
// eventfd; the control loop does the rest. So no guest instruction follows a power-off, and no
// thread waits for itself.
#include "vmm/machine.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "hw/pm.h"
#include "hw/vcpu.h"
#include "loader/loader.h"
#include "vmm/devices.h"
#include "vmm/machine_private.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#define TINY_KERNEL KIB(256)

static const char *const state_names[] = {
	[MACHINE_CREATED] = "created",
	[MACHINE_RUNNING] = "running",
	[MACHINE_PAUSED] = "paused",
	[MACHINE_ENDED] = "ended",
};

static const char *const end_names[] = {
	[END_NONE] = "none",
	[END_POWEROFF] = "power-off",
	[END_RESET] = "reset",
	[END_PANIC] = "panic",
	[END_TRIPLE_FAULT] = "triple-fault",
	[END_KVM_ERROR] = "kvm-error",
	[END_KILLED] = "killed",
};

_Static_assert(ARRAY_SIZE(end_names) == END_COUNT, "a name for each end");

const char *machine_state_name(enum machine_state s)
{
	return state_names[s];
}

const char *machine_end_name(enum machine_end e)
{
	return end_names[e];
}

/* Requests of vCPU threads, in ascending order of who wins. */
enum {
	ASKED_RESET = 1u << 0,
	ASKED_POWEROFF = 1u << 1,
	ASKED_TRIPLE_FAULT = 1u << 2,
	ASKED_KVM_ERROR = 1u << 3,
	ASKED_PANIC_SAID = 1u << 4,
	ASKED_PANIC_DONE = 1u << 5,
	ASKED_DISK_STOP = 1u << 6,
	ASKED_EJECT = 1u << 7,
	ASKED_EVENTS = 1u << 8,
};

/* Those that come with parked vCPUs, which stay so until they have been answered. */
#define ASKED_PARKED                                                                               \
	(ASKED_RESET | ASKED_POWEROFF | ASKED_TRIPLE_FAULT | ASKED_KVM_ERROR | ASKED_PANIC_DONE |  \
		ASKED_EJECT)

static void note(struct machine *m, unsigned what)
{
	__atomic_fetch_or(&m->asked, what, __ATOMIC_SEQ_CST);
}

static void ring(struct machine *m)
{
	uint64_t one = 1;

	if (write(m->asked_watch.fd, &one, sizeof(one)) < 0)
		log_error("machine %s: %s", m->cfg.name, strerror(errno));
}

static void tell(struct machine *m, unsigned what)
{
	note(m, what);
	ring(m);
}

static void ask_all_to_park(struct machine *m)
{
	for (uint32_t i = 0; i < m->cpus; i++)
		vcpu_ask_to_park(m->cpu[i]);
}

/* Noted first: who lets vCPUs go on just now sees it, or is undone. */
static void ask(struct machine *m, unsigned what)
{
	note(m, what);
	ask_all_to_park(m);
	ring(m);
}

static void guest_power_off(void *arg)
{
	ask(arg, ASKED_POWEROFF);
}

static void guest_reset(void *arg)
{
	ask(arg, ASKED_RESET);
}

static void guest_panicked(void *arg, enum devices_panic how)
{
	if (how == PANIC_DONE)
		ask(arg, ASKED_PANIC_DONE);
	else
		tell(arg, ASKED_PANIC_SAID);
}

static void disk_stopped(void *arg, const char *why)
{
	machine_note_stop(arg, why);
	tell(arg, ASKED_DISK_STOP);
}

static void disk_warned(void *arg, const char *what)
{
	char text[160];

	snprintf(text, sizeof(text), "disks: %s: compressed data cannot be read any more", what);
	machine_note(arg, text);
}

/* Parked, so that the guest does not find again what it has just let go of. */
static void guest_ejected(void *arg, unsigned slots)
{
	struct machine *m = arg;

	if (devices_eject(&m->devices, slots))
		ask(m, ASKED_EJECT);
}

void machine_ring_events(struct machine *m)
{
	tell(m, ASKED_EVENTS);
}

static void vcpu_ended(void *arg, struct vcpu *v, enum vcpu_end why)
{
	struct machine *m = arg;

	if (why == VCPU_END_KVM_ERROR)
		snprintf(m->end_text, sizeof(m->end_text), "%s", vcpu_end_text(v));
	ask(m, why == VCPU_END_KVM_ERROR ? ASKED_KVM_ERROR : ASKED_TRIPLE_FAULT);
}

/*
 * The first vCPU's thread gives the VM its memory: it has nothing to do until then, and others go
 * on while it waits for the kernel.
 */
static void enter_vcpu(void *arg, struct vcpu *v)
{
	struct machine *m = arg;

	if (v == m->cpu[0] && mem_attach(m->mem, &m->kvm)) {
		m->attach_failed = true;
		snprintf(m->end_text, sizeof(m->end_text), "%s", last_error());
	}
	if (jail_enter(JAIL_VCPU, m->cfg.jail)) {
		log_error("%s", last_error());
		_exit(EXIT_JAIL);
	}
}

void machine_tell(struct machine *m, const char *what)
{
	if (m->cfg.event)
		m->cfg.event(m->cfg.arg, what);
}

void machine_park_all(struct machine *m)
{
	ask_all_to_park(m);
	for (uint32_t i = 0; i < m->cpus; i++)
		vcpu_park(m->cpu[i]);
}

static bool has_asked(const struct machine *m)
{
	return __atomic_load_n(&m->asked, __ATOMIC_SEQ_CST) & ASKED_PARKED;
}

void machine_resume_all(struct machine *m)
{
	if (has_asked(m))
		return;
	for (uint32_t i = 0; i < m->cpus; i++)
		vcpu_resume(m->cpu[i]);
	/* The first of them may have asked before the last was resumed. */
	if (has_asked(m))
		ask_all_to_park(m);
}

/* A guest that panics and is to be restarted reboots by itself, if it is set to. */
static void on_panic(struct machine *m, bool done)
{
	if (!m->panicked) {
		m->panicked = true;
		snprintf(m->end_text, sizeof(m->end_text), "%s", m->devices.panic.text);
		machine_tell(m, "panic");
	}
	if (!done)
		return;
	if (!m->cfg.restart) {
		machine_end(m, END_PANIC);
	} else if (m->state == MACHINE_RUNNING) {
		machine_park_all(m); /* who asked may be about to park the last of them */
		machine_resume_all(m);
	}
}

static void on_reset(struct machine *m)
{
	if (!m->cfg.restart)
		machine_end(m, m->panicked ? END_PANIC : END_RESET);
	else if (machine_reset(m)) {
		log_error("restart: %s", last_error());
		machine_end(m, END_KILLED);
	}
}

/* Once for all that fail until the guest goes on. The pause may be there already. */
static void on_disk_stop(struct machine *m)
{
	const char *why = machine_take_stop(m);

	if (!why)
		return;
	log_error("%s; the VM is paused until kvick resume %s", why, m->cfg.name);
	machine_tell(m, why);
	if (m->state == MACHINE_RUNNING)
		machine_pause(m);
}

/* On the control loop: what vCPU threads have asked for. */
static void on_asked(void *arg, uint32_t events)
{
	struct machine *m = arg;
	unsigned asked;
	uint64_t count;

	if (read(m->asked_watch.fd, &count, sizeof(count)) < 0)
		return;
	asked = __atomic_exchange_n(&m->asked, 0, __ATOMIC_ACQ_REL);
	if (asked & ASKED_EVENTS)
		machine_tell_events(m);
	if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED)
		return;
	if (asked & (ASKED_PANIC_SAID | ASKED_PANIC_DONE))
		on_panic(m, asked & ASKED_PANIC_DONE);
	if (asked & ASKED_KVM_ERROR)
		machine_end(m, END_KVM_ERROR);
	else if (asked & ASKED_TRIPLE_FAULT)
		machine_end(m, m->panicked ? END_PANIC : END_TRIPLE_FAULT);
	else if (asked & ASKED_POWEROFF)
		machine_end(m, m->panicked ? END_PANIC : END_POWEROFF);
	else if (asked & ASKED_RESET)
		on_reset(m);
	else if (asked & ASKED_DISK_STOP)
		on_disk_stop(m);
	if (asked & ASKED_EJECT)
		machine_finish_ejects(m, false);
}

void machine_mark(struct machine *m, const char *phase)
{
	if (m->phases < ARRAY_SIZE(m->phase))
		m->phase[m->phases++] = (struct machine_phase){phase, now_ns()};
}

int machine_new_vcpu(struct machine *m, const struct kvm *kvm, uint32_t id, struct vcpu **out)
{
	const struct vcpu_config cfg = {
		.kvm = kvm,
		.pio = &m->devices.pio,
		.mmio = &m->devices.mmio,
		.id = id,
		.count = m->cfg.cpus,
		.ended = vcpu_ended,
		.enter = enter_vcpu,
		.arg = m,
	};

	return vcpu_create(out, &cfg);
}

static int create_vcpus(struct machine *m)
{
	if (!m->cfg.cpus || m->cfg.cpus > m->kvm.max_vcpus)
		return fail(EINVAL, "%u vCPUs: this host's KVM allows 1 to %u", m->cfg.cpus,
			m->kvm.max_vcpus);
	m->cpu = calloc(m->cfg.cpus, sizeof(struct vcpu *));
	if (!m->cpu)
		return fail(ENOMEM, "no memory for %u vCPUs", m->cfg.cpus);
	for (; m->cpus < m->cfg.cpus; m->cpus++) {
		int rc = machine_new_vcpu(m, &m->kvm, m->cpus, &m->cpu[m->cpus]);

		if (rc)
			return rc;
	}
	return 0;
}

/*
 * A guest of a few pages is not to pay for a huge one, which takes longer to clear than all else
 * that starts it. Linux, though it is loaded higher up, uses all of the lowest 2 MiB before its
 * first process, and starts later with small pages there.
 */
static void suit_memory(struct machine *m)
{
	struct stat st;

	if (fstat(m->cfg.kernel_fd, &st) == 0 && (uint64_t)st.st_size < TINY_KERNEL)
		mem_use_small_pages(m->mem);
}

/* Puts kernel, tables and the first vCPU's registers in place; memory is all zeroes. */
static int load_guest(struct machine *m)
{
	struct loader_config loader = {
		.kernel_fd = m->cfg.kernel_fd,
		.kernel_name = m->cfg.kernel_name,
		.initrd = m->cfg.initrd,
		.cmdline = m->cfg.cmdline,
		.pci = m->devices.pci,
		.zeroed = true,
		.unpacker = m->cfg.unpacker,
	};
	struct boot_entry entry;
	int rc = devices_describe(&m->devices, m->cpus, &loader.rsdp);

	if (!rc)
		rc = loader_load(m->mem, &loader, &entry);
	return rc ? rc : vcpu_set_boot(m->cpu[0], &entry, m->mem);
}

static int watch_requests(struct machine *m)
{
	CLEANUP_FD int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	if (fd < 0)
		return failno(errno, "machine %s: eventfd", m->cfg.name);
	rc = loop_add(m->control, &m->asked_watch, fd, EPOLLIN);
	if (!rc)
		steal_fd(&fd);
	return rc;
}

static int build(struct machine *m)
{
	const struct devices_host host = {guest_power_off, guest_reset, guest_panicked,
		disk_stopped, guest_ejected, disk_warned, machine_nic_event, m};
	int rc = watch_requests(m);

	if (!rc)
		rc = mem_create(&m->mem, m->cfg.memory, m->cfg.backing);
	if (!rc)
		rc = kvm_create(&m->kvm, steal_fd(&m->cfg.kvm_fd));
	machine_mark(m, "kvm");
	if (!rc)
		rc = create_vcpus(m);
	for (uint32_t i = 0; !rc && i < m->cpus; i++)
		rc = vcpu_start(m->cpu[i]);
	machine_mark(m, "vcpus");
	if (!rc)
		rc = devices_init(&m->devices, &m->kvm, m->mem, m->control, &m->cfg, &host);
	machine_mark(m, "devices");
	if (!rc) {
		suit_memory(m);
		rc = load_guest(m);
	}
	machine_mark(m, "loaded");
	if (!m->cfg.resettable)
		m->cfg.initrd = NULL; /* the caller's again */
	return rc;
}

int machine_create(struct machine **out, struct loop *control, const struct machine_config *cfg)
{
	struct machine *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return fail(ENOMEM, "no memory for a machine");
	m->cfg = *cfg;
	m->control = control;
	m->kvm = (struct kvm){.dev = -1, .vm = -1};
	pthread_mutex_init(&m->note_lock, NULL);
	m->asked_watch = WATCH_INIT(on_asked, m);
	machine_mark(m, "start");
	rc = build(m);
	if (rc) {
		machine_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

static void close_watch(struct machine *m)
{
	int fd = m->asked_watch.fd;

	loop_del(m->control, &m->asked_watch);
	if (fd >= 0)
		close(fd);
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	while (m->cpus)
		vcpu_destroy(m->cpu[--m->cpus]);
	free(m->cpu);
	devices_finish(&m->devices);
	close_watch(m);
	kvm_finish(&m->kvm);
	mem_destroy(m->mem);
	if (m->cfg.kvm_fd >= 0)
		close(m->cfg.kvm_fd);
	if (m->cfg.kernel_fd >= 0)
		close(m->cfg.kernel_fd);
	pthread_mutex_destroy(&m->note_lock);
	free(m);
}

void machine_leave(struct machine *m)
{
	if (!m)
		return;
	if (m->state == MACHINE_RUNNING)
		machine_park_all(m);
	devices_leave(&m->devices);
}

static int wrong_state(const struct machine *m, const char *verb)
{
	return fail(EBUSY, "machine %s is %s: it cannot be %s", m->cfg.name, state_names[m->state],
		verb);
}

int machine_start(struct machine *m)
{
	int rc;

	if (m->state != MACHINE_CREATED)
		return wrong_state(m, "started");
	rc = devices_start(&m->devices);
	if (rc)
		return rc;
	machine_mark(m, "threads");
	/* No vCPU runs before there is memory: one that was loaded has work at once. */
	vcpu_park(m->cpu[0]);
	if (m->attach_failed)
		return fail(ENOMEM, "%s", m->end_text);
	machine_mark(m, "attached");
	m->state = MACHINE_RUNNING;
	devices_resume(&m->devices);
	machine_resume_all(m);
	machine_tell(m, "running");
	return 0;
}

int machine_pause(struct machine *m)
{
	if (m->state != MACHINE_RUNNING)
		return wrong_state(m, "paused");
	machine_park_all(m);
	devices_pause(&m->devices);
	m->state = MACHINE_PAUSED;
	machine_finish_ejects(m, false);
	machine_tell(m, "paused");
	return 0;
}

int machine_resume(struct machine *m)
{
	if (m->state != MACHINE_PAUSED)
		return wrong_state(m, "resumed");
	m->state = MACHINE_RUNNING;
	machine_forget_stop(m); /* held requests are tried again from here on */
	devices_resume(&m->devices);
	machine_resume_all(m);
	machine_tell(m, "running");
	return 0;
}

int machine_reset(struct machine *m)
{
	bool running = m->state == MACHINE_RUNNING;
	int rc;

	if (!running && m->state != MACHINE_PAUSED)
		return wrong_state(m, "reset");
	if (!m->cfg.resettable)
		return fail(ENOTSUP, "machine %s was made for one command: it cannot be reset",
			m->cfg.name);
	machine_park_all(m);
	devices_pause(&m->devices);
	m->state = MACHINE_PAUSED;
	machine_finish_ejects(m, true);
	devices_reset(&m->devices);
	m->panicked = false;
	machine_forget_stop(m);
	rc = machine_load_fresh(m);
	if (!rc)
		rc = mem_clear(m->mem);
	if (!rc)
		rc = load_guest(m);
	if (rc)
		return rc;
	__atomic_fetch_and(
		&m->asked, ASKED_EVENTS, __ATOMIC_ACQ_REL); /* not what the old guest asked for */
	machine_tell(m, "reset");
	return running ? machine_resume(m) : 0;
}

int machine_power_button(struct machine *m)
{
	if (m->state != MACHINE_RUNNING)
		return wrong_state(m, "sent the power button");
	pm_raise(m->devices.pm, PM_EVENT_POWER);
	return 0;
}

void machine_end(struct machine *m, enum machine_end why)
{
	if (m->state == MACHINE_ENDED)
		return;
	machine_park_all(m);
	m->state = MACHINE_ENDED;
	m->end = why;
	machine_mark(m, "ended");
	machine_tell(m, end_names[why]);
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
	return m->end_text;
}

struct mem *machine_mem(struct machine *m)
{
	return m->mem;
}

bool machine_is_dead(struct machine *m, char *where, unsigned len)
{
	bool running = m->state == MACHINE_RUNNING;
	bool dead = m->cpus > 0;

	if (!running && m->state != MACHINE_PAUSED)
		return false;
	machine_park_all(m);
	for (uint32_t i = 0; i < m->cpus; i++)
		dead = dead && vcpu_is_dead(m->cpu[i]);
	if (where)
		vcpu_where(m->cpu[0], where, len);
	if (running)
		machine_resume_all(m);
	return dead;
}
