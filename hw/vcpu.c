// SPDX-License-Identifier: MIT
// A vCPU's thread: run, dispatch the exit, park on request.
//
// Parking. `want` says whether guest code may run. Whoever clears it also sets immediate_exit in
// the shared page and sends the thread a signal whose handler does nothing: whether the thread is
// inside KVM_RUN, about to enter it, or handling an exit, its next KVM_RUN returns EINTR at once.
// KVM completes a pending port or MMIO access before it looks at immediate_exit, so a parked vCPU
// never has half an access in flight and its registers can be saved.
#include "hw/vcpu.h"

#include "base/log.h"
#include "base/thread.h"
#include "hw/bus.h"
#include "hw/cpuid.h"
#include "hw/kvm.h"
#include "hw/vcpu_state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

struct vcpu {
	struct vcpu_config cfg;
	int fd;
	struct kvm_run *run;
	uint64_t exits[EXIT_KINDS];
	char end_text[128];

	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool want;   /* guest code may run; written under the lock, read anywhere */
	bool parked; /* none is running; under the lock */
	bool quit;   /* under the lock */
};

#define KICK_SIGNAL SIGUSR1

static void on_kick(int sig)
{
}

/* The handler exists so that the signal interrupts KVM_RUN; process-wide, the same for every VM. */
static int install_kick(void)
{
	struct sigaction sa = {.sa_handler = on_kick};

	return sigaction(KICK_SIGNAL, &sa, NULL) < 0 ? failno(errno, "sigaction") : 0;
}

static int set_cpuid(struct vcpu *v)
{
	struct kvm_cpuid2 *c;
	int khz = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);
	int rc = 0;

	c = malloc(sizeof(*c) + (v->cfg.kvm->cpuid->nent + CPUID_ADDED) * sizeof(c->entries[0]));
	if (!c)
		return fail(ENOMEM, "no memory for CPUID");
	cpuid_build(c, v->cfg.kvm, v->cfg.id, v->cfg.count, khz > 0 ? (uint32_t)khz : 0);
	if (ioctl(v->fd, KVM_SET_CPUID2, c) < 0)
		rc = failno(errno, "vCPU %u: CPUID", v->cfg.id);
	free(c);
	return rc;
}

static int open_vcpu(struct vcpu *v)
{
	v->fd = ioctl(v->cfg.kvm->vm, KVM_CREATE_VCPU, (unsigned long)v->cfg.id);
	if (v->fd < 0)
		return failno(errno, "vCPU %u of %u", v->cfg.id, v->cfg.count);
	v->run = mmap(NULL, v->cfg.kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		return failno(errno, "vCPU %u: shared page", v->cfg.id);
	}
	return set_cpuid(v);
}

int vcpu_create(struct vcpu **out, const struct vcpu_config *cfg)
{
	struct vcpu *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return fail(ENOMEM, "no memory for vCPU %u", cfg->id);
	v->cfg = *cfg;
	v->fd = -1;
	v->parked = true;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	rc = open_vcpu(v);
	if (!rc)
		rc = vcpu_state_init_msrs(v->fd, cfg->id);
	if (rc) {
		vcpu_destroy(v);
		return rc;
	}
	*out = v;
	return 0;
}

void vcpu_destroy(struct vcpu *v)
{
	if (!v)
		return;
	if (v->started) {
		vcpu_ask_to_park(v);
		pthread_mutex_lock(&v->lock);
		v->quit = true;
		pthread_cond_broadcast(&v->changed);
		pthread_mutex_unlock(&v->lock);
		pthread_join(v->thread, NULL);
	}
	if (v->run)
		munmap(v->run, v->cfg.kvm->run_size);
	if (v->fd >= 0)
		close(v->fd);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

int vcpu_set_boot(struct vcpu *v, const struct boot_entry *b, struct mem *m)
{
	return vcpu_state_boot(v->fd, b, m);
}

/* Each repetition of a string instruction is an access of its own to the same port. */
static void handle_io(struct vcpu *v)
{
	struct kvm_run *r = v->run;
	char *data = (char *)r + r->io.data_offset;

	v->exits[EXIT_IO]++;
	for (uint32_t i = 0; i < r->io.count; i++, data += r->io.size) {
		if (r->io.direction == KVM_EXIT_IO_OUT)
			bus_write(v->cfg.pio, r->io.port, data, r->io.size);
		else
			bus_read(v->cfg.pio, r->io.port, data, r->io.size);
	}
}

static void handle_mmio(struct vcpu *v)
{
	struct kvm_run *r = v->run;

	v->exits[EXIT_MMIO]++;
	if (r->mmio.is_write)
		bus_write(v->cfg.mmio, r->mmio.phys_addr, r->mmio.data, r->mmio.len);
	else
		bus_read(v->cfg.mmio, r->mmio.phys_addr, r->mmio.data, r->mmio.len);
}

static void end(struct vcpu *v, enum vcpu_end why)
{
	vcpu_ask_to_park(v);
	v->cfg.ended(v->cfg.arg, v, why);
}

static void end_with_error(struct vcpu *v, const char *what, uint64_t code)
{
	char where[80];

	snprintf(v->end_text, sizeof(v->end_text), "%s %llu at %s", what, (unsigned long long)code,
		vcpu_where(v, where, sizeof(where)));
	end(v, VCPU_END_KVM_ERROR);
}

static void handle_other(struct vcpu *v)
{
	const struct kvm_run *r = v->run;

	v->exits[EXIT_OTHER]++;
	switch (r->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		end(v, VCPU_END_TRIPLE_FAULT);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		end_with_error(v, "KVM internal error, suberror", r->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		end_with_error(v, "KVM could not enter the guest, reason",
			r->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_UNKNOWN:
		end_with_error(v, "unknown exit, hardware reason", r->hw.hardware_exit_reason);
		break;
	default:
		end_with_error(v, "unexpected exit, KVM reason", r->exit_reason);
	}
}

static void handle_exit(struct vcpu *v)
{
	switch (v->run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(v);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(v);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		v->exits[EXIT_INTR]++;
		break;
	default:
		handle_other(v);
	}
}

static void run_until_parked(struct vcpu *v)
{
	for (;;) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0) {
			handle_exit(v);
			continue;
		}
		if (errno == EINTR) {
			v->exits[EXIT_INTR]++;
			if (!__atomic_load_n(&v->want, __ATOMIC_ACQUIRE))
				return;
		} else if (errno != EAGAIN) {
			end_with_error(v, "KVM_RUN failed, errno", (uint64_t)errno);
			return;
		}
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->cfg.id);
	prctl(PR_SET_NAME, name);
	if (v->cfg.enter)
		v->cfg.enter(v->cfg.arg, v);
	pthread_mutex_lock(&v->lock);
	for (;;) {
		v->parked = true;
		pthread_cond_broadcast(&v->changed);
		while (!v->want && !v->quit)
			pthread_cond_wait(&v->changed, &v->lock);
		if (v->quit)
			break;
		v->parked = false;
		pthread_mutex_unlock(&v->lock);
		run_until_parked(v);
		pthread_mutex_lock(&v->lock);
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

int vcpu_start(struct vcpu *v)
{
	int rc = install_kick();

	if (rc)
		return rc;
	v->parked = false;
	rc = thread_start(&v->thread, KICK_SIGNAL, vcpu_thread, v);
	if (rc) {
		v->parked = true;
		return failno(rc, "thread for vCPU %u", v->cfg.id);
	}
	v->started = true;
	return 0;
}

void vcpu_resume(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&v->want, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

/* Whoever was first to ask has kicked it, or is it. */
void vcpu_ask_to_park(struct vcpu *v)
{
	bool asked;

	pthread_mutex_lock(&v->lock);
	asked = !v->want;
	__atomic_store_n(&v->want, false, __ATOMIC_RELEASE);
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&v->lock);
	if (!asked && v->started && !pthread_equal(pthread_self(), v->thread))
		pthread_kill(v->thread, KICK_SIGNAL);
}

void vcpu_park(struct vcpu *v)
{
	if (!v->started)
		return;
	vcpu_ask_to_park(v);
	pthread_mutex_lock(&v->lock);
	while (!v->parked)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

int vcpu_save(struct vcpu *v, struct stream_out *s)
{
	return vcpu_state_save(v->fd, v->cfg.kvm, s);
}

int vcpu_load(struct vcpu *v, struct stream_in *s)
{
	return vcpu_state_load(v->fd, v->cfg.kvm, s);
}

#define RFLAGS_IF (1u << 9)

bool vcpu_is_dead(struct vcpu *v)
{
	struct kvm_mp_state mp;
	struct kvm_regs regs;

	if (ioctl(v->fd, KVM_GET_MP_STATE, &mp) < 0 || ioctl(v->fd, KVM_GET_REGS, &regs) < 0)
		return false;
	if (mp.mp_state == KVM_MP_STATE_UNINITIALIZED || mp.mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return true; /* waits for another vCPU to start it */
	return mp.mp_state == KVM_MP_STATE_HALTED && !(regs.rflags & RFLAGS_IF);
}

const char *vcpu_where(struct vcpu *v, char *buf, unsigned len)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	if (ioctl(v->fd, KVM_GET_REGS, &regs) < 0 || ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)
		snprintf(buf, len, "an unknown place: %s", strerror(errno));
	else
		snprintf(buf, len, "rip 0x%llx cs 0x%x cr3 0x%llx", (unsigned long long)regs.rip,
			sregs.cs.selector, (unsigned long long)sregs.cr3);
	return buf;
}

const char *vcpu_end_text(const struct vcpu *v)
{
	return v->end_text;
}

uint64_t vcpu_exits(const struct vcpu *v, enum vcpu_exit kind)
{
	return __atomic_load_n(&v->exits[kind], __ATOMIC_RELAXED);
}
